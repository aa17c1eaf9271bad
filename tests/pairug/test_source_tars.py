"""Tars as they are found: appended to each other, made on a Mac, with links, long names and damage."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pairuni.pairug.jsonl import Problem
from pairuni.pairug.sources import SampleReader
from pairuni.records import GenerationSample


def png(number: int) -> bytes:
    noise = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


Members = list[tuple[str, bytes | tarfile.TarInfo]]


def archive(members: Members, *, format: int = tarfile.PAX_FORMAT, records: bool = True) -> bytes:
    """A tar; without ``records`` it ends after the two blocks that the standard asks for."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for name, content in members:
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                tar.addfile(info)
    data = buffer.getvalue()
    return data if records else data.rstrip(b"\0") + bytes(-len(data.rstrip(b"\0")) % 512) + bytes(1024)


def record(key: str, number: int = 1) -> Members:
    return [(f"{key}.png", png(number)), (f"{key}.txt", f"text {key}".encode())]


def found(path: Path, data: bytes) -> tuple[list[str], list[str], dict[str, int]]:
    """Prompts of the samples, problems without the file's name, what is left out."""
    path.write_bytes(data)
    reading = SampleReader(str(path), GenerationSample, path.parent / "kept")
    every = list(reading)
    return (
        [one.prompt for one in every if not isinstance(one, Problem)],
        [str(one).removeprefix(str(path)) for one in every if isinstance(one, Problem)],
        dict(reading.left_out),
    )


@pytest.mark.parametrize("packed", ["", "whole", "each"])
@pytest.mark.parametrize("records", [True, False])
def test_archives_that_were_appended_to_each_other(tmp_path, packed, records):
    parts = [archive(record("a") + record("b", 2), records=records), archive([]), archive(record("c", 3))]
    if packed == "each":
        parts = [gzip.compress(part) for part in parts]
    data = gzip.compress(b"".join(parts)) if packed == "whole" else b"".join(parts)
    made = found(tmp_path / ("x.tar.gz" if packed else "x.tar"), data)
    assert made == (["text a", "text b", "text c"], [], {})


def test_records_do_not_run_across_archives(tmp_path):
    first, second = record("a")
    samples, (problem, other), _ = found(tmp_path / "x.tar", archive([first]) + archive([second]))
    assert samples == []
    assert "field prompt: is missing" in problem
    assert "there is no image with this key" in other
    samples, (problem,), _ = found(tmp_path / "y.tar", archive(record("a")) + archive(record("a", 2)))
    assert samples == ["text a"]
    assert "'y/a' is also that of" in problem


def test_a_name_that_comes_twice_is_not_silently_the_last(tmp_path):
    samples, (problem,), _ = found(tmp_path / "x.tar", archive(record("a") + record("a", 2)))
    assert samples == ["text a"]
    assert "'x/a' is also that of" in problem


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("rest", [b"more", b"x" * 700, b"x" * 5000, bytes(512) + b"PK\3\4" + bytes(600)])
def test_what_follows_the_end_mark_is_reported(tmp_path, packed, rest):
    data = archive(record("a")) + rest
    samples, (problem,), _ = found(
        tmp_path / ("x.tgz" if packed else "x.tar"), gzip.compress(data) if packed else data
    )
    assert samples == ["text a"]
    assert "what follows its end mark, from byte 1" in problem
    assert "is not an archive; 1 record is complete before" in problem


def test_what_follows_a_packed_file_is_reported(tmp_path):
    samples, (problem,), _ = found(tmp_path / "x.tar.gz", gzip.compress(archive(record("a"))) + b"more")
    assert samples == ["text a"]
    assert "is truncated or damaged; 1 record is complete" in problem


@pytest.mark.parametrize("packed", [False, True])
def test_a_damaged_header_in_the_middle_is_reported(tmp_path, packed):
    data = bytearray(archive(record("a") + record("b") + record("c")))
    place = data.index(b"b.png")
    data[place] ^= 1
    data = gzip.compress(bytes(data)) if packed else bytes(data)
    samples, (problem,), _ = found(tmp_path / "x.tar", data)
    assert samples == ["text a"]
    assert "there is no end mark" in problem


def test_the_second_archive_may_be_cut_off(tmp_path):
    whole = archive(record("a")) + archive(record("b", 2) + record("c", 3))
    for length in range(len(archive(record("a"))) + 100, len(whole) - tarfile.RECORDSIZE, 333):
        samples, problems, _ = found(tmp_path / "x.tar", whole[:length])
        assert samples[:1] == ["text a"]
        assert len(problems) == 1, length


