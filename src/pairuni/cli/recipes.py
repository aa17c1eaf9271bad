"""`pairuni recipes`: the recipes that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pairuni.config.recipes import SUFFIX, files_of, shipped_recipes, summary
from pairuni.io.files import write_text

app = typer.Typer()


@app.callback(invoke_without_command=True)
def list_recipes(ctx: typer.Context) -> None:
    """List the recipes that come with pairuni. Commands accept their names: pairuni train NAME."""
    if ctx.invoked_subcommand is not None:
        return
    recipes = shipped_recipes()
    width = max(map(len, recipes)) + 2
    for name, path in recipes.items():
        typer.echo(f"{name:<{width}}{summary(path)}")


@app.command()
def copy(
    name: Annotated[str, typer.Argument(help="A recipe's name, as in the list.")],
    to: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("recipes"),
) -> None:
    """Copy a recipe to edit it, and with a study the recipes that it names. Existing files are not overwritten."""
    for path in copy_recipe(name, to):
        typer.echo(path)


def copy_recipe(name: str, folder: Path) -> list[Path]:
    """Write the files of a recipe to ``folder`` and return those written.

    Recipes that a study names may be there already, such as those of another study; they are kept as they are.
    Raises ValueError for an unknown name, and FileExistsError if the recipe itself is there.
    """
    written = []
    for number, (each, source) in enumerate(files_of(name).items()):
        target = folder / f"{each}{SUFFIX}"
        if target.exists() and number == 0:
            raise FileExistsError(f"{target} already exists; name another folder with --to, or remove it")
        if not target.exists():
            write_text(target, source.read_text(encoding="utf-8"))
            written.append(target)
    return written
