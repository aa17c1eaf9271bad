"""Scoring a checkpoint on held-out items, and the official files of public benchmarks."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from pairuni.cli.errors import Interrupted
from pairuni.config import RunSettings
from pairuni.console.counts import counted
from pairuni.distributed.shares import Share, share_of
from pairuni.io.locks import folder_lock, target_lock
from pairuni.records import UGPair

if TYPE_CHECKING:
    from pairuni.evaluation.benchmark import Benchmark
    from pairuni.pairgrpo.rollout import Rewards
    from pairuni.policies.policy import UnifiedPolicy


logger = logging.getLogger("pairuni")


def in_training(
    settings: RunSettings, held_out: Sequence[UGPair], rewards: Rewards, out: Path
) -> Callable[[UnifiedPolicy, int], Mapping[str, float]] | None:
    """What a run scores itself with every ``evaluation.every`` steps; None when it never does.

    held_out: pairs that are not trained on, for the task "pairs". out: the run's folder, which keeps the images.
    Raises ValueError when ``out`` holds looks at other items, which would not compare.
    """
    chosen = settings.evaluation
    if chosen.every == 0:
        return None
    if chosen.task == "pairs":
        from pairuni.pairgrpo.held_out import HeldOutPairs

        _refuse_other_items(
            out,
            [pair.understand_ann.question for pair in held_out],
            [pair.generate_ann.prompt for pair in held_out],
        )
        return HeldOutPairs(
            pairs=held_out,
            image_folder=(chosen.pairs or settings.data.pairs).parent,
            rewards=rewards,
            rollout=settings.rollout,
            pairs_per_batch=settings.pairgrpo.pairs_per_batch,
            seed=settings.seed,
            out=out,
        )
    from pairuni.digits.evaluation import evaluate
    from pairuni.digits.world import held_out_items
    from pairuni.training.tracking import Progress, scores_in_words

    items = held_out_items(settings.seed, chosen.items)
    _refuse_other_items(
        out, [one.question.text for one in items.understanding], [one.prompt for one in items.generation]
    )

    def scores(policy: UnifiedPolicy, step: int) -> Mapping[str, float]:
        with Progress(f"held-out scenes at step {step}", total=2 * chosen.items, unit="items") as progress:
            result = evaluate(
                policy,
                items,
                guidance=settings.rollout.guidance,
                seed=settings.seed,
                advance=progress.advance,
            )
        result.write(out / "evaluation", f"step-{step:06d}")
        logger.info("held-out scenes at step %d: %s", step, scores_in_words(result.scores()))
        return result.scores()

    return scores


def _refuse_other_items(out: Path, questions: Sequence[str], prompts: Sequence[str]) -> None:
    from pairuni.report.held_out import read_looks

    for look in read_looks(out):
        asked = [item.question for item in look.understanding.items]
        drawn = [item.prompt for item in look.generation.items]
        if (asked, drawn) != (list(questions), list(prompts)):
            raise ValueError(
                f"{out} was evaluated on {counted(len(asked), 'question')} and {counted(len(drawn), 'prompt')} at step "
                f"{look.step}, which are not the {len(questions)} and {len(prompts)} that the settings hold out: "
                "set evaluation.items, "
                "evaluation.pairs and evaluation.task as they were, or train into another folder"
            )


def digits(model: Mapping[str, Any], items: int, out: Path | None) -> str:
    """Score a policy on ``items`` held-out items of the digits world a task; returns tables.

    Everything marked is written to ``out`` when that is given, and the run can go on there.
    """
    from pairuni.cli.digits_benchmark import BATCH, digits_benchmark

    if out is None and share_of(os.environ).world_size > 1:
        raise ValueError("several processes meet in the run's folder: give --out")
    with ExitStack() as stack:
        folder = out or Path(stack.enter_context(TemporaryDirectory()))
        benchmark = digits_benchmark(items, folder, seed=model["seed"])
        said = _run(benchmark, {**model, "batch_size": BATCH}, folder)
    return said if out is not None else said.rpartition("\n")[0]


def ask(
    task: Literal["pope", "mme", "mmstar", "mmmu"],
    model: Mapping[str, Any],
    data: Path,
    out: Path,
    *,
    max_new_tokens: int | None,
    **given: Any,
) -> str:
    """Run a model on a benchmark's questions and score it; returns tables and where the results are."""
    from pairuni.evaluation import choices, yes_no

    make: Callable[..., Benchmark] = {
        "pope": yes_no.pope_benchmark,
        "mme": yes_no.mme_benchmark,
        "mmstar": choices.mmstar_benchmark,
        "mmmu": choices.mmmu_benchmark,
    }[task]
    if max_new_tokens is not None:
        given["max_new_tokens"] = max_new_tokens
    return _run(make(data, out, **given), model, out)


