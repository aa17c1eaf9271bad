"""The commands of ``python -m benchmarks``: speed and memory, compared with other implementations."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pairuni.cli.errors import Commands
from pairuni.console.terminal import make_visible

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Measure speed and memory, compared with other implementations.",
)

Model = Annotated[
    str, typer.Option(help="tiny, janus-pro-1b or janus-pro-7b; the latter with random weights.")
]
Prompts = Annotated[int, typer.Option(min=1, help="Prompts, or pairs.")]
Rollouts = Annotated[int, typer.Option(min=1, help="Trajectories of each prompt, K.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Dtype = Annotated[str, typer.Option(help="auto, float32 or bfloat16.")]
Repeats = Annotated[int, typer.Option(min=1, help="Measured repeats, after one that does not count.")]
AnswerTokens = Annotated[
    int | None, typer.Option(min=1, help="Most tokens of an answer; by default 16 for tiny, else 200.")
]
GuidanceWeight = Annotated[float, typer.Option(min=1.0, help="Classifier-free guidance.")]
Branch = Annotated[
    Literal["guided", "conditional"], typer.Option(help="Whose log-probs of images are taken.")
]
VocabSize = Annotated[int | None, typer.Option(min=1, help="Text tokens of the model, instead of its own.")]
Skip = Annotated[list[str] | None, typer.Option(help="A contender to leave out; may be given again.")]
UnderstandingRows = Annotated[int, typer.Option("--understanding", min=1, help="Features of U.")]
GenerationRows = Annotated[int, typer.Option("--generation", min=1, help="Features of G.")]
Dimensions = Annotated[int, typer.Option(min=2, help="Numbers of a feature.")]
Clusters = Annotated[int | None, typer.Option(min=1, help="K; by default one for 21 features.")]
Threshold = Annotated[float, typer.Option(min=0.0, max=1.0, help="Least cosine of a pair.")]
CandidatesEach = Annotated[
    int, typer.Option("--candidates", min=1, help="Neighbours weighed for each feature of G.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the JSON object alone.")]

COMMAND = ("python", "-m", "benchmarks")
"""How a user starts a benchmark; the first words of the command in a result."""

WIDTH = 140
"""Columns of a table that is not shown on a terminal."""


def _measure(bench: str, as_json: bool, **options: Any) -> None:
    from benchmarks.result import run
    from benchmarks.workload import Settings
    from pairuni.cli.environment import describe
    from pairuni.devices import resolve_device, resolve_dtype

    device = resolve_device(options.pop("device"))
    dtype = resolve_dtype(options.pop("dtype"), device)
    tokens = options.pop("answer_tokens") or (16 if options["model"] == "tiny" else 200)
    settings = Settings(
        **options,
        device=str(device),
        dtype=str(dtype).removeprefix("torch."),
        answer_tokens=tokens,
    )
    command = shlex.join([*COMMAND, *sys.argv[1:]])
    _show(run(bench, settings, command=command, versions=describe()), as_json)


def _show(result: dict[str, Any], as_json: bool) -> None:
    """A table, unless JSON alone is wanted, then the object as the last line."""
    if not as_json:
        from benchmarks.result import table
        from pairuni.console.rich_output import Console

        console = Console()
        if not console.is_terminal:
            console = Console(width=WIDTH)
        console.print(table(result))
    typer.echo(json.dumps(result))


@app.command()
def rollout(
    model: Model = "tiny",
    prompts: Prompts = 8,
    rollouts: Rollouts = 8,
    device: Device = "auto",
    dtype: Dtype = "auto",
    repeats: Repeats = 5,
    answer_tokens: AnswerTokens = None,
    guidance: GuidanceWeight = 5.0,
    branch: Branch = "guided",
    vocab_size: VocabSize = None,
    skip: Skip = None,
    as_json: AsJson = False,
) -> None:
    """Images a second: the peers' loop, transformers, ours, and ours with the answers of the same pairs."""
    _measure(
        "rollout",
        as_json,
        model=model,
        prompts=prompts,
        rollouts=rollouts,
        device=device,
        dtype=dtype,
        repeats=repeats,
        answer_tokens=answer_tokens,
        guidance=guidance,
        branch=branch,
        vocab_size=vocab_size,
        skip=tuple(skip or ()),
    )


@app.command()
def update(
    model: Model = "tiny",
    prompts: Prompts = 2,
    rollouts: Rollouts = 8,
    device: Device = "auto",
    dtype: Dtype = "auto",
    repeats: Repeats = 5,
    answer_tokens: AnswerTokens = None,
    guidance: GuidanceWeight = 5.0,
    branch: Branch = "conditional",
    vocab_size: VocabSize = None,
    skip: Skip = None,
    as_json: AsJson = False,
) -> None:
    """Tokens a second and memory of forward and backward: the peers' two passes, and ours."""
    _measure(
        "update",
        as_json,
        model=model,
        prompts=prompts,
        rollouts=rollouts,
        device=device,
        dtype=dtype,
        repeats=repeats,
        answer_tokens=answer_tokens,
        guidance=guidance,
        branch=branch,
        vocab_size=vocab_size,
        skip=tuple(skip or ()),
    )


