"""VLMEvalKit's ``run.py`` with a policy among its models, which are a table in its code and no entry point.

python -m pairuni.harness.vlmevalkit VLMEvalKit/run.py --policy deepseek-community/Janus-Pro-1B --data MMStar
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any


def register(name: str, **arguments: Any) -> None:
    """Add a policy to VLMEvalKit's table of models; ``arguments`` are those of ``vlmevalkit_model.PairUni``.

    Raises ImportError where VLMEvalKit is not importable, ValueError when it has a model of this name.
    """
    from vlmeval.config import supported_VLM

    from pairuni.harness.vlmevalkit_model import PairUni

    if name in supported_VLM:
        raise ValueError(f"VLMEvalKit has a model {name!r} of its own; choose another name.")
    supported_VLM[name] = partial(PairUni, **arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Register a policy, then run VLMEvalKit's ``run.py`` with all other arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m pairuni.harness.vlmevalkit",
        description="VLMEvalKit on a policy. All further options, such as --data and --work-dir, are its own.",
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, help="run.py of a VLMEvalKit checkout")
    parser.add_argument("--policy", required=True, help="checkpoint folder, hub name or tiny")
    parser.add_argument("--name", help="name in files and tables (default: the last part of --policy)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--max-new-tokens", type=int, default=2048, help="as VLMEvalKit's Janus (2048)")
    parser.add_argument("--several-images", default="error", choices=["error", "row", "first"])
    own, of_run = parser.parse_known_args(arguments)
    if not own.run.is_file():
        parser.error(f"there is no file {own.run}; give the run.py of a VLMEvalKit checkout")
    if "--model" in of_run:
        parser.error("--model is set from --name; name the policy there")
    name = own.name or f"pairuni-{Path(own.policy).name}"
    sys.path.insert(0, str(own.run.resolve().parent))
    # first of all, because run.py divides the GPUs among processes before it loads torch
    run = _module(own.run)
    register(
        name,
        policy=own.policy,
        device=own.device,
        dtype=own.dtype,
        max_new_tokens=own.max_new_tokens,
        several_images=own.several_images,
    )
    sys.argv = [str(own.run), "--model", name, *of_run]
    run.load_env()
    run.main()


def _module(path: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location("vlmeval.run", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
