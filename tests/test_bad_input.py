"""Mistakes of users, through the commands: one clear sentence, exit code 1, earlier results intact."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pairuni.cli.app import app
from pairuni.training import shards
from user_folder import UserFolder, contents


def cut(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])


def missing_image(folder: UserFolder) -> tuple[str, ...]:
    (folder.pairs.parent / "1.png").unlink()
    return ("pairs", "check", str(folder.pairs))


def truncated_png(folder: UserFolder) -> tuple[str, ...]:
    cut(folder.pairs.parent / "2.png", 60)
    return ("pairs", "check", str(folder.pairs))


def half_a_line(folder: UserFolder) -> tuple[str, ...]:
    cut(folder.pairs, len(folder.pairs.read_bytes()) - 40)
    return folder.train()


def unknown_setting(folder: UserFolder) -> tuple[str, ...]:
    return folder.train("--pairgrpo.learning-rat", "1")


def threshold(folder: UserFolder) -> tuple[str, ...]:
    return folder.build("--threshold", "1.7")


def empty_understanding_set(folder: UserFolder) -> tuple[str, ...]:
    (folder.raw / "u.jsonl").write_text("")
    return folder.build()


def raw_data_before_the_encoder(folder: UserFolder) -> tuple[str, ...]:
    (folder.raw / "g.jsonl").write_text("{}\n")
    return folder.build("--encoder", "policy:nowhere")


def annotator_before_the_encoder(folder: UserFolder) -> tuple[str, ...]:
    return folder.build("--encoder", "policy:nowhere", "--annotator", "sceen")


def question_over_the_context(folder: UserFolder) -> tuple[str, ...]:
    lines = folder.pairs.read_text().splitlines()
    lines[1] = lines[1].replace('"b?"', json.dumps("word " * 500))
    folder.pairs.write_text("\n".join(lines) + "\n")
    return folder.train()


def broken_image_of_a_run(folder: UserFolder) -> tuple[str, ...]:
    cut(folder.pairs.parent / "2.png", 60)
    return folder.train()


def resume_of_nothing(folder: UserFolder) -> tuple[str, ...]:
    return folder.train("--resume")


def no_tokenizer(folder: UserFolder) -> tuple[str, ...]:
    for file in folder.model.glob("tokenizer*"):
        file.unlink()
    return ("answer", str(folder.pairs.parent / "0.png"), "what?", "--model", str(folder.model))


CASES: list[tuple[Callable[[UserFolder], tuple[str, ...]], str]] = [
    (missing_image, "1.png"),
    (truncated_png, "2.png"),
    (half_a_line, "line 3"),
    (unknown_setting, "did you mean --pairgrpo.learning-rate?"),
    (threshold, "--threshold is 1.7"),
    (empty_understanding_set, "u.jsonl"),
    (raw_data_before_the_encoder, "g.jsonl, line 1"),
    (annotator_before_the_encoder, "sceen"),
    (question_over_the_context, "pairs.jsonl, line 2, field understand_ann.question: 'word word"),
    (broken_image_of_a_run, "pairs.jsonl, line 3, field understand_ann.image_path: '2.png'"),
    (resume_of_nothing, "run has no run to resume; leave out --resume"),
    (no_tokenizer, "tokenizer"),
]


@pytest.mark.parametrize(("spoil", "said"), CASES, ids=[spoil.__name__ for spoil, _ in CASES])
def test_one_sentence_and_nothing_lost(
    spoil: Callable[[UserFolder], tuple[str, ...]], said: str, tmp_path: Path
) -> None:
    folder = UserFolder(tmp_path)
    words = spoil(folder)
    before = contents(tmp_path)
    result = CliRunner().invoke(app, list(words))
    printed = result.stdout + result.stderr
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 1
    assert said in printed
    assert "Traceback" not in printed
    assert len(printed.strip().splitlines()) <= 3, printed
    after = contents(tmp_path)
    assert {path: after.get(path) for path in before} == before


def test_a_full_disk_while_a_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = UserFolder(tmp_path)
    assert CliRunner().invoke(app, list(folder.train("--pairgrpo.steps", "1"))).exit_code == 0
    shutil.rmtree(folder.root / "run" / "final")
    before = contents(folder.root / "run" / "checkpoints")
    assert before

    def full(tensors: object, path: Path, metadata: object = None) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(shards, "save_file", full)
        result = CliRunner().invoke(app, list(folder.train("--resume")))
    assert result.exit_code == 1
    assert "the disk is full" in result.stderr
    assert contents(folder.root / "run" / "checkpoints") == before
    again = CliRunner().invoke(app, list(folder.train("--resume")))
    assert again.exit_code == 0, again.stderr
    assert (folder.root / "run" / "final" / "model.safetensors").is_file()