def geneval(
    model: Mapping[str, Any],
    data: Path,
    out: Path,
    *,
    samples: int,
    limit: int | None,
    detector: str | None,
    clip: str,
) -> str:
    """Draw GenEval's images, and score them where there is a detector; returns tables, or what to do next."""
    from pairuni.evaluation.protocols.geneval_judging import judge_folder
    from pairuni.evaluation.text_to_image import GenEvalDetector, geneval_benchmark
    from pairuni.rewards.composition.loading import load_pipeline

    judging = None
    if detector is not None:
        device = _own_device(model["device"], share_of(os.environ))
        look = load_pipeline(detector, clip, device=device, settings="--")
        judging = GenEvalDetector(
            look.name,
            look.detector.labels,
            lambda folder, only, share: judge_folder(folder, look, out / "judged", only=only, share=share),
        )
    return _run(geneval_benchmark(data, out, samples=samples, limit=limit, detector=judging), model, out)


def wise(
    model: Mapping[str, Any],
    data: Path,
    out: Path,
    *,
    protocol: Literal["legacy", "verified"],
    limit: int | None,
    judge: Mapping[str, Any] | None,
    judge_prompt: Path | None,
) -> str:
    """Draw WISE's images, and score them where there is a judge; returns tables, or what to do next."""
    from pairuni.chat.endpoint import Endpoint
    from pairuni.config import EndpointSettings
    from pairuni.evaluation.protocols.wise_judge import MAX_TOKENS, own_prompt, read_prompt
    from pairuni.evaluation.text_to_image import WiseJudge, wise_benchmark

    judging = None
    if judge is not None:
        prompt = own_prompt(protocol) if judge_prompt is None else read_prompt(judge_prompt)
        prompt.protocol(protocol)  # refuses that of the other one before anything is drawn
        settings = EndpointSettings(**{"max_tokens": MAX_TOKENS, **judge})
        judging = WiseJudge(settings, Endpoint(settings, section="judge"), prompt)
    return _run(wise_benchmark(data, out, protocol=protocol, limit=limit, judge=judging), model, out)


def imgedit(model: str) -> str:
    """Raises ValueError: no policy takes an image to edit."""
    raise ValueError(
        f"{model} cannot edit images, nor can any policy here: Janus draws from text alone; "
        "pairuni eval score imgedit scores the judge's replies to the edits of another model"
    )


def _run(benchmark: Benchmark, model: Mapping[str, Any], out: Path) -> str:
    from pairuni.evaluation.benchmark import run_benchmark
    from pairuni.evaluation.running import Model

    share = share_of(os.environ)
    chosen = Model(**{**model, "device": _own_device(model["device"], share)})
    try:
        with folder_lock(out, f"eval {benchmark.name}", rank=share.rank):
            results = run_benchmark(benchmark, chosen, out, share)
    except KeyboardInterrupt:
        raise Interrupted(f"stopped; what is done is in {out}, the same command goes on") from None
    if results is None:
        return f"process {share.rank + 1} of {share.world_size}: done"
    if not results:
        return benchmark.unscored
    return "\n".join([*(result.table() for result in results), f"results: {out}"])


def _own_device(device: str, share: Share) -> str:
    """Of several processes, each takes a GPU of its own."""
    import torch

    if device not in {"auto", "cuda"} or share.world_size == 1 or not torch.cuda.is_available():
        return device
    return f"cuda:{share.local_rank % torch.cuda.device_count()}"


def judge_geneval(
    pictures: Path, out: Path, *, detector: str, clip: str, batch_size: int, device: str
) -> str:
    """Judge a folder of GenEval's images into ``out``; returns the score's table where all six tasks are there.

    What is judged so far is kept in ``<out>.records``, beside the file.
    """
    from pairuni.evaluation.protocols.geneval_files import TASKS, score, write_results
    from pairuni.evaluation.protocols.geneval_judging import judge_folder
    from pairuni.rewards.composition.loading import load_pipeline

    share = share_of(os.environ)
    look = load_pipeline(
        detector, clip, device=_own_device(device, share), batch_size=batch_size, settings="--"
    )
    with target_lock(out, "eval judge", rank=share.rank):
        judged = judge_folder(pictures, look, out.with_name(f"{out.name}.records"), share=share)
        if judged is None:
            return f"process {share.rank + 1} of {share.world_size}: done"
        write_results(out, judged)
    told = [f"{counted(len(judged), 'image')}: {out}"]
    missing = [task for task in TASKS if all(one.metadata["tag"] != task for one in judged)]
    if missing:
        told.append(f"no score, for which images of all six tasks are needed; missing: {', '.join(missing)}")
    else:
        told.insert(0, score(judged, detector=look.name).table())
    return "\n".join(told)


def score(
    task: str,
    paths: Sequence[Path],
    *,
    data: Path | None,
    judge: str | None,
    protocol: str | None,
    model: str | None,
    out: Path | None,
) -> str:
    """Score a benchmark's official files; returns tables, and writes a JSON a result into ``out``."""
    from pairuni.evaluation.tasks import Given, score_files

    given = Given(paths=paths, data=data, judge=judge, protocol=protocol)
    results = score_files(task, given, model=model)
    tables = [result.table() for result in results]
    if out is not None:
        with folder_lock(out, "eval score"):
            for result in results:
                path = out / f"{result.slug}.json"
                result.write(path)
                tables.append(f"result: {path}")
    return "\n".join(tables)


def compare(paths: Sequence[Path]) -> str:
    """Tables of results side by side, with the paper's figures."""
    from pairuni.evaluation.comparison import compare as side_by_side
    from pairuni.evaluation.result import read_result

    return side_by_side({path: read_result(path) for path in paths})
