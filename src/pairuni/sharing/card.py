"""The model card: README.md with YAML front matter. It names no path and no address of the machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pairuni.io.markdown import inline, raw_table, table
from pairuni.io.publishing import TAG
from pairuni.sharing.samples import Samples
from pairuni.sharing.scores import Score, reward_name
from pairuni.sharing.source import Base, Source

MARK = (
    "<!-- Written by pairuni push, which replaces it each time. Remove this line to keep your own card. -->"
)
RECIPE, DATA_CARD = "recipe.toml", "data-card.md"
QUESTION, PROMPT = "What is in this image?", "a red umbrella on a market stall"
"""Of the examples in the card."""


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What the card says.

    repo: hub name; revision: its branch, if not the main one. architecture: the class of plain ``transformers`` that
    loads the model, None if there is none. model_type: of the base's config.json. adapter: the folder holds an adapter.
    pairs: number of training pairs, and by kind; empty if the pair file was not found. data: hub name of the pairs.
    """

    repo: str
    revision: str | None
    source: Source
    base: Base
    architecture: str | None
    model_type: str
    adapter: bool
    scores: Sequence[Score]
    samples: Samples
    pairs: Mapping[str, int]
    data: str | None
    license: str | None


def model_card(facts: CardFacts) -> str:
    """The text of README.md."""
    parts = [
        f"---\n{_front_matter(facts)}\n---",
        MARK,
        f"# {inline(facts.repo.partition('/')[2])}",
        _summary(facts),
        "## Use",
        *_use(facts),
        "## Scores",
        *_scores(facts),
        *_samples(facts.samples),
        "## Data",
        *_data(facts),
        "## Training",
        f"[`{RECIPE}`]({RECIPE}) holds all settings; `pairuni train {RECIPE} --data.pairs FILE` trains with them.",
        table(("setting", "value"), list(_settings(facts.source.settings))),
        "## Limits",
        "The model was trained with reinforcement learning against the rewards above, and can score higher on them "
        "without being better for people. It keeps the limits and biases of its base model. Neither its safety nor its "
        "quality on other data than named above was measured.",
        "## Licence",
        _license(facts),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(facts: CardFacts) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    library = "peft" if facts.adapter else "transformers"
    results = [
        EvalResult(
            task_type="any-to-any",
            dataset_type="other",
            dataset_name=score.benchmark,
            metric_type="score",
            metric_name=f"{score.protocol} ({score.unit})",
            metric_value=round(score.value, 4),
        )
        for score in facts.scores
    ]
    data = ModelCardData(
        license=facts.license,
        base_model=facts.base.hub,
        base_model_relation=("adapter" if facts.adapter else "finetune") if facts.base.hub else None,
        datasets=[facts.data] if facts.data else None,
        library_name=library if facts.architecture else TAG,
        pipeline_tag="any-to-any",
        tags=[TAG, "pairgrpo", facts.model_type, *(["lora"] if facts.adapter else [])],
        model_name=facts.repo.partition("/")[2] if results else None,
        eval_results=results or None,
    )
    return str(data.to_yaml())


def _summary(facts: CardFacts) -> str:
    from pairuni import __version__

    kind = "A LoRA adapter" if facts.adapter else "Weights"
    step = "" if facts.source.step is None else f" after {facts.source.step:,} steps"
    base = (
        f"[{facts.base.hub}](https://huggingface.co/{facts.base.hub})"
        if facts.base.hub
        else inline(facts.base.name)
    )
    return (
        f"{kind} of a unified vision-language model{step} of PairGRPO: it answers questions about images and generates "
        f"images from prompts. Base model: {base}. Method: PairUni "
        f"([arXiv:2510.25682](https://arxiv.org/abs/2510.25682)), as implemented by pairuni {__version__}."
    )


def _use(facts: CardFacts) -> Iterator[str]:
    if facts.architecture is None:
        yield "Plain `transformers` cannot sample from this model; pairuni loads it."
    else:
        package = "transformers` and `peft" if facts.adapter else "transformers"
        yield f"With plain `{package}`:"
        yield f"```python\n{_python(facts)}\n```"
    yield "With pairuni, which also generates images:"
    guidance = facts.source.settings.get("rollout", {}).get("guidance", 5.0)
    name, download = facts.repo, ""
    if facts.revision is not None:
        name = "model"
        download = f"hf download {facts.repo} --revision {facts.revision} --local-dir {name}\n"
    extra = "'pairuni[lora]'" if facts.adapter else "pairuni"
    yield (
        f"```bash\npip install {extra}\n{download}"
        f'pairuni answer image.png "{QUESTION}" --model {name}\n'
        f'pairuni draw "{PROMPT}" --model {name} --guidance {guidance:g} --out drawn.png\n```'
    )


def _python(facts: CardFacts) -> str:
    revision = "" if facts.revision is None else f', revision="{facts.revision}"'
    loads = facts.architecture
    if facts.adapter:
        first = f"from peft import PeftModel\nfrom PIL import Image\nfrom transformers import AutoProcessor, {loads}\n"
        model = (
            f'base = "{facts.base.hub}"\n'
            f'model = PeftModel.from_pretrained({loads}.from_pretrained(base), "{facts.repo}"{revision})\n'
            "processor = AutoProcessor.from_pretrained(base)"
        )
    else:
        first = f"from PIL import Image\nfrom transformers import AutoProcessor, {loads}\n"
        model = (
            f'model = {loads}.from_pretrained("{facts.repo}"{revision})\n'
            f'processor = AutoProcessor.from_pretrained("{facts.repo}"{revision})'
        )
    return f"""{first}
{model}
content = [{{"type": "image"}}, {{"type": "text", "text": "{QUESTION}"}}]
text = processor.apply_chat_template(
    [{{"role": "user", "content": content}}], add_generation_prompt=True, tokenize=False
)
inputs = processor(text=[text], images=[Image.open("image.png")], return_tensors="pt").to(model.device, model.dtype)
tokens = model.generate(**inputs, max_new_tokens=64, do_sample=False)
print(processor.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))"""


def _scores(facts: CardFacts) -> Iterator[str]:
    if not facts.scores:
        yield "No scores were measured."
        return
    rows = []
    for score in facts.scores:
        shown = _number(score)
        interval = (
            None if score.interval is None else f"{shown(score.interval[0])} to {shown(score.interval[1])}"
        )
        before = None if score.before is None else shown(score.before)
        row = (shown(score.value), interval, score.unit, before, score.items)
        rows.append((score.benchmark, score.protocol, *("" if cell is None else cell for cell in row)))
    head = ("benchmark", "protocol", "score", "95% interval", "unit", "before training", "items")
    yield table(head, rows)
    if facts.source.best_of is not None:
        yield (
            f"The checkpoint was chosen among {facts.source.best_of} by its held-out scores, so those are too "
            "optimistic; the intervals do not include this."
        )


def _number(score: Score) -> Any:
    """The format of a score's numbers: two decimals of percentages and sums, four of rewards."""
    return "{:.4f}".format if score.unit == "mean reward" else "{:.2f}".format


def _samples(samples: Samples) -> Iterator[str]:
    if not samples.images and not samples.answers:
        return
    yield "## Samples"
    yield f"{samples.origin}; not selected."
    if samples.images:
        half = 4
        for start in range(0, len(samples.images), half):
            row = samples.images[start : start + half]
            yield raw_table([f"![]({path})" for _, path in row], [[inline(prompt) for prompt, _ in row]])
    if samples.answers:
        yield table(("question", "reply", "expected"), samples.answers)


def _data(facts: CardFacts) -> Iterator[str]:
    chosen = facts.source.settings.get("data", {})
    if facts.data is not None:
        yield f"The pairs are [{facts.data}](https://huggingface.co/datasets/{facts.data})."
    if not facts.pairs:
        yield "The pair file was not available when this card was written."
        return
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in facts.pairs.items())
    used = [f"pairing `{inline(chosen.get('pairing', 'pairug'))}`"]
    if chosen.get("budget") is not None:
        used.append(f"of which {chosen['budget']:,} were sampled for training")
    yield (
        f"{sum(facts.pairs.values()):,} understanding-generation pairs ({kinds}), {', '.join(used)}. "
        f"[`{DATA_CARD}`]({DATA_CARD}) is the card of the data."
    )


