import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pytest
from benchmark_runs import Echo, model_of, run_alone
from PIL import Image
from pyarrow import parquet

from pairuni.config import MMMUSettings, MMStarSettings, ScoreSettings
from pairuni.evaluation.choices import mmmu_benchmark, mmstar_benchmark
from pairuni.evaluation.protocols import mmmu, mmstar
from pairuni.evaluation.tasks import score_files
from pairuni.policies.requests import shown_images

END = "\nAnswer with the option's letter from the given choices directly."


def png(size: tuple[int, int], colour: str = "red") -> bytes:
    buffer = BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def picture(size: tuple[int, int] = (8, 8)) -> dict[str, Any]:
    return {"bytes": png(size), "path": None}


def says_b() -> Echo:
    return Echo(lambda question: "B")


def stars() -> list[dict[str, Any]]:
    return [
        {
            "index": number,
            "question": f"Which{' cut' if number == 3 else ''}?\nOptions: A: one, B: two",
            "image": picture(),
            "answer": "AB"[number % 2],
            "category": category,
            "l2_category": "x",
        }
        for number, category in enumerate(category for category in mmstar.CATEGORIES for _ in range(2))
    ]


def test_mmstar_of_the_hub(tmp_path: Path) -> None:
    parquet.write_table(arrow.Table.from_pylist(stars()), tmp_path / "mmstar.parquet")
    benchmark = mmstar_benchmark(MMStarSettings(model="tiny", data=tmp_path, out=tmp_path / "run"))
    assert benchmark.questions[0].question == f"Which?\nOptions: A: one, B: two{END}"
    (result,) = run_alone(benchmark, tmp_path / "run", model_of(says_b()))
    assert result.score == 50
    assert result.counts["cut at the limit"] == 1
    assert result.settings["decoding"] == "greedy"
    assert "options as in the question" in result.settings["prompts"]
    (again,) = score_files(
        ScoreSettings(task="mmstar", paths=[tmp_path / "run" / "answers" / "mmstar.jsonl"])
    )
    assert again.parts == result.parts


def test_mmstar_of_vlmevalkit_with_a_image_that_two_rows_share(tmp_path: Path) -> None:
    rows = [
        {**row, "image": "0" if row["index"] == 1 else base64.b64encode(png((8, 8))).decode()}
        for row in stars()
    ]
    names = ["index", "question", "image", "A", "B", "C", "D", "answer", "category"]
    lines = ["\t".join(names)] + [
        "\t".join(str({**row, "question": "Which?", "A": "one", "B": "two"}.get(name, "")) for name in names)
        for row in rows
    ]
    (tmp_path / "MMStar.tsv").write_text("\n".join(lines) + "\n")
    asks = mmstar_benchmark(MMStarSettings(model="tiny", data=tmp_path, out=tmp_path / "run")).questions
    assert asks[1].question == f"Which?\nA. one\nB. two\n{END}"
    assert asks[1].images == asks[0].images == (png((8, 8)),)


def subject_rows(subject: str) -> list[dict[str, Any]]:
    choice = {
        "id": f"validation_{subject}_1",
        "question": "What is in <image 1> and <image 2>?",
        "options": "['one', \"two's\", '<image 2>']",
        "answer": "B",
        "question_type": "multiple-choice",
        "image_1": picture((10, 20)),
        "image_2": picture((30, 10)),
    }
    free = {
        "id": f"validation_{subject}_2",
        "question": "How many?",
        "options": "[]",
        "answer": "['2', 'two']",
        "question_type": "open",
        "image_1": picture(),
        "image_2": None,
    }
    return [choice, free]


def write_mmmu(folder: Path) -> None:
    for subject in mmmu.SUBJECTS:
        (folder / subject).mkdir(parents=True)
        table = arrow.Table.from_pylist(subject_rows(subject))
        parquet.write_table(table, folder / subject / "validation-00000-of-00001.parquet")


@pytest.mark.parametrize("joined", [True, False])
def test_mmmu_of_the_hub(tmp_path: Path, joined: bool) -> None:
    write_mmmu(tmp_path / "data")
    benchmark = mmmu_benchmark(MMMUSettings(model="tiny", data=tmp_path / "data", out=tmp_path / "run"))
    first, second = benchmark.questions[:2]
    options = "A. one\nB. two's\nC. <image 2>\n"
    assert first.question == f"What is in <image 1> and <image 2>?\n{options}{END}"
    assert second.question == "How many?\nAnswer the question directly."
    policy = says_b()
    policy.several_images = not joined
    official, strict = run_alone(benchmark, tmp_path / "run", model_of(policy))
    sizes = {tuple(image.size for image in shown_images(images)) for images, _ in policy.asked}
    assert sizes == {((70, 20),) if joined else ((10, 20), (30, 10)), ((8, 8),)}
    assert official.score == strict.score == 50
    how = "side by side in one" if joined else "one after the other"
    assert official.counts["several pictures"] == 30
    assert official.settings["several pictures"] == how
    answers = tmp_path / "run" / "answers"
    written = json.loads((answers / "Art" / "output.json").read_text())
    assert written[0]["index2ans"] == {"A": "one", "B": "two's", "C": "<image 2>"}
    assert written[1]["answer"] == ["2", "two"]
    again = score_files(ScoreSettings(task="mmmu", paths=[answers]))
    assert [one.parts for one in again] == [official.parts, strict.parts]


def test_what_is_missing_is_named_with_its_source(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no table of MMStar; MMStar is the data set"):
        mmstar_benchmark(MMStarSettings(model="tiny", data=tmp_path, out=tmp_path))
    with pytest.raises(FileNotFoundError, match=r"no validation-\*\.parquet; MMMU is"):
        mmmu_benchmark(MMMUSettings(model="tiny", data=tmp_path, out=tmp_path))
    write_mmmu(tmp_path / "data")
    (tmp_path / "data" / "Music" / "validation-00000-of-00001.parquet").unlink()
    with pytest.raises(ValueError, match="lacks MMMU's Music; MMMU is the data set"):
        mmmu_benchmark(MMMUSettings(model="tiny", data=tmp_path / "data", out=tmp_path))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ValueError, match="is not a valid parquet file"):
        mmstar_benchmark(MMStarSettings(model="tiny", data=tmp_path / "broken.parquet", out=tmp_path))
