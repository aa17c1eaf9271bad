"""All measurements, for a CPU and for a GPU; each writes one result file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pairuni.console.progress import Progress
from pairuni.io.files import write_text

CPU: Mapping[str, str] = {
    "rollout-tiny-cpu": "rollout --model tiny --prompts 8 --rollouts 8 --repeats 7 --device cpu",
    "update-tiny-cpu": "update --model tiny --prompts 8 --rollouts 8 --repeats 7 --device cpu",
    "update-tiny-100k-cpu": (
        "update --model tiny --vocab-size 100000 --prompts 8 --rollouts 8 --repeats 3 --device cpu"
    ),
    "step-tiny-cpu": "step --model tiny --prompts 2 --rollouts 8 --repeats 5 --device cpu",
    "checkpoint-tiny-100k-cpu": (
        "checkpoint --model tiny --vocab-size 100000 --prompts 1 --rollouts 2 --steps 5 --repeats 5 --device cpu"
    ),
    "processes-tiny-cpu": "processes --model tiny --prompts 16 --rollouts 8 --steps 6 --repeats 5",
    "agreement-tiny-cpu": "agreement --steps 100",
    "diffusion-small-cpu": "diffusion --model small --prompts 4 --rollouts 2 --repeats 5 --device cpu",
    "reward-small-cpu": "reward --model small --prompts 8 --rollouts 8 --repeats 7 --device cpu",
    "pairing-cpu": (
        "pairing --understanding 47000 --generation 60000 --dimensions 2048 --clusters 5000 --repeats 1"
    ),
    "candidates-25k-cpu": "candidates --understanding 11000 --generation 14000 --dimensions 2048 --repeats 3",
    "candidates-50k-cpu": "candidates --understanding 22000 --generation 28000 --dimensions 2048 --repeats 3",
    "candidates-100k-cpu": "candidates --understanding 44000 --generation 56000 --dimensions 2048 --repeats 3",
}

# the peers' loop takes minutes; measured separately, each case ends within ten. The 7B has room for the keys and
# values of one contender, 40 GB for 64 guided images
CUDA: Mapping[str, str] = {
    "rollout-1b-cuda": (
        "rollout --model janus-pro-1b --prompts 8 --rollouts 8 --repeats 3 --device cuda --skip peers"
    ),
    "rollout-1b-peers-cuda": (
        "rollout --model janus-pro-1b --prompts 8 --rollouts 8 --repeats 1 --device cuda "
        "--skip peers-batched --skip transformers"
    ),
    "rollout-7b-cuda": (
        "rollout --model janus-pro-7b --prompts 8 --rollouts 8 --repeats 1 --device cuda "
        "--skip peers-batched --skip transformers"
    ),
    "update-1b-cuda": "update --model janus-pro-1b --prompts 2 --rollouts 8 --repeats 5 --device cuda",
    "step-1b-cuda": (
        "step --model janus-pro-1b --prompts 2 --rollouts 8 --repeats 3 --micro-batch-tokens 8192 --device cuda"
    ),
    "step-1b-16-pairs-cuda": (
        "step --model janus-pro-1b --prompts 16 --rollouts 8 --repeats 3 --micro-batch-tokens 8192 --device cuda"
    ),
    "step-7b-lora-cuda": (
        "step --model janus-pro-7b --lora 32 --prompts 2 --rollouts 4 --repeats 3 --micro-batch-tokens 4096 "
        "--device cuda"
    ),
    "checkpoint-1b-cuda": (
        "checkpoint --model janus-pro-1b --prompts 2 --rollouts 8 --repeats 3 --micro-batch-tokens 8192 --device cuda"
    ),
    "diffusion-lumina-dimoo-cuda": (
        "diffusion --model lumina-dimoo --prompts 8 --rollouts 2 --repeats 1 --device cuda --skip replay"
    ),
    "reward-vit-h-14-cuda": "reward --model vit-h-14 --prompts 8 --rollouts 8 --repeats 3 --device cuda",
}


def run_all(cases: Mapping[str, str], out: Path) -> list[str]:
    """Run every case in a separate process and write its result to ``out``; return a sentence per failure.

    A case that fails leaves the earlier result in place and does not stop the others.
    """
    failed = []
    with Progress("benchmarks", total=len(cases), unit="cases") as progress:
        for name, words in cases.items():
            child = subprocess.run(
                [sys.executable, "-m", "benchmarks", *words.split(), "--json"],
                stdout=subprocess.PIPE,
                text=True,
            )
            if child.returncode:
                failed.append(f"{name} ended with code {child.returncode}: python -m benchmarks {words}")
            else:
                result = json.loads(child.stdout.splitlines()[-1])
                write_text(out / f"{name}.json", json.dumps(result, indent=2) + "\n")
            progress.advance(status=name)
    return failed


def chosen(device: str, only: Sequence[str]) -> Mapping[str, str]:
    """The cases for "cpu" or "cuda", or those of them that ``only`` names. ValueError for an unknown one."""
    cases = CPU if device == "cpu" else CUDA
    unknown = [name for name in only if name not in cases]
    if unknown:
        raise ValueError(f"there is no case {unknown[0]!r} for {device}; choose from {', '.join(cases)}")
    return {name: words for name, words in cases.items() if not only or name in only}
