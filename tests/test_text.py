"""Text and JSON: every fault is one sentence that begins with the file and line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairuni.io.text import decode_text, json_lines, parse_json, read_json, read_text, text_lines


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"a": 1', "is not valid JSON (Expecting ',' delimiter at column 8)"),
        (b'{"a": 1,\n"b"}', "is not valid JSON (Expecting ':' delimiter at line 2, column 4)"),
        (b"", "is not valid JSON (Expecting value at column 1)"),
        (b"[" * 200_000, "is not readable JSON (nested too deeply)"),
        (b'{"a":' * 100_000 + b"1", "is not readable JSON (nested too deeply)"),
        (b"9" * 5000, "is not readable JSON (Exceeds the limit"),
        (b'"\xe4"', "is not UTF-8 text (byte 2)"),
        (b'"\xed\xa0\x80"', "is not UTF-8 text (byte 2)"),
        (b"\xff\xfe[\x001\x00]\x00", "is not UTF-8 text (byte 1)"),
        (b"[NaN]", "is not readable JSON (NaN is not JSON)"),
        (b"-Infinity", "is not readable JSON (-Infinity is not JSON)"),
    ],
)
def test_invalid_json_is_one_sentence_with_its_place(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(ValueError) as caught:
        read_json(path, finite=True)
    assert str(caught.value).startswith(f"{path}: {said}")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError) as caught:
        parse_json(data, finite=True)
    assert str(caught.value).startswith(said)


def test_a_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n\n{"a": \n')
    with pytest.raises(ValueError, match=r"a\.jsonl, line 3: is not valid JSON"):
        list(json_lines(path))
    path.write_bytes(b"one\ntw\xf6\n")
    with pytest.raises(ValueError, match=r"a\.jsonl, line 2: is not UTF-8 text \(byte 3\)"):
        list(text_lines(path))


def test_lines_end_at_line_feeds_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    values = [
        "one\u2028line",
        "one\u0085line",
        "one\x0cline",
        "one\x1cline\x1d\x1e",
        "one\rline",
        "\ufeffmark",
    ]
    path.write_bytes(
        b"\xef\xbb\xbf" + b"\r\n".join(json.dumps(v, ensure_ascii=False).encode() for v in values)
    )
    assert [value for _, value in json_lines(path)] == values
    path.write_bytes("a\u2028b\n\n c \n".encode())
    assert list(text_lines(path)) == [(1, "a\u2028b"), (3, " c ")]


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(OSError, match="not a file"):
            read_text(path)
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "missing")


@given(st.binary(max_size=40))
def test_bytes_are_a_value_or_a_value_error(data: bytes) -> None:
    try:
        value = parse_json(data)
    except ValueError as error:
        assert str(error).startswith("is not ")  # noqa: PT017
    else:
        assert value == json.loads(decode_text(data)) or value != value