def _settings(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The settings that describe a run best, of those that are known."""
    policy, grpo, rollout = (settings.get(name, {}) for name in ("policy", "pairgrpo", "rollout"))
    lora = policy.get("lora")
    length = {"epochs": grpo["epochs"]} if grpo.get("epochs") is not None else {"steps": grpo.get("steps")}
    known: dict[str, Any] = {
        "trained modules": ", ".join(policy.get("trainable", [])),
        "LoRA rank, alpha": None if lora is None else f"{lora.get('rank')}, {lora.get('alpha')}",
        **length,
        "pairs per batch, batches per step": f"{grpo.get('pairs_per_batch')}, {grpo.get('batches_per_step')}",
        "rollouts per question, per prompt": f"{rollout.get('understanding')}, {rollout.get('generation')}",
        "reward of answers": reward_name(settings, "understanding"),
        "reward of images": reward_name(settings, "generation"),
        "learning rate, schedule": f"{grpo.get('learning_rate')}, {grpo.get('schedule')}",
        "KL coefficient (beta)": grpo.get("beta"),
        "pair weight": grpo.get("pair_weight"),
        "guidance, log-probs": f"{rollout.get('guidance')}, {rollout.get('branch')}",
        "seed": settings.get("seed"),
    }
    for name, value in known.items():
        if value not in (None, "", "None, None"):
            yield name, value


def _license(facts: CardFacts) -> str:
    if facts.license is not None:
        return f"`{facts.license}`. Terms of the base model ({inline(facts.base.name)}) and of the training data apply."
    return (
        f"The terms of the base model ({inline(facts.base.name)}) apply, and those of the training data; see their "
        "cards."
    )