@app.command()
def step(
    model: Model = "tiny",
    prompts: Prompts = 2,
    rollouts: Rollouts = 8,
    device: Device = "auto",
    dtype: Dtype = "auto",
    repeats: Repeats = 3,
    answer_tokens: AnswerTokens = None,
    guidance: GuidanceWeight = 5.0,
    branch: Branch = "guided",
    micro_batch_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of a forward pass.")] = None,
    as_json: AsJson = False,
) -> None:
    """A whole PairGRPO step with rewards that cost nothing: time of its parts and peak memory."""
    _measure(
        "step",
        as_json,
        model=model,
        prompts=prompts,
        rollouts=rollouts,
        device=device,
        dtype=dtype,
        repeats=repeats,
        answer_tokens=answer_tokens,
        guidance=guidance,
        branch=branch,
        micro_batch_tokens=micro_batch_tokens,
    )


@app.command()
def pairing(
    understanding: UnderstandingRows = 4700,
    generation: GenerationRows = 6000,
    dimensions: Dimensions = 512,
    clusters: Clusters = None,
    threshold: Threshold = 0.6,
    candidates: CandidatesEach = 32,
    repeats: Annotated[int, typer.Option(min=1, help="Measured repeats.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Selection on clustered features: the paper's way, best pairs first, and the largest total similarity."""
    sizes = (understanding, generation, dimensions, clusters, threshold, candidates, repeats)
    _select("pairing", as_json, *sizes)


@app.command("candidates")
def near_pairs(
    understanding: UnderstandingRows = 11_000,
    generation: GenerationRows = 14_000,
    dimensions: Dimensions = 512,
    clusters: Clusters = None,
    threshold: Threshold = 0.6,
    candidates: CandidatesEach = 32,
    repeats: Repeats = 3,
    as_json: AsJson = False,
) -> None:
    """The search for near pairs on clustered features: all with all, and by clusters."""
    sizes = (understanding, generation, dimensions, clusters, threshold, candidates, repeats)
    _select("candidates", as_json, *sizes)


@app.command()
def reward(
    model: Annotated[str, typer.Option(help="small or vit-h-14 (HPSv2's), with random weights.")] = "small",
    prompts: Prompts = 8,
    rollouts: Annotated[int, typer.Option(min=1, help="Images of each prompt, K.")] = 8,
    side: Annotated[int, typer.Option(min=1, help="Height and width of an image, in pixels.")] = 384,
    device: Device = "auto",
    dtype: Annotated[Literal["float32", "bfloat16"], typer.Option(help="Type of the weights.")] = "float32",
    repeats: Annotated[int, typer.Option(min=1, help="Measured repeats.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Images a second of a CLIP reward such as HPSv2: one at a time, prompts kept, and in a batch."""
    from benchmarks.result import described
    from benchmarks.reward import Settings, measure
    from pairuni.cli.environment import describe
    from pairuni.devices import check_device, resolve_device

    where = check_device(resolve_device(device))
    settings = Settings(
        model=model,
        prompts=prompts,
        rollouts=rollouts,
        side=side,
        device=str(where),
        dtype=dtype,
        repeats=repeats,
    )
    result = described(
        "reward",
        vars(settings),
        measure(settings),
        device=where,
        command=shlex.join([*COMMAND, *sys.argv[1:]]),
        versions=describe(),
    )
    _show(result, as_json)


def _select(
    bench: Literal["pairing", "candidates"],
    as_json: bool,
    understanding: int,
    generation: int,
    dimensions: int,
    clusters: int | None,
    threshold: float,
    candidates: int,
    repeats: int,
) -> None:
    import torch

    from benchmarks import candidates as near
    from benchmarks import pairing as whole
    from benchmarks.result import described
    from pairuni.cli.environment import describe

    settings = whole.Settings(
        understanding=understanding,
        generation=generation,
        dimensions=dimensions,
        clusters=clusters or max(1, round((understanding + generation) / 21)),
        threshold=threshold,
        candidates=candidates,
        repeats=repeats,
    )
    result = described(
        bench,
        vars(settings),
        whole.measure(settings) if bench == "pairing" else near.measure(settings),
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        command=shlex.join([*COMMAND, *sys.argv[1:]]),
        versions=describe(),
    )
    _show(result, as_json)


@app.command("all")
def everything(
    device: Annotated[
        Literal["cpu", "cuda"], typer.Option(help="The list for a processor or for a GPU.")
    ] = "cpu",
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("benchmarks/results"),
    only: Annotated[list[str] | None, typer.Option(help="A case of the list; may be given again.")] = None,
) -> None:
    """Run the whole list and write a file for each result. Wants a machine that does nothing else."""
    from benchmarks.suite import chosen, run_all
    from pairuni.io.locks import folder_lock

    cases = chosen(device, only or [])
    with folder_lock(out, "bench all"):
        failed = run_all(cases, out)
    for line in failed:
        typer.echo(line, err=True)
    if failed:
        raise typer.Exit(1)
    typer.echo(f"results: {out}")


@app.command("table")
def ladder(
    results: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("benchmarks/results"),
    page: Annotated[
        Path | None, typer.Option(help="Page to write the table into; else it is printed.")
    ] = None,
) -> None:
    """The results as Markdown, each a ladder whose rows add one thing."""
    from benchmarks.ladder import markdown, read_results, with_results
    from pairuni.io.files import write_text

    content = markdown(read_results(results))
    if page is None:
        typer.echo(content)
    else:
        write_text(page, with_results(page.read_text(encoding="utf-8"), content))
        typer.echo(page)


def main() -> None:
    make_visible()
    app(prog_name=" ".join(COMMAND))
