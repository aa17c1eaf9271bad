"""Folders that take another's place: whole, or beside what was there."""

from pathlib import Path

import pytest

from pairuni.files import replacing_folder


def fill(folder: Path, names: str, *, keep_all_but: str | None = None, fails: bool = False) -> None:
    with replacing_folder(folder, keep_all_but=keep_all_but) as aside:
        for name in names:
            (aside / name).write_text("new")
        if fails:
            raise OSError("full")


@pytest.mark.parametrize(("keep", "left"), [(None, "cd"), ("[ab]*", "cde"), ("nothing", "abcde")])
def test_what_was_there(tmp_path: Path, keep: str | None, left: str) -> None:
    folder = tmp_path / "model"
    fill(folder, "abce")
    (folder / "c").write_text("old")
    fill(folder, "cd", keep_all_but=keep)
    assert "".join(sorted(path.name for path in folder.iterdir())) == left
    assert (folder / "c").read_text() == "new"
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("keep", [None, "*"])
def test_a_failure_changes_nothing(tmp_path: Path, keep: str | None) -> None:
    folder = tmp_path / "model"
    fill(folder, "a")
    (tmp_path / ".model.partial").mkdir()  # left by a kill
    with pytest.raises(OSError, match="full"):
        fill(folder, "b", keep_all_but=keep, fails=True)
    assert [path.name for path in folder.iterdir()] == ["a"]
    assert list(tmp_path.iterdir()) == [folder]
