"""Base class and shared types of all settings."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


def _at_home(path: Path) -> Path:
    # no shell has expanded ~ in a recipe
    return Path(os.path.expanduser(path))


UserPath = Annotated[Path, Field(strict=False), AfterValidator(_at_home)]
"""A path written as a string in TOML, relative to the working directory; ~ is the user's home."""


def _as_inputs(given: Any) -> Any:
    """One or several inputs as strings; a string may contain several, separated by commas."""
    if isinstance(given, Path):
        return [str(given)]
    if isinstance(given, str):
        return split_list(given)
    if isinstance(given, list | tuple):
        return [str(one) if isinstance(one, Path) else one for one in given]
    return given


Inputs = Annotated[list[str], BeforeValidator(_as_inputs)]
"""Raw data, each [FORMAT:]PATH[?field=column&...], relative to the working directory (docs/sources.md)."""


class Settings(BaseModel):
    """Base of all settings: frozen, strict, unknown keys refused; attribute docstrings are descriptions.

    A docstring ends with the paper's value where there is one: "Sampling temperature (paper: 1.0)."
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,
    )
    AS_OPTIONS: ClassVar[bool] = True
    """Whether the command that reads these settings takes them as options too."""


def split_list(text: str) -> list[str]:
    """The parts of a comma-separated list; commas inside a quoted value, as in ``key="a,b"``, do not separate."""
    return [part.strip() for part in re.findall(r"""(?:='[^']*'|="[^"]*"|[^,])+""", text)]
