"""Tars as they are found: concatenated, made on a Mac, with links, long names and damage."""

from __future__ import annotations

import gzip
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from source_data import Found, Members, archive, captioned, generated, png


def record(key: str, number: int = 1) -> Members:
    return [(f"{key}.png", png(number)), (f"{key}.txt", f"text {key}".encode())]


def found(path: Path, data: bytes) -> Found:
    """What is read of these bytes, problems without the name of the file."""
    path.write_bytes(data)
    all_found = generated(path, path.parent / "kept")
    return all_found._replace(problems=[one.removeprefix(str(path)) for one in all_found.problems])


@pytest.mark.parametrize("compressed", ["", "together", "each"])
@pytest.mark.parametrize("padded", [True, False])
def test_concatenated_archives(tmp_path, compressed, padded):
    parts = [archive(record("a") + record("b", 2), padded=padded), archive([]), archive(record("c", 3))]
    if compressed == "each":
        parts = [gzip.compress(part) for part in parts]
    data = gzip.compress(b"".join(parts)) if compressed == "together" else b"".join(parts)
    made = found(tmp_path / ("x.tar.gz" if compressed else "x.tar"), data)
    assert (made.prompts, made.problems, made.left_out) == (["text a", "text b", "text c"], [], {})


def test_records_do_not_span_archives(tmp_path):
    first, second = record("a")
    made = found(tmp_path / "x.tar", archive([first]) + archive([second]))
    assert made.samples == []
    assert "field prompt: is missing" in made.problems[0]
    assert "there is no image with this key" in made.problems[1]


@pytest.mark.parametrize(
    "data", [archive(record("a")) + archive(record("a", 2)), archive(record("a") + record("a", 2))]
)
def test_a_key_that_repeats_is_a_problem(tmp_path, data):
    made = found(tmp_path / "x.tar", data)
    assert made.prompts == ["text a"]
    assert "'x/a' is also that of" in made.problems[0]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("rest", [b"more", b"x" * 700, b"x" * 5000, bytes(512) + b"PK\3\4" + bytes(600)])
def test_what_follows_the_end_mark_is_reported(tmp_path, compressed, rest):
    data = archive(record("a")) + rest
    made = found(tmp_path / "x.tgz", gzip.compress(data) if compressed else data)
    assert (made.prompts, len(made.problems)) == (["text a"], 1)
    assert "what follows its end mark, from byte 1" in made.problems[0]
    assert "1 record is complete before" in made.problems[0]


def test_what_follows_a_gzip_file_is_reported(tmp_path):
    made = found(tmp_path / "x.tar.gz", gzip.compress(archive(record("a"))) + b"more")
    assert (made.prompts, len(made.problems)) == (["text a"], 1)
    assert "is truncated or damaged; 1 record is complete" in made.problems[0]


@pytest.mark.parametrize("compressed", [False, True])
def test_a_damaged_header_in_the_middle_is_reported(tmp_path, compressed):
    data = bytearray(archive(record("a") + record("b") + record("c")))
    data[data.index(b"b.png")] ^= 1
    made = found(tmp_path / "x.tar", gzip.compress(bytes(data)) if compressed else bytes(data))
    assert (made.prompts, len(made.problems)) == (["text a"], 1)
    assert "there is no end mark" in made.problems[0]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_cut_anywhere_gives_its_complete_records_and_one_problem(tmp_path, mode):
    data = archive(captioned(4), mode=mode)
    last = len(data) - (tarfile.RECORDSIZE if mode == "w" else 1)
    for length in range(0, last, 97 if mode == "w" else 7):
        made = found(tmp_path / "x.tar", data[:length])
        assert made.prompts == [f"image {n}" for n in range(len(made.samples))]
        assert [Path(one.image_path).read_bytes() for one in made.samples] == [
            png(n) for n in range(len(made.samples))
        ]
        assert len(made.samples) < 4 or mode == "w:gz"
        assert len(made.problems) == 1
        assert f"is truncated or damaged; {len(made.samples):,} record" in made.problems[0]


