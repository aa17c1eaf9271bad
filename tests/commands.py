"""Runs commands in this process."""

from __future__ import annotations

from typer.testing import CliRunner

from pairuni.cli.app import app


def call(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def fails(*words: object, code: int = 1) -> str:
    found, _, said = call(*words)
    assert found == code, said
    assert "Traceback" not in said
    return said
