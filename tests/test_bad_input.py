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
from pairuni.pairug.dataset.store import read_pairs, write_pairs
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


def more_new_tokens_than_positions(folder: UserFolder) -> tuple[str, ...]:
    return folder.train("--rollout.max-new-tokens", "5000")


def raw_data_as_pairs(folder: UserFolder) -> tuple[str, ...]:
    return folder.train("--data.pairs", str(folder.raw / "u.jsonl"))


def checked_raw_data(folder: UserFolder) -> tuple[str, ...]:
    return ("pairs", "check", str(folder.raw / "g.jsonl"))


def embedded_images(folder: UserFolder) -> tuple[str, ...]:
    write_pairs(folder.root / "p.parquet", read_pairs(folder.pairs), embed=folder.pairs.parent)
    return folder.train("--data.pairs", str(folder.root / "p.parquet"), "--dry-run")


def embedded_images_in_a_gallery(folder: UserFolder) -> tuple[str, ...]:
    return ("pairs", "gallery", embedded_images(folder)[-2])


def prompts_of_another_world(folder: UserFolder) -> tuple[str, ...]:
    return folder.train("--reward.generation", "digits")


def no_adapter_to_merge(folder: UserFolder) -> tuple[str, ...]:
    return ("merge", str(folder.root / "nowhere"), "--out", str(folder.root / "merged"))


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
    (more_new_tokens_than_positions, "5,000 new tokens and the shortest prompt do not fit"),
    (
        raw_data_as_pairs,
        "u.jsonl holds samples, not pairs: its first line has the keys id, image_path, question",
    ),
    (checked_raw_data, "g.jsonl holds samples, not pairs"),
    (embedded_images, "p.parquet contains its images, but they are needed as files next to it"),
    (embedded_images_in_a_gallery, "p.parquet contains its images, but they are needed as files next to it"),
    (prompts_of_another_world, "the reward digits cannot score every prompt: the prompt 'a'"),
    (no_adapter_to_merge, "nowhere: no such folder; give an adapter's folder"),
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