def test_what_a_mac_adds_is_passed_over(tmp_path):
    names = [
        "._a.png",
        "a.png",
        "._a.txt",
        "a.txt",
        ".DS_Store",
        "__MACOSX/._a.png",
        "__MACOSX/b.png",
        "__MACOSX/b.txt",
    ]
    contents = {"a.png": png(1), "a.txt": b"text"}
    made = found(tmp_path / "x.tar", archive([(name, contents.get(name, b"\0\5\x16\7")) for name in names]))
    assert made == (["text"], [], {})
    members: Members = [(f"./{name}", content) for name, content in record("a")]
    assert found(tmp_path / "y.tar", archive(members)) == (["text a"], [], {})


def test_suffixes_in_capitals_and_of_every_image(tmp_path):
    members: Members = [
        *(("a.JPG", png(1)), ("a.TXT", b"1"), ("b.jfif", png(2)), ("b.Json", b'{"caption": "2"}')),
        *(
            ("c.avif", png(3)),
            ("c.txt", b"3"),
            ("d.Tif", png(4)),
            ("d.txt", b"4"),
            ("e.ppm", png(5)),
            ("e.txt", b"5"),
        ),
    ]
    assert found(tmp_path / "X.TAR", archive(members)) == (["1", "2", "3", "4", "5"], [], {})


def test_members_that_are_not_read_are_counted(tmp_path):
    members: Members = [
        *record("a"),
        *(
            ("a.cls", b"3"),
            ("a.npy", b"x"),
            ("README", b"x"),
            ("b.heic", b"x"),
            ("b.txt", b"two"),
            ("c.mp4", b"x"),
        ),
    ]
    samples, (problem,), left_out = found(tmp_path / "x.tar", archive(members))
    assert samples == ["text a"]
    assert problem == ", member b, field image_path: there is no image with this key; .heic is not read"
    assert left_out == {
        "files that are neither images nor texts": 2,
        "arrays that are not read (.npy)": 1,
        "images that are not read (.heic)": 1,
        "videos that are not read (.mp4)": 1,
    }


def test_links_and_devices_are_refused(tmp_path):
    def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        return info

    members: Members = [
        *record("a"),
        *(("", special("b.png", tarfile.SYMTYPE, "/etc/passwd")), ("b.txt", b"x")),
        *(("", special("c.png", tarfile.LNKTYPE, "a.png")), ("c.txt", b"x")),
        *(("d.png", png(4)), ("", special("d.txt", tarfile.SYMTYPE, "../../etc/passwd"))),
        *(("", special("e.png", tarfile.FIFOTYPE)), ("e.txt", b"x")),
        *(("", special("f.png", tarfile.CHRTYPE)), ("f.txt", b"x")),
        *(("", special("folder.png", tarfile.DIRTYPE)), *record("g", 7)),
    ]
    samples, problems, _ = found(tmp_path / "x.tar", archive(members))
    assert samples == ["text a", "text g"]
    link = "is a link; only files stored in the tar are read"
    assert problems == [
        *(f", {name}: {link}" for name in ("b.png", "c.png", "d.txt")),
        *(f", {name}: is not a regular file" for name in ("e.png", "f.png")),
    ]


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names(tmp_path, format):
    key = "/".join(["ein sehr länger Name"] * 12)
    (sample,), problems, _ = found(tmp_path / "x.tar", archive(record(key), format=format))
    assert (sample, problems) == (f"text {key}", [])


def test_names_that_lead_out_of_the_archive_write_nothing_there(tmp_path):
    (tmp_path / "inside").mkdir()
    names = ["../out", "/tmp/pairuni-out", "a/../../out2", ".bash_profile", "a\nb"]
    members = [one for number, name in enumerate(names) for one in record(name, number)]
    found(tmp_path / "inside" / "x.tar", archive(members))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inside"]
    assert not os.path.lexists("/tmp/pairuni-out.png")
    kept = [path for path in (tmp_path / "inside" / "kept").rglob("*") if path.is_file()]
    assert all(len(path.stem) == 32 and path.suffix == ".png" for path in kept)


def test_a_header_that_claims_too_much_is_not_read(tmp_path):
    """A long name of gigabytes, of which a packed file may really hold zeros."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    data = archive(record("a"), records=False)[:-1024] + info.tobuf(tarfile.GNU_FORMAT) + bytes(4096)
    samples, (problem,), _ = found(tmp_path / "x.tar", data)
    assert samples == ["text a"]
    assert "a header claims 8,589,934,592 bytes" in problem


@pytest.mark.parametrize("packed", [False, True])
def test_damage_anywhere_is_a_sentence(tmp_path, packed):
    """Bytes of the headers and around them set at random: every record is there or something is said."""
    plain = archive(record("a") + record("b", 2), format=tarfile.PAX_FORMAT) + archive(record("ü" * 60, 3))
    whole = gzip.compress(plain) if packed else plain
    rng = np.random.default_rng(packed)
    for _ in range(250):
        spoilt = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            spoilt[rng.integers(0, len(spoilt))] = int(rng.integers(0, 256))
        samples, problems, left_out = found(tmp_path / "x.tar", bytes(spoilt))
        assert len(samples) == 3 or problems or left_out
        assert all("\n" not in problem for problem in problems)
