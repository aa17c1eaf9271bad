"""Run VLMEvalKit's ``run.py`` with a policy in its table of models; VLMEvalKit has no entry point for models.

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

    Raises ImportError if VLMEvalKit is not installed, and ValueError if it already has a model of this name.
    """
    from vlmeval.config import supported_VLM

    from pairuni.harness.vlmevalkit_model import PairUni

    if name in supported_VLM:
        raise ValueError(f"VLMEvalKit already has a model {name!r}; choose another name")
    supported_VLM[name] = partial(PairUni, **arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Register a policy, then run VLMEvalKit's ``run.py`` with all other arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m pairuni.harness.vlmevalkit",
        description="Run VLMEvalKit on a policy. All other options, such as --data and --work-dir, are VLMEvalKit's.",
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, help="run.py of a VLMEvalKit checkout")
    parser.add_argument("--policy", required=True, help="checkpoint folder, hub name or tiny")
    parser.add_argument("--name", help="name in files and tables (default: the last part of --policy)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--max-new-tokens", type=int, default=2048, help="as VLMEvalKit's Janus (2048)")
    parser.add_argument("--several-images", default="all", choices=["all", "error", "row", "first"])
    own, of_run = parser.parse_known_args(arguments)
    if not own.run.is_file():
        parser.error(f"{own.run}: no such file; give the run.py of a VLMEvalKit checkout")
    if "--model" in of_run:
        parser.error("--model is set by --policy and --name")
    name = own.name or f"pairuni-{Path(own.policy).name}"
    sys.path.insert(0, str(own.run.resolve().parent))
    # First, because run.py assigns GPUs to processes before it imports torch.
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
