"""How a command ends: one sentence on stderr for a mistake, and an exit code."""

from __future__ import annotations

import itertools
import logging
import os
import sys
from typing import Any, TextIO

import typer
from typer.core import TyperGroup

from pairuni.console.sentences import EXPECTED, sentence
from pairuni.console.terminal import visible, visible_streams

TRACEBACK = "--traceback"
INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as in shells."""
_WHOLE = 1000
"""Characters of a command's line in the help of its group, at most; longer than any."""
PAUSED = 3
"""Exit code of a command that paused as its settings demand, at a budget or for a batch, and can resume."""


class Paused(RuntimeError):
    """A command paused as requested and has saved its work; the message says how to resume."""


class Interrupted(RuntimeError):
    """A command was interrupted and has saved its work; the message says how to resume."""


class Group(TyperGroup):
    """A group whose help has a whole sentence on each command, over several lines where it is long."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        commands = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        rows = [
            (name, command.get_short_help_str(_WHOLE))
            for name, command in commands
            if command is not None and not command.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class Commands(Group):
    """A group whose commands report errors in one sentence and pass no control characters to the terminal.

    Exit codes: 1 for an error in the input, 2 for wrong usage, 3 for a requested pause (a budget, a batch), 130 for
    Ctrl-C. ``--traceback`` anywhere on the line, or PAIRUNI_TRACEBACK=1, shows the traceback. Exceptions of other
    types are bugs and always show their traceback.
    """

    def main(self, *args: Any, **options: Any) -> Any:
        with visible_streams():
            return super().main(*args, **options)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.color = True  # click would strip some escape sequences from messages; our streams show them
        if TRACEBACK in args:
            args = [arg for arg in args if arg != TRACEBACK]
            ctx.meta[TRACEBACK] = True
        # an unset variable of a shell, which would mean the working directory
        if "--out=" in args or ("--out", "") in itertools.pairwise(args):
            raise typer.BadParameter("is empty; name a folder, or . for this one", param_hint="--out")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        show = ctx.meta.get(TRACEBACK) or os.environ.get("PAIRUNI_TRACEBACK", "") not in {"", "0"}
        _set_up_logging()
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
            # the reader of our output has gone, as in a pipe into head
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except EXPECTED as error:
            if show:
                raise
            for line in sentence(error).split("\n"):
                typer.echo(f"error: {line}", err=True)
            raise typer.Exit(1) from None


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to the current ``sys.stderr``, which may be redirected between commands of one process."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class _Plain(logging.Formatter):
    """The message with further lines indented, so that none of them looks like a separate message."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record)).replace("\n", "\n  ")


def _set_up_logging() -> None:
    logger = logging.getLogger("pairuni")
    if not logger.handlers:
        handler = _Stderr()
        handler.setFormatter(_Plain("%(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
