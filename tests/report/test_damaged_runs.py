"""Reports of damaged or untrusted run folders: a safe page, or an error that names the file."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from test_report import Page

from fake_run import write_fake_run
from pairuni.records import UGPair
from pairuni.report import write_gallery, write_report

FILES = (
    "config.toml",
    "summary.json",
    "metrics.jsonl",
    "samples/samples.jsonl",
    "evaluation/before.json",
    "evaluation/after.json",
    "evaluation/step-000002.json",
    "pairug/pairs.jsonl",
)
VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "a text": "<img src=x onerror=hacked()>",
    "a list": [[], {"a": None}],
    "an object": {"score": "1", "items": {}},
    "negative": -3,
    "large": 10**30,
    "larger than a float": 10**400,
    "nan": float("nan"),
    "infinity": float("inf"),
    "the least float": 5e-324,
    "the largest float": 1.7e308,
    "a surrogate": "\ud800",
    "a NUL": "a\0b.png",
    "a long name": "x" * 5000 + ".png",
    "outside": "../../../../etc/passwd",
}
BYTES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "empty": lambda data, rng: b"",
    "half": lambda data, rng: data[: len(data) // 2],
    "not UTF-8": lambda data, rng: data[:20] + b"\xff\xfe" + data[20:],
    "zeros": lambda data, rng: bytes(len(data)),
    "NULs inside": lambda data, rng: data.replace(b":", b"\0:", 3),
    "a byte order mark": lambda data, rng: b"\xef\xbb\xbf" + data,
    "deep lists": lambda data, rng: b"[" * 200_000,
    "deep objects": lambda data, rng: b'{"a":' * 50_000,
    "a long number": lambda data, rng: b'{"step": ' + b"9" * 5000 + b"}\n",
    "a scalar": lambda data, rng: b"7\n",
    "null": lambda data, rng: b"null\n",
    "an empty object": lambda data, rng: b"{}\n",
    "Windows lines": lambda data, rng: data.replace(b"\n", b"\r\n"),
    "flipped bytes": lambda data, rng: bytes(
        b ^ 1 << rng.randrange(8) if rng.random() < 0.01 else b for b in data
    ),
    "twice": lambda data, rng: data + data,
}


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_fake_run(tmp_path_factory.mktemp("intact") / "run", steps=3, items=3, pairs=4)
    after = json.loads((folder / "evaluation/after.json").read_text())
    evaluation = {
        task: {"score": 0.5, "items": [{**item, "reward": 0.5} for item in after[task]["items"]]}
        for task in ("understanding", "generation")
    }
    (folder / "evaluation/step-000002.json").write_text(json.dumps(evaluation))
    return folder


@pytest.fixture
def run(intact: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(intact, tmp_path / "run"))


@pytest.fixture
def bare(intact: Path, tmp_path: Path) -> Path:
    """The run without its images, which is faster to copy."""
    return Path(shutil.copytree(intact, tmp_path / "run", ignore=shutil.ignore_patterns("*.png")))


def report_or_named_error(run: Path, name: str) -> None:
    """Assert that the report is a page without active markup or an error that names the file."""
    try:
        page = write_report(run)
    except ValueError as error:
        message = str(error)
        assert any(part.rpartition("/")[2] in message for part in (name, "evaluation")), message
        assert len(message) < 3000
        return
    text = page.read_text(encoding="utf-8")
    assert "<img src=x" not in text
    assert not any(key.startswith("on") for _, attributes in Page(text).tags for key in attributes)


def test_the_intact_run_has_a_page(run: Path) -> None:
    assert "held-out" in write_report(run).read_text()


@pytest.mark.parametrize("damage", BYTES)
@pytest.mark.parametrize("name", FILES)
def test_damaged_bytes(bare: Path, name: str, damage: str) -> None:
    path = bare / name
    path.write_bytes(BYTES[damage](path.read_bytes(), random.Random(f"{name} {damage}")))
    report_or_named_error(bare, name)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = (
        value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    )
    return [*([path] if path else []), *(leaf for key, one in inner for leaf in leaves(one, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    copy = json.loads(json.dumps(value))
    at = copy
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = new
    return copy


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("wrong", VALUES)
@pytest.mark.parametrize("name", FILES[1:])
def test_wrong_values_in_fields(bare: Path, name: str, wrong: str, every: int) -> None:
    """every: the step between the fields of a file; the first one differs by the value."""
    path = bare / name
    first, *rest = path.read_text().split("\n") if name.endswith(".jsonl") else [path.read_text()]
    good = json.loads(first)
    for place in leaves(good)[list(VALUES).index(wrong) % every :: every]:
        path.write_text("\n".join([json.dumps(replaced(good, place, VALUES[wrong])), *rest]))
        try:
            report_or_named_error(bare, name)
        except Exception as error:
            error.add_note(f"{name}: {place} is {wrong}")
            raise


SETTING_KEYS = ["data", "policy", "reward", "seed", "data.pairs", "policy.model"]
SETTING_VALUES = ["1", "[1, [2]]", '"<b>"', "1979-05-27T07:32:00Z", "nan", "{a = 1}", '"\\u0000"']
LARGE_SETTINGS = ["a" + ".a" * 5000 + " = 1", "a = " + "[" * 3000, "a = " + "9" * 5000, "[[data]]\n"]


@pytest.mark.parametrize(
    "text",
    [*(f"{key} = {value}\n" for key in SETTING_KEYS for value in SETTING_VALUES), *LARGE_SETTINGS],
    ids=lambda text: text[:30],
)
def test_settings_of_wrong_types_or_sizes(bare: Path, text: str) -> None:
    (bare / "config.toml").write_text(text)
    report_or_named_error(bare, "config.toml")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["a folder", "a pipe", "a link to itself"])
def test_other_file_types(bare: Path, name: str, kind: str) -> None:
    path = bare / name
    path.unlink()
    if kind == "a folder":
        path.mkdir()
    elif kind == "a pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path.name)
    report_or_named_error(bare, name)


@pytest.mark.parametrize(
    "stem", ["step-", "step-x", "step--3", "step-1e5", "step-" + "9" * 200, "step-²", "step- 3"]
)
def test_evaluation_files_with_other_names(bare: Path, stem: str) -> None:
    path = bare / "evaluation" / f"{stem}.json"
    shutil.copy(bare / "evaluation/step-000002.json", path)
    report_or_named_error(bare, path.name)


def test_parquet_with_wrong_columns(run: Path) -> None:
    rows = [json.loads(line) for line in (run / "pairug/pairs.jsonl").read_text().split("\n")[:-1]]
    (run / "pairug/pairs.jsonl").unlink()
    path = run / "pairug/pairs.parquet"
    far = pa.array([2**55] * len(rows), pa.timestamp("us"))
    pq.write_table(pa.Table.from_pylist(rows).set_column(0, "similarity", far), path)
    with pytest.raises(ValueError, match=r"pairs\.parquet"):
        write_report(run)
    pq.write_table(pa.table({"similarity": [1.0]}), path)
    with pytest.raises(ValueError, match=r"pairs\.parquet"):
        write_report(run)


IMAGES = {
    "half": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "PostScript": lambda data: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{} loop",
    "AVIF": lambda data: b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(60),
    "WebP": lambda data: b"RIFF\x40\0\0\0WEBPVP8 " + bytes(60),
    "TIFF": lambda data: b"II*\0\x08\0\0\0\xff\xff" + bytes(60),
    "GIF": lambda data: b"GIF89a\xff\xff\xff\xff\xf7\0\0" + bytes(9),
    "a bomb": lambda data: data[:16] + b"\0\1\0\0\0\1\0\0" + data[24:],
    "flipped": lambda data: data[:60] + bytes(b ^ 0x55 for b in data[60:]),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_damaged_images_show_as_missing(run: Path, kind: str) -> None:
    for path in run.glob("**/*.png"):
        path.write_bytes(IMAGES[kind](path.read_bytes()))
    assert "not found" in Page(write_report(run).read_text()).words
    pairs = [
        UGPair.model_validate_json(line) for line in (run / "pairug/pairs.jsonl").read_text().split("\n")[:-1]
    ]
    Image.new("RGB", (9, 9)).save(run / "pairug" / pairs[0].understand_ann.image_path)
    made = write_gallery(pairs, run / "pairug", run / "page.html", title="damaged")
    assert made.missing > 0


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"])
def test_only_line_feeds_end_lines(run: Path, mark: str) -> None:
    for name in FILES[1:]:
        text = (run / name).read_text()
        for key in ("prompt", "question", "reply", "text"):
            text = text.replace(f'"{key}": "', f'"{key}": "a{mark}b')
        if mark < " ":  # JSON allows control characters only as escapes
            text = text.replace(mark, f"\\u{ord(mark):04x}")
        (run / name).write_text(text)
    assert "rollouts" in write_report(run).read_text()


def test_untrusted_data_is_never_markup(run: Path) -> None:
    evil = (
        "\"><img src=x onerror='hacked()'></script><script>hacked()</script>"
        '<style>*{display:none}</style> style="x" data-at="left:1%"'
    )

    def poison(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: poison(one) for key, one in value.items()}
        if isinstance(value, list):
            return [poison(one) for one in value]
        return evil + value if isinstance(value, str) and not value.endswith((".png", ".jsonl")) else value

    for name in FILES[1:]:
        rows = (run / name).read_text().rstrip("\n").split("\n")
        (run / name).write_text("".join(json.dumps(poison(json.loads(row))) + "\n" for row in rows))
    for name in ("before", "after"):
        path = run / "evaluation" / f"{name}.json"
        values = json.loads(path.read_text())
        for task in values.values():
            task["by_kind"] = {evil + kind: score for kind, score in task["by_kind"].items()}
        path.write_text(json.dumps(values))
    (run / "config.toml").write_text(
        f"seed = {json.dumps(evil)}\n{json.dumps(evil + 'key')} = 1\n[{json.dumps(evil)}]\na = {json.dumps(evil)}\n"
        f"[policy]\nmodel = {json.dumps(evil)}\n[data]\npairing = {json.dumps(evil)}\n"
    )
    renamed = run.rename(run.with_name(evil.replace("/", "|")[:200]))
    text = write_report(renamed).read_text()
    page = Page(text)
    assert text.count("<script") == text.count("<style") == 1
    assert "<img src=x" not in text
    for tag, attributes in page.tags:
        assert "style" not in attributes, tag
        assert not any(name.startswith("on") for name in attributes), tag
    assert page.words.count("hacked()") > 50


def test_the_policy_names_style_and_script_by_hash(run: Path) -> None:
    text = write_report(run).read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert "unsafe" not in policy[1]
    assert len(re.findall(r"'sha256-[A-Za-z0-9+/]{43}='", policy[1])) == 2
    assert "style=" not in re.sub(r"<(style|script)>.*?</\1>", "", text, flags=re.S)
