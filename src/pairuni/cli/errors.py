"""How a command ends: one sentence on stderr for a mistake, a plain word for Ctrl-C, exit codes that tell."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any, TextIO

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from pairuni.console.terminal import visible, visible_streams

TRACEBACK = "--traceback"
INTERRUPTED = 130
"""Exit code after Ctrl-C, 128 + SIGINT, as shells have it."""


PAUSED = 3
"""Exit code when a command stopped as it was told to, at its budget or for a batch, and can go on."""


class Paused(RuntimeError):
    """A command stopped on purpose and has saved its work; says how to go on."""


class Interrupted(RuntimeError):
    """A command was stopped and has saved its work; says how to go on."""


class Commands(TyperGroup):
    """A group whose commands end in one sentence instead of a traceback, and steer no terminal.

    Exit codes: 1 for a mistake in what was given or found, 2 for wrong usage, 3 for a
    stop that was asked for (a budget, a batch), 130 for Ctrl-C. ``--traceback``
    anywhere on the line, or PAIRUNI_TRACEBACK=1, shows the traceback too. An error of a kind that no check
    raises is a bug: it always shows its traceback.
    """

    def main(self, *args: Any, **options: Any) -> Any:
        with visible_streams():
            return super().main(*args, **options)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.color = True  # click would take some escape sequences out of messages; our streams show them
        if TRACEBACK in args:
            args = [arg for arg in args if arg != TRACEBACK]
            ctx.meta[TRACEBACK] = True
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        show = ctx.meta.get(TRACEBACK) or os.environ.get("PAIRUNI_TRACEBACK", "") not in {"", "0"}
        _log_plainly()
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt:
            typer.echo("stopped", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except Interrupted as stop:
            typer.echo(str(stop), err=True)
            raise typer.Exit(INTERRUPTED) from None
        except Paused as pause:
            typer.echo(str(pause), err=True)
            raise typer.Exit(PAUSED) from None
        except BrokenPipeError:
            # the reader of our output has gone (a pipe into head): nobody is left to tell
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except (ValueError, OSError, ImportError, RuntimeError) as error:
            if show:
                raise
            for line in sentence(error).split("\n"):
                typer.echo(f"error: {line}", err=True)
            raise typer.Exit(1) from None


def sentence(error: Exception) -> str:
    """An error in words: the file and the reason for those of the system, else its own message."""
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror.lower()}"
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{error.title}: {'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error).strip() or type(error).__name__


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to what stderr is at the time: whoever calls several commands in one process may redirect each."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class _Plain(logging.Formatter):
    """The message, its further lines indented: none of them can pass for a message of its own."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record)).replace("\n", "\n  ")


def _log_plainly() -> None:
    logger = logging.getLogger("pairuni")
    if not logger.handlers:
        handler = _Stderr()
        handler.setFormatter(_Plain("%(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