def test_the_second_archive_may_be_cut(tmp_path):
    data = archive(record("a")) + archive(record("b", 2) + record("c", 3))
    for length in range(len(archive(record("a"))) + 100, len(data) - tarfile.RECORDSIZE, 333):
        made = found(tmp_path / "x.tar", data[:length])
        assert made.prompts[:1] == ["text a"]
        assert len(made.problems) == 1, length


def test_what_a_mac_adds_is_ignored(tmp_path):
    added = ["._a.png", "._a.txt", ".DS_Store", "__MACOSX/._a.png", "__MACOSX/b.png", "__MACOSX/b.txt"]
    members = [*((name, b"\0\5\x16\7") for name in added[:2]), *record("a")]
    members += [(name, b"\0\5\x16\7") for name in added[2:]]
    for one in (members, [(f"./{name}", data) for name, data in record("a")]):
        made = found(tmp_path / "x.tar", archive(one))
        assert (made.prompts, made.problems, made.left_out) == (["text a"], [], {})


def test_suffixes_in_capitals_and_of_every_image(tmp_path):
    names = ["a.JPG", "a.TXT", "b.jfif", "b.Json", "c.avif", "c.txt", "d.Tif", "d.txt", "e.ppm", "e.txt"]
    texts = [b"1", b'{"caption": "2"}', b"3", b"4", b"5"]
    members = [(name, texts[n // 2] if n % 2 else png(n)) for n, name in enumerate(names)]
    made = found(tmp_path / "X.TAR", archive(members))
    assert (made.prompts, made.problems, made.left_out) == (["1", "2", "3", "4", "5"], [], {})


def test_what_is_not_read_is_counted(tmp_path):
    unread = ["a.cls", "a.npy", "README", "b.heic", "b.txt", "c.mp4"]
    made = found(tmp_path / "x.tar", archive([*record("a"), *((name, b"x") for name in unread)]))
    assert made.prompts == ["text a"]
    assert "member b, field image_path: there is no image" in made.problems[0]
    assert ".heic is not read" in made.problems[0]
    assert made.left_out == {
        "files that are neither images nor texts": 2,
        "arrays that are not read (.npy)": 1,
        "images that are not read (.heic)": 1,
        "videos that are not read (.mp4)": 1,
    }


def test_names_with_several_dots_and_several_images_are_counted(tmp_path):
    members: Members = [
        *(("0.a.png", png(4)), ("0.a.txt", b"before any record")),
        *record("1"),
        *(("2.png", png(2)), ("2.jpg", png(3)), ("2.txt", b"two images")),
        *(("3.b.png", png(4)), ("3.b.txt", b"a name with two dots")),
        *(*record("4", 5), ("4.mask.png", png(6))),
        *(("5.c.png", png(4)), ("5.c.txt", b"and another")),
    ]
    made = found(tmp_path / "x.tar", archive(members))
    assert (made.prompts, made.problems) == (["text 1", "text 4"], [])
    assert made.left_out == {"more than one image": 1, "names with several dots in a tar, such as 1.2.jpg": 3}


def test_a_tar_without_records_says_what_it_holds(tmp_path):
    data = archive([("photo.1.jpg", png(1)), ("photo.1.txt", b"x")])
    assert "holds no records: what follows the first dot of photo" in found(tmp_path / "x.tar", data).problem
    assert found(tmp_path / "y.tar", archive([])).problem == ": holds no records"


def test_faulty_members_are_named(tmp_path):
    members: Members = [
        *(("a.png", png(1)), ("a.txt", b"caf\xe9")),
        *(("b.txt", b"no image"), ("c.png", png(2)), ("c.json", b"[1]")),
        *(("d.png", b""), ("d.txt", b"empty")),
        *record("../../e", 3),
        *(("f.png", b"not an image"), ("f.txt", b"kept: the encoder reports it")),
        *(("g.png", png(4)), ("g.txt", b" ")),
    ]
    made = found(tmp_path / "x.tar", archive(members))
    assert [problem.split(": ")[0] for problem in made.problems] == [
        ", member a.txt",
        ", member b, field image_path",
        ", member c.json",
        ", member d, field image_path",
        ", member g, field prompt",
    ]
    facts = ("is not UTF-8", "there is no image", "must be a JSON object", "is empty", "must not be empty")
    assert all(fact in problem for fact, problem in zip(facts, made.problems, strict=True))
    assert [Path(one.image_path).suffix for one in made.samples] == [".png", ".png"]
    assert all(Path(one.image_path).is_relative_to(tmp_path / "kept") for one in made.samples)


def test_links_and_devices_are_refused(tmp_path):
    def special(name: str, kind: bytes, target: str = "") -> tuple[str, tarfile.TarInfo]:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        return "", info

    members: Members = [
        *record("a"),
        *(special("b.png", tarfile.SYMTYPE, "/etc/passwd"), ("b.txt", b"x")),
        *(special("c.png", tarfile.LNKTYPE, "a.png"), ("c.txt", b"x")),
        *(("d.png", png(4)), special("d.txt", tarfile.SYMTYPE, "../../etc/passwd")),
        *(special("e.png", tarfile.FIFOTYPE), ("e.txt", b"x")),
        *(special("f.png", tarfile.CHRTYPE), ("f.txt", b"x")),
        *(special("folder.png", tarfile.DIRTYPE), *record("g", 7)),
    ]
    made = found(tmp_path / "x.tar", archive(members))
    assert made.prompts == ["text a", "text g"]
    faults = [
        "b.png: is a link",
        "c.png: is a link",
        "d.txt: is a link",
        "e.png: is not a reg",
        "f.png: is not a reg",
    ]
    assert [
        problem[2 : 2 + len(fault)] for problem, fault in zip(made.problems, faults, strict=True)
    ] == faults


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names(tmp_path, format):
    key = "/".join(["ein sehr länger Name"] * 12)
    assert found(tmp_path / "x.tar", archive(record(key), format=format)).sample.prompt == f"text {key}"


def test_names_that_lead_out_of_the_archive_write_nothing_there(tmp_path):
    (tmp_path / "inside").mkdir()
    names = ["../out", "/tmp/pairuni-out", "a/../../out2", ".bash_profile", "a\nb"]
    found(
        tmp_path / "inside" / "x.tar",
        archive([one for n, name in enumerate(names) for one in record(name, n)]),
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inside"]
    assert not os.path.lexists("/tmp/pairuni-out.png")
    kept = [path for path in (tmp_path / "inside" / "kept").rglob("*") if path.is_file()]
    assert all(len(path.stem) == 32 and path.suffix == ".png" for path in kept)


def test_large_members_and_headers_that_claim_too_much_are_not_read(tmp_path, monkeypatch):
    info = tarfile.TarInfo("././@LongLink")  # a name of gigabytes, which a gzip file may really hold as zeros
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    data = archive(record("a"), padded=False)[:-1024] + info.tobuf(tarfile.GNU_FORMAT) + bytes(4096)
    made = found(tmp_path / "x.tar", data)
    assert (made.prompts, len(made.problems)) == (["text a"], 1)
    assert "a header claims 8,589,934,592 bytes" in made.problems[0]
    monkeypatch.setattr("pairuni.pairug.sources.readers.tars.MOST_BYTES", 2048)
    made = found(tmp_path / "x.tar", archive([("b.png", bytes(4096)), ("b.txt", b"x"), *record("a")]))
    assert (made.prompts, len(made.problems)) == (["text a"], 1)
    assert ", b.png: is larger than" in made.problems[0]


@settings(max_examples=100, deadline=None)
@given(at=st.integers(0, 4 * 2048 - 1), bit=st.integers(0, 7), compressed=st.booleans())
def test_a_flipped_bit_never_loses_a_record_silently(tmp_path_factory, at, bit, compressed):
    data = bytearray(archive(captioned(4), mode="w:gz" if compressed else "w"))
    data[at % len(data)] ^= 1 << bit
    made = found(tmp_path_factory.mktemp("flip") / "x.tar", bytes(data))
    assert len(made.samples) == 4 or made.problems
