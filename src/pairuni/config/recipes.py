"""The recipes that the package contains, by name."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

SUFFIX = ".toml"


def shipped_recipes() -> dict[str, Path]:
    """The file of every recipe in recipes/ by its name: digits, ablations/pairing, ..."""
    folder = _folder()
    paths = sorted(folder.rglob(f"*{SUFFIX}"), key=lambda path: (len(path.parts), path))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths}


def shipped_recipe(name: str) -> Path:
    """The file of the recipe ``name`` of ``pairuni recipes``. Raises ValueError naming the known ones."""
    recipes = shipped_recipes()
    if name.removesuffix(SUFFIX) not in recipes:
        raise ValueError(f"no recipe is called {name!r}; known: {', '.join(recipes)}")
    return recipes[name.removesuffix(SUFFIX)]


def find_recipe(given: Path) -> Path:
    """The file ``given``, or the shipped recipe of that name if there is no such file.

    A name has no suffix: ``digits.toml`` is always a file. Raises FileNotFoundError.
    """
    if given.is_file():
        return given
    recipes = shipped_recipes()
    if (name := given.as_posix()) in recipes:
        return recipes[name]
    known = [name for name in recipes if name in (given.stem, f"{given.parent.name}/{given.stem}")]
    hint = (
        f"`pairuni recipes copy {known[0]}` writes the one that pairuni contains"
        if known
        else "give a TOML file, or a name that `pairuni recipes` lists"
    )
    raise FileNotFoundError(f"{given}: no such recipe; {hint}")


def summary(recipe: Path) -> str:
    """What a recipe is for: its first line, which is a comment."""
    with recipe.open(encoding="utf-8") as file:
        return file.readline().lstrip("#").strip()


def files_of(name: str) -> dict[str, Path]:
    """The recipe ``name`` and, of a study, the recipes that its rows share, by name.

    Raises ValueError naming the known recipes.
    """
    path = shipped_recipe(name)
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    shared = [values[key] for key in ("recipe", "pairs") if isinstance(values.get(key), str)]
    folder = _folder()
    return {
        file.relative_to(folder).with_suffix("").as_posix(): file
        for file in (path, *(Path(os.path.normpath(path.parent / other)) for other in shared))
    }


def _folder() -> Path:
    package = Path(__file__).parents[1]
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parents[1] / "recipes"
