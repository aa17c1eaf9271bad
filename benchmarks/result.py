"""A result: measurements, hardware, command and settings as one JSON object and as a table."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from benchmarks import memory
from benchmarks.hardware import hardware
from benchmarks.settings import RolloutBenchSettings, WorkloadSettings

CONTENDERS = {
    "rollout": ("peers", "peers-batched", "transformers", "pairuni", "pairuni-joint"),
    "update": ("peers", "images-once", "sampled-positions", "pairuni", "pairuni-checkpointed"),
    "step": ("pairuni",),
    "checkpoint": ("none", "waiting", "pairuni"),
}
"""Contenders of each benchmark, a module of this package with ``contenders`` and ``measure``."""


def measure_workload(bench: str, settings: WorkloadSettings) -> dict[str, Any]:
    """Measure a workload. Memory comes first, in child processes, while this one holds no model.

    Raises ValueError for settings that the benchmark cannot run, before anything is built.
    """
    names = CONTENDERS[bench]
    skip = settings.skip if isinstance(settings, RolloutBenchSettings) else []
    for name in skip:
        if name not in names or name == "pairuni":
            known = ", ".join(one for one in names if one != "pairuni") or "nothing"
            raise ValueError(f"--skip {name}: bench {bench} can skip {known}")
    if bench == "rollout" and settings.guidance == 1.0 and "transformers" not in skip:
        raise ValueError("transformers generates no image without guidance; add --skip transformers")
    if torch.device(settings.device).type == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda, but torch finds no CUDA device; see `pairuni env`")
    peaks = memory.peaks(bench, [name for name in names if name not in skip], settings)
    numbers: dict[str, Any] = import_module(f"benchmarks.{bench}").measure(settings, peaks)
    return numbers


def described(
    bench: str,
    settings: Mapping[str, Any],
    numbers: Mapping[str, Any],
    *,
    device: torch.device,
    command: str,
    versions: Mapping[str, str],
) -> dict[str, Any]:
    """Numbers and the conditions of their measurement as one object.

    numbers: holds "contenders", name -> "seconds", "seconds_min", "seconds_max", "peak_bytes" and any of ``COLUMNS``.
    """
    return {
        "bench": bench,
        "command": command,
        "commit": commit(),
        "hardware": hardware(device),
        "versions": dict(versions),
        "settings": dict(settings),
        **numbers,
    }


def commit() -> str | None:
    """The commit of the checkout that this code runs from; None outside of a checkout.

    "+changes" is appended when code of the package or of the benchmarks differs from that commit.
    """
    here = Path(__file__).parent

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], cwd=here, capture_output=True, text=True)
        except FileNotFoundError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    head = git("rev-parse", "HEAD")
    if head is None or git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    code = (".", ":(exclude)results", "../src")
    return f"{head}+changes" if git("status", "--porcelain", "--", *code) else head


COLUMNS: dict[str, tuple[str, str]] = {
    "images_per_second": ("images/s", "{:,.3g}"),
    "image_tokens_per_second": ("image tokens/s", "{:,.0f}"),
    "tokens_per_second": ("tokens/s", "{:,.0f}"),
    "bandwidth_share": ("of bandwidth", "{:.1%}"),
    "matrix_share": ("of matrix rate", "{:.1%}"),
    "clustering_seconds": ("clustering s", "{:.3g}"),
    "retrieval_seconds": ("retrieval s", "{:.3g}"),
    "inertia": ("inertia", "{:,.0f}"),
    "cosines_share": ("of all cosines", "{:.1%}"),
    "recall": ("recall", "{:.4f}"),
    "estimated_recall": ("as estimated", "{:.4f}"),
    "edges": ("edges", "{:,}"),
    "pairs": ("pairs", "{:,}"),
    "total_similarity": ("total similarity", "{:,.0f}"),
    "mean_similarity": ("mean", "{:.3f}"),
    "rollout_seconds": ("rollout s", "{:.3g}"),
    "update_seconds": ("update s", "{:.3g}"),
    "held_seconds": ("training stands still s", "{:.3g}"),
    "checkpoint_seconds": ("a checkpoint adds s", "{:.3g}"),
    "interval_share": ("of an interval", "{:.2%}"),
    "pairs_per_second": ("pairs/s", "{:.3g}"),
    "times_one_process": ("times one process", "{:.2f}"),
    "trajectories_per_second": ("trajectories/s", "{:.3g}"),
    "step_share": ("of a step", "{:+.1%}"),
}
"""Key of a contender's numbers -> heading and format, in the table's order."""

SECONDS = "{seconds:.3g} ({seconds_min:.3g}, {seconds_max:.3g})"


def table(result: Mapping[str, Any]) -> Table:
    """One row per contender, with peak memory and time relative to ours."""
    rows = result["contenders"]
    ours = rows["pairuni"]["seconds"]
    keys = [key for key in COLUMNS if key in rows["pairuni"]]
    shown = Table(title=f"{result['bench']}: {title(result['settings'])}", caption=" ".join(facts(result)))
    shown.add_column("", no_wrap=True)
    for heading in ("seconds (min, max)", *(COLUMNS[key][0] for key in keys), "peak MiB", "time / ours"):
        shown.add_column(heading, justify="right")
    for name, row in rows.items():
        shown.add_row(
            name,
            SECONDS.format(**row),
            *(COLUMNS[key][1].format(row[key]) if key in row else "" for key in keys),
            f"{row['peak_bytes'] / 2**20:,.0f}",
            f"{row['seconds'] / ours:.2f}",
        )
    return shown


def title(settings: Mapping[str, Any]) -> str:
    """The main settings in one line."""
    size = f"{settings['prompts']} x {settings['rollouts']}" if "rollouts" in settings else ""
    vocabulary = f"{settings['vocab_size']:,} text tokens" if settings.get("vocab_size") else ""
    if "understanding" in settings:
        size = (
            f"{settings['understanding']:,} and {settings['generation']:,} features of "
            f"{settings['dimensions']:,} numbers, K = {settings['clusters']:,}"
        )
    named = (settings.get("model"), size, settings.get("device"), settings.get("dtype"), vocabulary)
    repeats = f"median of {settings['repeats']}" if "repeats" in settings else ""
    return ", ".join(part for part in (*named, repeats) if part)


def facts(result: Mapping[str, Any]) -> list[str]:
    """Sentences about numbers that the table does not show."""
    sentences = []
    if "joint_over_images_alone" in result:
        sentences.append(
            f"Answers and images together take {result['joint_over_images_alone']:.2f} times the time of the "
            "images alone."
        )
    if "decode_bytes_per_step" in result:
        moved = result["decode_bytes_per_step"]["distinct"]
        sentences.append(f"A decode step moves at least {moved / 1e6:,.4g} MB.")
    if "distinct_tokens" in result:
        sentences.append(
            f"{result['tokens']:,} tokens, {result['distinct_tokens']:,} with each prompt once: "
            f"{result['flops']['distinct'] / 1e12:,.3g} TFLOP."
        )
    if "peers" in result.get("held_memory_ratio", {}):
        ratio = result["held_memory_ratio"]["peers"]
        sentences.append(f"Beyond program and weights, peers holds {ratio:.2f} times our memory at its peak.")
    for task, name in (("understanding", "answers"), ("generation", "images")):
        difference = result.get("log_prob_differences", {}).get(
            f"{task}/sampling/sampling_logp_difference/mean"
        )
        if difference is not None:
            sentences.append(
                f"Log-probs of decoding and update differ by {difference:.1e} on average ({name})."
            )
    if "checkpoint_bytes" in result:
        every = result["settings"]["every"]
        sentences.append(
            f"A checkpoint has {result['checkpoint_bytes'] / 1e6:,.4g} MB, a step takes "
            f"{result['step_seconds']:.3g} s, an interval has {every} steps."
        )
    if "score_difference" in result:
        sentences.append(
            f"Scores of one at a time and of a batch differ by at most {result['score_difference']:.1e}."
        )
    if "estimates" in result:
        sentences.append(
            f"Over {len(result['by_step']['exact'])} steps the exact cosine has mean {result['exact_mean']:.4f} and "
            f"standard deviation {result['exact_std']:.4f}."
        )
        sentences += [
            f"Estimates from at most {int(most):,} coordinates of a parameter, {row['read']:.0%} of all, correlate "
            f"with it by {row['pearson']:.3f} and differ by {row['error']:.4f} (root mean square)."
            for most, row in result["estimates"].items()
        ]
    if "copy_bytes_per_second" in result:
        sentences.append(f"Measured copy: {result['copy_bytes_per_second'] / 1e9:,.4g} GB/s.")
    if "matrix_flops_per_second" in result:
        sentences.append(f"Measured matrix product: {result['matrix_flops_per_second'] / 1e12:,.3g} TFLOP/s.")
    return sentences
