"""`pairuni eval`: a model run on a benchmark and scored, or official files scored."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(no_args_is_help=True, help="Score a checkpoint.")

Model = Annotated[
    str, typer.Option(help="tiny, the folder of a model, a run or a checkpoint, or a hub name.")
]
Data = Annotated[Path, typer.Option(help="Folder of the benchmark's official files.")]
Images = Annotated[Path | None, typer.Option(help="Folder of its images; by default --data.")]
Out = Annotated[Path, typer.Option(help="Folder of the run; the same command there goes on.")]
Limit = Annotated[
    int | None,
    typer.Option(min=1, help="Run so many items, drawn evenly from all parts; the result says so."),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Replies or images that are made at once.")]
MaxNewTokens = Annotated[int | None, typer.Option(min=1, help="Longest reply in tokens.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything drawn at random.")]
Guidance = Annotated[
    float | None,
    typer.Option(
        min=1.0, help="Classifier-free guidance; 1 is none. By default the checkpoint's own, else 5."
    ),
]
Clip = Annotated[str, typer.Option(help="The CLIP that names colours: a folder or hub name.")]
CLIP = "openai/clip-vit-large-patch14"
Temperature = Annotated[float, typer.Option(min=0.0, help="Sampling temperature; 0 is greedy.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Dtype = Annotated[str, typer.Option(help="auto, float32 or bfloat16.")]


@app.command()
def digits(
    model: Model = "tiny",
    items: Annotated[int, typer.Option(min=1, help="Held-out items a task.")] = 510,
    guidance: Guidance = None,
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for every marked item; the same command there goes on.")
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Score both tasks on held-out scenes of handwritten digits."""
    from pairuni.cli.evaluation import digits as run

    chosen = {"name": model, "device": device, "dtype": dtype, "seed": seed, "guidance": guidance}
    typer.echo(run(chosen, items, out))


