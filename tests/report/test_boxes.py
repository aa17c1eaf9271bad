"""The box plot and the page of data mixes."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pairuni.report import write_mixes
from pairuni.report.boxes import box_plot
from pairuni.runs.mixes import (
    BatchAgreement,
    Mix,
    MixesFolder,
    groups_table,
    mix_statistics,
    statistics_table,
)


def batch(mix: Mix, number: int, value: float | None, layer: float = 0.0) -> BatchAgreement:
    agreement = {} if value is None else {"gradient_agreement": value, "gradient_agreement/layer_00": layer}
    return BatchAgreement(
        mix=mix,
        batch=number,
        agreement=agreement,
        understanding_reward=0.5,
        generation_reward=0.5,
        seconds=1.0,
    )


def test_a_box_has_quartiles_whiskers_and_points_on_the_common_axis() -> None:
    # the axis goes from 0 to 1, so places are percentages
    plot = box_plot("mixes", {"one": [0.1, 0.2, 0.3, 0.4, 1.0], "other": [0.5]}, {"one": 0.6})
    first, other = re.findall(r"<svg.*?</svg>", plot)
    assert '<rect x="20.00" y="4" width="20.00" height="12"/>' in first
    assert 'class="median" d="M30.00 ' in first
    # 1.0 is further than 1.5 box lengths from the box
    assert 'd="M10.00 10H20.00M40.00 10H40.00' in first
    assert re.findall(r"M([0-9.]+) [0-9.]+h0", first) == ["10.00", "20.00", "30.00", "40.00", "100.00"]
    assert '<rect x="50.00" y="4" width="0.00"' in other
    assert plot.count("diamond") == 1
    assert 'data-at="left:60.00%"' in plot
    assert "median +0.3000, quartiles +0.2000 and +0.4000; paper +0.600" in plot


def test_statistics_of_mixes() -> None:
    batches = [batch("pairug", number, 0.1 + 0.01 * number, layer=0.2) for number in range(11)]
    batches += [batch("random", number, 0.05 + 0.01 * number) for number in range(1, 11)]
    batches += [batch("random", 0, None), batch("retrieved", 0, None)]
    pairug, random = mix_statistics(batches)
    assert (pairug.mix, random.mix) == ("pairug", "random")
    assert (pairug.without, random.without) == (0, 1)
    assert pairug.median == pytest.approx(0.15)
    assert pairug.quartiles == pytest.approx((0.125, 0.175))
    assert pairug.mean == pytest.approx(0.15)
    assert pairug.median_interval is not None
    low, high = pairug.median_interval
    assert 0.1 < low < 0.15 < high < 0.2
    difference = pairug.difference(random)
    assert difference is not None
    # the same in each of the ten batches that both have
    assert difference[0] == pytest.approx(0.05)
    rows = statistics_table([pairug, random])
    assert rows[1][:3] == ["pairug", "11", "0"]
    assert rows[2][:3] == ["random", "11", "1"]
    assert [row[-1] for row in rows[1:]] == ["0.120", "0.059"]
    assert groups_table([pairug, random])[1] == ["layer_00", "0.2000", "0.0000"]
    assert mix_statistics(batches[:9])[0].median_interval is None


def test_the_page_is_complete_in_itself(tmp_path: Path) -> None:
    folder = MixesFolder(tmp_path)
    folder.begin({"policy": {"model": "<b>mine</b>"}})
    for number in range(3):
        folder.append(batch("pairug", number, 0.1 * number))
        folder.append(batch("random", number, None))
    page = write_mixes(tmp_path).read_text(encoding="utf-8")
    HTMLParser().feed(page)
    assert "<b>mine" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert re.findall(r'<th scope="row">(.*?)</th>', page) == ["pairug", "pairug", "layer_00"]
    assert "0.120" in page


def test_without_a_cosine_there_is_no_page(tmp_path: Path) -> None:
    folder = MixesFolder(tmp_path)
    folder.begin({})
    folder.append(batch("pairug", 0, None))
    with pytest.raises(ValueError, match="no batch"):
        write_mixes(tmp_path)


def test_settings_of_a_folder_stay_and_mixes_can_be_added(tmp_path: Path) -> None:
    folder = MixesFolder(tmp_path)
    folder.begin({"seed": 1, "pairs_sha256": {"pairug": "a"}})
    folder.begin({"seed": 1, "pairs_sha256": {"random": "b"}})
    folder.append(batch("pairug", 0, 0.5))
    with folder.batches.open("a") as file:
        file.write('{"mix": "pair')
    with pytest.raises(ValueError, match=r"pairs_sha256\.pairug was 'a', is 'c'"):
        folder.begin({"seed": 1, "pairs_sha256": {"pairug": "c"}})
    folder.begin({"seed": 1, "pairs_sha256": {"pairug": "a"}})
    folder.append(batch("random", 0, 0.25))
    assert [one.agreement["gradient_agreement"] for one in folder.read()] == [0.5, 0.25]
