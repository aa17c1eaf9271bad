"""Recipes as files, which may build on others, and those that the package contains, by name."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pairuni.io.text import decode_text

SUFFIX = ".toml"
BASE = "base"
"""Key of a recipe that names another one: a path relative to its file, or the name of a shipped one if there is no such
file. What the recipe does not set is as there."""
_NAMES_FILES = (BASE, "recipe", "pairs")
"""Keys whose value may be another recipe: ``BASE``, and those of a study."""

Values = dict[str, Any]


def read_recipe(path: Path) -> dict[Path, Values]:
    """The values of a recipe, then of its base, of the base's base and so on, by file; keys with underscores.

    Raises FileNotFoundError, and ValueError for a file that is not TOML and for recipes that build on each other.
    """
    found: dict[Path, Values] = {}
    while True:
        values = _normalise(_read_toml(path))
        base = values.pop(BASE, None)
        found[path] = values
        if base is None:
            return found
        if not isinstance(base, str):
            raise ValueError(f"{path}: {BASE} is {base!r}, but must be the path of a recipe")
        name, path = path, _beside(path, base)
        if not path.is_file():
            shipped = shipped_recipes().get(base)
            if shipped is None:
                raise FileNotFoundError(f"{path}: no such recipe; {name} names it as its {BASE}")
            path = shipped
        if path in found:
            raise ValueError(f"{name}: {BASE} is {base!r}, which itself builds on {name.name}")


def merged(files: Mapping[Path, Values]) -> Values:
    """The values of ``read_recipe`` in one: tables are merged, of other values the first counts."""
    values: Values = {}
    for under in files.values():
        values = _over(values, under)
    return values


def file_of(files: Mapping[Path, Values], key: tuple[str, ...]) -> Path:
    """The file of ``read_recipe`` that a value comes from; the first one if none has it."""
    return next((path for path, values in files.items() if _has(values, key)), next(iter(files)))


def shipped_recipes() -> dict[str, Path]:
    """The file of every recipe in recipes/ by its name: digits, ablations/pairing, ..."""
    folder = _folder()
    paths = sorted(folder.rglob(f"*{SUFFIX}"), key=lambda path: (len(path.parts), path))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths}


def shipped_recipe(name: str) -> Path:
    """The file of the recipe ``name`` of ``pairuni recipes``. Raises ValueError with similar names."""
    recipes = shipped_recipes()
    if name.removesuffix(SUFFIX) not in recipes:
        raise ValueError(f"no recipe is called {name!r}; {_similar(name, recipes)}")
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
    if known:
        hint = f"`pairuni recipes copy {known[0]}` writes the one that pairuni contains"
    elif given.suffix:
        hint = "give a TOML file, or a name that `pairuni recipes` lists"
    else:
        hint = f"give a TOML file, or a name: {_similar(name, recipes)}"
    raise FileNotFoundError(f"{given}: no such recipe; {hint}")


def _similar(name: str, known: Iterable[str]) -> str:
    """Which of the known names may be meant."""
    asked, names = name.removesuffix(SUFFIX), list(known)
    if close := [one for one in names if asked and asked in one] or difflib.get_close_matches(asked, names):
        return f"did you mean {' or '.join(close[:3])}?"
    return "`pairuni recipes` lists the known ones"


def summary(recipe: Path) -> str:
    """What a recipe is for: its first line, which is a comment."""
    with recipe.open(encoding="utf-8") as file:
        return file.readline().lstrip("#").strip()


def shipped_folders() -> dict[str, list[str]]:
    """Folders of shipped recipes: paper, ablations, ...; with the names of the recipes at any depth in them."""
    folders: dict[str, list[str]] = {}
    for name in shipped_recipes():
        for parent in list(Path(name).parents)[:-1]:
            folders.setdefault(parent.as_posix(), []).append(name)
    return folders


def files_of(name: str) -> tuple[dict[str, Path], dict[str, Path]]:
    """The recipe ``name``, or all recipes of the folder ``name``; and further recipes that these name. By name.

    Raises ValueError with similar names.
    """
    recipes, folders = shipped_recipes(), shipped_folders()
    chosen = folders.get(name.rstrip("/"), [name.removesuffix(SUFFIX)])
    if chosen[0] not in recipes:
        hint = _similar(name, [*recipes, *(f"{folder}/" for folder in folders)])
        raise ValueError(f"no recipe is called {name!r}; {hint}")
    own = {one: recipes[one] for one in chosen}
    named: dict[str, Path] = {}
    waiting = list(own.values())
    while waiting:
        for path in _named_by(waiting.pop()):
            other = path.relative_to(_folder()).with_suffix("").as_posix()
            if other not in own and other not in named:
                named[other] = path
                waiting.append(path)
    return own, named


def _named_by(path: Path) -> list[Path]:
    values = _read_toml(path)
    return [_beside(path, values[key]) for key in _NAMES_FILES if isinstance(values.get(key), str)]


def _beside(path: Path, other: str) -> Path:
    return Path(os.path.normpath(path.parent / other))


def _read_toml(path: Path) -> Values:
    try:
        return tomllib.loads(decode_text(path.read_bytes()))
    except ValueError as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from None


def _normalise(table: Mapping[str, Any]) -> Values:
    return {
        key.replace("-", "_"): _normalise(value) if isinstance(value, Mapping) else value
        for key, value in table.items()
    }


def _over(values: Values, under: Values) -> Values:
    """``values`` with what only ``under`` has."""
    both = {**under, **values}
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(under.get(key), dict):
            both[key] = _over(value, under[key])
    return both


def _has(values: Values, key: tuple[str, ...]) -> bool:
    inner: Any = values
    for part in key:
        if isinstance(inner, list):
            return True
        if not isinstance(inner, dict) or part not in inner:
            return False
        inner = inner[part]
    return True


def _folder() -> Path:
    package = Path(__file__).parents[1]
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parents[1] / "recipes"
