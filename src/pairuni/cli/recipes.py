"""`pairuni recipes`: the recipes that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pairuni.cli.errors import Group
from pairuni.config.recipes import SUFFIX, files_of, shipped_folders, shipped_recipes, summary
from pairuni.console.counts import counted
from pairuni.io.files import write_text

app = typer.Typer(cls=Group)


@app.callback(invoke_without_command=True)
def list_recipes(ctx: typer.Context) -> None:
    """List the recipes that come with pairuni, or copy them. Commands accept their names: pairuni train NAME."""
    if ctx.invoked_subcommand is not None:
        return
    rows = {name: summary(path) for name, path in shipped_recipes().items()}
    rows |= {
        f"{folder}/": f"This folder's {counted(len(names), 'recipe')}, to copy together."
        for folder, names in shipped_folders().items()
    }
    width = max(map(len, rows)) + 2
    for name, purpose in rows.items():
        typer.echo(f"{name:<{width}}{purpose}")


@app.command()
def copy(
    name: Annotated[str, typer.Argument(help="A recipe's name, or a folder's, as in the list.")],
    to: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("recipes"),
) -> None:
    """Copy a recipe or a folder of them, and the recipes that they name. Existing files are not overwritten."""
    for path in copy_recipe(name, to):
        typer.echo(path)


def copy_recipe(name: str, folder: Path) -> list[Path]:
    """Write the files of a recipe, or of a folder of recipes, to ``folder`` and return those written.

    Recipes that these name may be there already, such as those of another study; they are kept as they are.
    Raises ValueError for an unknown name and a folder that is named like a recipe, and FileExistsError if a recipe
    itself is there.
    """
    own, named = files_of(name)
    if folder.suffix == SUFFIX or folder.is_file():
        raise ValueError(
            f"--to {folder} is not a folder; recipes keep their names, so give the folder to write to"
        )
    for each in own:
        if (target := folder / f"{each}{SUFFIX}").exists():
            raise FileExistsError(f"{target} already exists; name another folder with --to, or remove it")
    written = []
    for each, source in {**own, **named}.items():
        target = folder / f"{each}{SUFFIX}"
        if not target.exists():
            write_text(target, source.read_text(encoding="utf-8"))
            written.append(target)
    return written
