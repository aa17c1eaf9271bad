"""Atomic writes of files and folders, and what a kill leaves."""

from pathlib import Path

import pytest

from pairuni.io.files import atomic_folder, clear_partial, write_text


def fill(folder: Path, names: str, *, keep_all_but: str | None = None, fails: bool = False) -> None:
    with atomic_folder(folder, keep_all_but=keep_all_but) as partial:
        for name in names:
            (partial / name).write_text("new")
        if fails:
            raise OSError("full")


@pytest.mark.parametrize(("keep", "left"), [(None, "cd"), ("[ab]*", "cde"), ("nothing", "abcde")])
def test_an_existing_folder_is_replaced_or_updated(tmp_path: Path, keep: str | None, left: str) -> None:
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


@pytest.mark.parametrize("left", ["file", "folder", "link"])
def test_what_a_kill_left_of_a_file_is_removed(tmp_path: Path, left: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("theirs")
    run = tmp_path / "run"
    run.mkdir()
    partial = run / ".config.toml.partial"
    {
        "file": lambda: partial.write_text("ha"),
        "folder": lambda: (partial / "deep").mkdir(parents=True),
        "link": lambda: partial.symlink_to(elsewhere),
    }[left]()
    write_text(run / "config.toml", "complete")
    assert [path.name for path in run.iterdir()] == ["config.toml"]
    assert (run / "config.toml").read_text() == "complete"
    for name in (".summary.json.partial", ".report.html.partial"):
        (run / name).write_text("ha")
    (run / ".final.partial").mkdir()
    (run / ".step-000002.deleting").mkdir()
    clear_partial(run)
    assert [path.name for path in run.iterdir()] == ["config.toml"]
    assert elsewhere.read_text() == "theirs"


def test_a_folder_between_its_two_renames_gets_its_name_back(tmp_path: Path) -> None:
    folder = tmp_path / "final"
    fill(folder, "a")
    folder.rename(tmp_path / ".final.replaced")
    (tmp_path / ".final.partial").mkdir()
    clear_partial(tmp_path)
    assert [path.name for path in folder.iterdir()] == ["a"]
    assert list(tmp_path.iterdir()) == [folder]
    (tmp_path / ".final.replaced").mkdir()
    clear_partial(tmp_path)
    assert list(tmp_path.iterdir()) == [folder]