@app.command()
def pope(
    data: Data,
    out: Out,
    model: Model = "tiny",
    images: Images = None,
    limit: Limit = None,
    max_new_tokens: MaxNewTokens = None,
    batch_size: BatchSize = 64,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """POPE: questions on objects in COCO images, three splits."""
    from pairuni.cli.evaluation import ask

    chosen = _model(model, batch_size, device, dtype)
    typer.echo(ask("pope", chosen, data, out, images=images, limit=limit, max_new_tokens=max_new_tokens))


@app.command()
def mme(
    data: Data,
    out: Out,
    model: Model = "tiny",
    images: Images = None,
    limit: Limit = None,
    max_new_tokens: MaxNewTokens = None,
    batch_size: BatchSize = 64,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """MME: yes/no questions of 10 or 14 categories; --limit counts images."""
    from pairuni.cli.evaluation import ask

    chosen = _model(model, batch_size, device, dtype)
    typer.echo(ask("mme", chosen, data, out, images=images, limit=limit, max_new_tokens=max_new_tokens))


@app.command()
def mmstar(
    data: Data,
    out: Out,
    model: Model = "tiny",
    limit: Limit = None,
    max_new_tokens: MaxNewTokens = None,
    batch_size: BatchSize = 64,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """MMStar: multiple choice in six categories."""
    from pairuni.cli.evaluation import ask

    chosen = _model(model, batch_size, device, dtype)
    typer.echo(ask("mmstar", chosen, data, out, limit=limit, max_new_tokens=max_new_tokens))


@app.command()
def mmmu(
    data: Data,
    out: Out,
    model: Model = "tiny",
    limit: Limit = None,
    max_new_tokens: MaxNewTokens = None,
    batch_size: BatchSize = 64,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """MMMU validation: multiple choice and open questions of 30 subjects."""
    from pairuni.cli.evaluation import ask

    chosen = _model(model, batch_size, device, dtype)
    typer.echo(ask("mmmu", chosen, data, out, limit=limit, max_new_tokens=max_new_tokens))


@app.command()
def geneval(
    data: Data,
    out: Out,
    model: Model = "tiny",
    samples: Annotated[int, typer.Option(min=1, help="Images of each prompt.")] = 4,
    detector: Annotated[
        str | None, typer.Option(help="Who finds the objects, as for eval judge; none draws only.")
    ] = None,
    clip: Clip = CLIP,
    limit: Limit = None,
    batch_size: BatchSize = 64,
    seed: Seed = 0,
    guidance: Guidance = None,
    temperature: Temperature = 1.0,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """GenEval: 4 images of each of 553 prompts, in the official folders, judged where there is a detector."""
    from pairuni.cli.evaluation import geneval as run

    chosen = _model(model, batch_size, device, dtype)
    chosen |= {"seed": seed, "guidance": guidance, "temperature": temperature}
    typer.echo(run(chosen, data, out, samples=samples, limit=limit, detector=detector, clip=clip))


@app.command()
def wise(
    data: Data,
    out: Out,
    model: Model = "tiny",
    protocol: Annotated[
        Literal["legacy", "verified"], typer.Option(help="The paper's, or the authors' newer one.")
    ] = "legacy",
    judge: Annotated[
        str | None, typer.Option(help="The judge's name at the endpoint, such as gpt-4o.")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="The endpoint, such as http://localhost:8000/v1; else OpenAI's.")
    ] = None,
    judge_prompt: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="WISE's gpt_eval.py or vllm_eval.py, or a text."),
    ] = None,
    judge_temperature: Annotated[
        float,
        typer.Option(min=0.0, help="The judge's temperature; other than the official 0, the score says so."),
    ] = 0.0,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests to the judge at once.")] = 8,
    limit: Limit = None,
    batch_size: BatchSize = 64,
    seed: Seed = 0,
    guidance: Guidance = None,
    temperature: Temperature = 1.0,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """WISE: an image of each of 1000 prompts, marked by a judge; its key is read from OPENAI_API_KEY."""
    from pairuni.cli.evaluation import wise as run

    chosen = _model(model, batch_size, device, dtype)
    chosen |= {"seed": seed, "guidance": guidance, "temperature": temperature}
    asked = {
        "model": judge,
        "base_url": base_url,
        "concurrency": concurrency,
        "temperature": judge_temperature,
    }
    typer.echo(
        run(
            chosen,
            data,
            out,
            protocol=protocol,
            limit=limit,
            judge=None if judge is None else asked,
            judge_prompt=judge_prompt,
        )
    )


@app.command()
def judge(
    task: Annotated[Literal["geneval"], typer.Argument(help="geneval.")],
    pictures: Annotated[
        Path, typer.Argument(help="The folder of images in the official layout: 00000/samples/0000.png.")
    ],
    out: Annotated[Path, typer.Option(help="The official results file; the same command goes on.")] = Path(
        "results.jsonl"
    ),
    detector: Annotated[
        str,
        typer.Option(help="A folder or hub name (Mask2Former, DETR and its kin), digits, or module:Class."),
    ] = "facebook/mask2former-swin-small-coco-instance",
    clip: Clip = CLIP,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per forward pass of the detector.")] = 8,
    device: Device = "auto",
) -> None:
    """Judge images by a detector and the official rules; writes the official results file and the score."""
    from pairuni.cli.evaluation import judge_geneval

    typer.echo(
        judge_geneval(pictures, out, detector=detector, clip=clip, batch_size=batch_size, device=device)
    )


@app.command()
def imgedit(model: Model = "tiny") -> None:
    """ImgEdit: says why no model here can be run on it; its judge's replies are scored by eval score."""
    from pairuni.cli.evaluation import imgedit as run

    typer.echo(run(model))


@app.command()
def score(
    task: Annotated[str, typer.Argument(help="mme, pope, mmmu, mmstar, geneval, wise or imgedit.")],
    paths: Annotated[list[Path], typer.Argument(help="The benchmark's official files, or their folder.")],
    data: Annotated[
        Path | None, typer.Option(help="POPE's folder of questions; ImgEdit's basic_edit.json.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="What judged: a model (WISE, ImgEdit) or a detector (GenEval).")
    ] = None,
    protocol: Annotated[str | None, typer.Option(help="WISE: legacy or verified.")] = None,
    model: Annotated[str | None, typer.Option(help="Whose files they are, for the record.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results as JSON.")] = None,
) -> None:
    """Score the official files of a public benchmark by its official rules."""
    from pairuni.cli.evaluation import score as run

    typer.echo(run(task, paths, data=data, judge=judge, protocol=protocol, model=model, out=out))


def _model(name: str, batch_size: int, device: str, dtype: str) -> dict[str, object]:
    return {"name": name, "batch_size": batch_size, "device": device, "dtype": dtype}
