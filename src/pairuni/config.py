"""Typed settings: TOML recipes and dotted overrides. Imports no torch.

Unknown keys and impossible values fail here, before anything loads. Where the paper (arXiv:2510.25682)
gives a value, the default is that value and the field says so.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

Pairing = Literal[
    "pairug", "random", "unpaired", "aligned", "retrieved", "understanding-only", "generation-only"
]
Matching = Literal["sequential", "greedy", "optimal"]
Clustering = Literal["torch", "faiss", "reference"]
PairWeight = Literal["sqrt", "linear", "none"]
RewardNormalisation = Literal["sum", "each"]
TokenReduction = Literal["sequence-mean", "token-mean", "sequence-sum"]
LogProbBranchName = Literal["guided", "conditional"]

UserPath = Annotated[Path, Field(strict=False)]
"""A path written as a string in TOML, relative to the working directory."""


def _as_inputs(given: Any) -> Any:
    """One input or several, as strings: a path stands for itself, a string may list several with commas."""
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
    """Base of all settings: frozen, strict, unknown keys refused; attribute docstrings are descriptions."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,
    )


class PolicySettings(Settings):
    """The unified model that is trained."""

    model: str = Field(default="tiny", min_length=1)
    """A shipped name ("tiny"), a folder, or a hub id such as deepseek-community/Janus-Pro-1B."""
    trains: list[str] = Field(default=["language_model", "generation_head"], min_length=1)
    """Parts that train; vision towers and VQ stay frozen unless named."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute type; auto is bfloat16 where the device has it, else float32."""
    device: str = Field(default="auto", min_length=1)
    """auto, cpu, cuda or cuda:N."""
    activation_checkpointing: bool = False
    """Keep one state a layer in the update and compute the rest again: less memory, a third more time."""


class DataSettings(Settings):
    """The pairs, and how the two sides are put together."""

    pairs: UserPath
    """PairUG file: JSONL or parquet."""
    pairing: Pairing = "pairug"
    """Which pairs to train on; the other values are the paper's ablations."""
    budget: int | None = Field(default=None, ge=1)
    """Number of pairs to keep, drawn by seed; none keeps all (paper: 16,320)."""


class RolloutSettings(Settings):
    """How trajectories are sampled."""

    understanding: int = Field(default=8, ge=2)
    """K_u, answers a question (paper: 8 for 1B, 4 for 7B)."""
    generation: int = Field(default=8, ge=2)
    """K_g, pictures a prompt (paper: 8 for 1B, 4 for 7B)."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature of both tasks (paper: 1.0)."""
    guidance: float = Field(default=5.0, ge=1)
    """Classifier-free guidance weight of image sampling (paper: 5); 1 turns guidance off."""
    branch: LogProbBranchName = "guided"
    """Image log-probs of the guided logits that sampled, or of the conditional logits (paper: not stated)."""
    max_new_tokens: int = Field(default=512, ge=1)
    """Longest answer in tokens (paper: not stated)."""


class EndpointSettings(Settings):
    """How a model behind an OpenAI-compatible endpoint is asked."""

    model: str = ""
    """The model's name at the endpoint."""
    base_url: str | None = Field(default=None, min_length=1)
    """The endpoint, such as http://localhost:8000/v1; none is OPENAI_BASE_URL, else OpenAI's own."""
    key_variable: str = Field(default="OPENAI_API_KEY", min_length=1)
    """Name of the environment variable that holds the key; the key itself is never a setting."""
    concurrency: int = Field(default=8, ge=1)
    """Requests in flight at once."""
    structured: Literal["auto", "schema", "object", "text"] = "auto"
    """How replies are made JSON: by schema, as any JSON object, by the prompt alone; auto takes what works."""
    temperature: float | None = Field(default=None, ge=0)
    """Sampling temperature; none is the server's own."""
    max_tokens: int = Field(default=2048, ge=1)
    """Longest reply, reasoning included."""
    image_side: int = Field(default=1024, ge=32)
    """Longest side of a picture as it is sent, in pixels; larger ones are scaled down."""
    timeout: float = Field(default=120.0, gt=0)
    """Seconds without a byte after which a request counts as lost."""
    deadline: float | None = Field(default=None, gt=0)
    """Seconds in all after which it does, also while bytes keep coming; none is five times ``timeout``."""
    max_retries: int = Field(default=6, ge=0)
    """Times that a request is sent again after a lost one, a 429 or a 5xx."""


class HPSv2Settings(Settings):
    """The reward hpsv2: Human Preference Score v2 (arXiv:2306.09341)."""

    checkpoint: str = Field(default="xswu/HPSv2", min_length=1)
    """The original's file (.pt, .safetensors), a transformers CLIP folder, or a hub name."""
    version: Literal["2.0", "2.1"] = "2.1"
    """Which version the checkpoint is; scores of the two do not compare (paper: not stated)."""
    tokenizer: str = Field(default="openai/clip-vit-large-patch14", min_length=1)
    """CLIP's vocabulary: a transformers folder, a hub name or open_clip's bpe_simple_vocab_16e6.txt.gz."""
    device: str = Field(default="auto", min_length=1)
    """Where it runs: auto, cpu, cuda or cuda:N; auto is what auto means for the policy."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of weights and features; the cosine is in float32 either way."""
    batch_size: int = Field(default=64, ge=1)
    """Pictures per forward pass."""


class ClipSettings(Settings):
    """The reward clip: cosine under a CLIP model."""

    model: str = Field(default="openai/clip-vit-large-patch14", min_length=1)
    """A transformers CLIP folder or hub name."""
    processor: str | None = Field(default=None, min_length=1)
    """Folder or hub name of tokenizer and preprocessing; none is the model's own."""
    device: str = Field(default="auto", min_length=1)
    """Where it runs: auto, cpu, cuda or cuda:N; auto is what auto means for the policy."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of weights and features; the cosine is in float32 either way."""
    batch_size: int = Field(default=64, ge=1)
    """Pictures per forward pass."""


class PickScoreSettings(ClipSettings):
    """The reward pickscore (arXiv:2305.01569): a CLIP model's cosine times its learned scale."""

    model: str = Field(default="yuvalkirstain/PickScore_v1", min_length=1)
    """A transformers CLIP folder or hub name."""
    processor: str | None = Field(default="laion/CLIP-ViT-H-14-laion2B-s32B-b79K", min_length=1)
    """Folder or hub name of tokenizer and preprocessing; none is the model's own."""


class JudgeSettings(EndpointSettings):
    """The reward judge: a vision-language model that marks pictures by a rubric."""

    rubric: UserPath | None = None
    """A text file that says what to judge, with fields of the record such as {prompt}; none is the shipped one."""
    lowest: float = 0.0
    """The least score; {lowest} in the rubric."""
    highest: float = 10.0
    """The largest score; {highest} in the rubric."""
    max_retries: int = Field(default=3, ge=0)
    """Times that a request is sent again after a lost one, a 429 or a 5xx."""


class RemoteSettings(Settings):
    """The reward remote: a server that pairuni serve-reward, or anything that speaks as it does, runs."""

    url: str = ""
    """Where it is, such as http://gpu-2:8100."""
    token_variable: str = Field(default="PAIRUNI_REWARD_TOKEN", min_length=1)
    """Name of the environment variable that holds the server's token, if it wants one."""
    batch_size: int = Field(default=32, ge=1)
    """Samples a request."""
    concurrency: int = Field(default=2, ge=1)
    """Requests in flight at once: one is scored while the next is packed and sent."""
    timeout: float = Field(default=120.0, gt=0)
    """Seconds without a byte after which a request counts as lost."""
    max_retries: int = Field(default=3, ge=0)
    """Times that a request is sent again after a lost one or a 5xx."""


class CompositionSettings(Settings):
    """The reward composition: objects, numbers, colours and positions, by a detector and GenEval's rules."""

    detector: str = Field(default="facebook/mask2former-swin-small-coco-instance", min_length=1)
    """A transformers folder or hub name (Mask2Former, DETR and its kin), digits, or package.module:Class."""
    clip: str = Field(default="openai/clip-vit-large-patch14", min_length=1)
    """The CLIP that names colours, a transformers folder or hub name; unused where the detector names them."""
    mode: Literal["graded", "strict"] = "graded"
    """Share of the asked facts that hold, or GenEval's decision, 0 or 1."""
    threshold: float = Field(default=0.3, ge=0, lt=1)
    """Confidence that an object must exceed (GenEval: 0.3)."""
    counting_threshold: float = Field(default=0.9, ge=0, lt=1)
    """The same for records with the tag counting (GenEval: 0.9)."""
    device: str = Field(default="auto", min_length=1)
    """Where both run: auto, cpu, cuda or cuda:N; auto is what auto means for the policy."""
    batch_size: int = Field(default=8, ge=1)
    """Pictures per forward pass of the detector."""


class RewardSettings(Settings):
    """Rewards, and what the named ones need: a short name, "package.module:Class" of your own, or a weighted sum."""

    understanding: str = Field(default="accuracy", min_length=1)
    """Reward of answers, such as "accuracy + 0.1 * format" (paper: 1 if the answer equals the truth, else 0)."""
    generation: str = Field(default="digits", min_length=1)
    """Reward of pictures, such as "hpsv2 + 0.5 * clip" (paper: HPSv2)."""
    normalise: RewardNormalisation = "sum"
    """Of a sum: add up, then normalise within each group (sum), or normalise each, then average by weight (each)."""
    timeout: float | None = Field(default=600.0, gt=0)
    """Seconds that a reward may take for a batch of rollouts before the run stops; none waits for ever."""
    hpsv2: HPSv2Settings = HPSv2Settings()
    """What the reward hpsv2 needs."""
    clip: ClipSettings = ClipSettings()
    """What the reward clip needs."""
    pickscore: PickScoreSettings = PickScoreSettings()
    """What the reward pickscore needs."""
    judge: JudgeSettings = JudgeSettings()
    """What the reward judge needs."""
    remote: RemoteSettings = RemoteSettings()
    """What the reward remote needs."""
    composition: CompositionSettings = CompositionSettings()
    """What the reward composition needs."""


class PairGRPOSettings(Settings):
    """The update (paper section 2.2)."""

    steps: int = Field(default=1200, ge=1)
    """Number of rollout-and-update steps (paper: at most 1200)."""
    pairs_per_step: int = Field(default=2, ge=1)
    """Pairs per device and accumulation step (paper: 2; 16 over 8 GPUs)."""
    gradient_accumulation: int = Field(default=1, ge=1)
    """Batches of pairs whose gradients are summed into one update (paper: not stated)."""
    micro_batch_tokens: int | None = Field(default=None, ge=1)
    """Tokens per forward pass of the update; none takes all at once. Does not change the gradient."""
    updates_per_batch: int = Field(default=1, ge=1)
    """Optimizer updates on each batch of rollouts (paper: not stated; 1 is on-policy)."""
    learning_rate: float = Field(default=1e-6, gt=0)
    """AdamW's learning rate after warm-up (paper: 1e-6)."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises linearly from 0 (paper: not stated)."""
    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's decoupled weight decay (paper: not stated)."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients are scaled down to this global L2 norm (paper: not stated)."""
    pair_weight: PairWeight = "sqrt"
    """w_p of a retrieved pair from its similarity (paper: sqrt; linear and none are ablations)."""
    clip_low: float = Field(default=0.2, gt=0, lt=1)
    """The ratio is clipped below 1 - clip_low (paper: not stated; 0.2 is customary)."""
    clip_high: float = Field(default=0.2, gt=0)
    """The ratio is clipped above 1 + clip_high (paper: not stated; 0.2 is customary)."""
    beta: float = Field(default=0.0, ge=0)
    """Weight of the KL to the frozen reference (paper: 0)."""
    token_reduction: TokenReduction = "sequence-mean"
    """How token losses become one loss (paper: not stated; mean of sequence means is customary)."""
    understanding_weight: float = Field(default=1.0, ge=0)
    """Factor on the understanding loss (paper: 1)."""
    generation_weight: float = Field(default=1.0, ge=0)
    """Factor on the generation loss (paper: 1)."""
    std_guard: float = Field(default=1e-4, ge=0)
    """Added to the group's standard deviation (paper: not stated; 1e-4 is customary)."""


class EvaluationSettings(Settings):
    """Held-out evaluation during training."""

    every: int = Field(default=0, ge=0)
    """Steps between evaluations, whose scores join metrics.jsonl as eval/<task>, the untouched policy's as step 0;
    0 evaluates never."""
    task: Literal["pairs", "digits"] = "pairs"
    """What is evaluated on: pairs that are not trained on, by the run's rewards; or scenes of the embedded world."""
    pairs: UserPath | None = None
    """PairUG file of held-out pairs; none keeps ``items`` pairs of data.pairs out of training."""
    items: int = Field(default=120, ge=1)
    """Held-out items of each task; with ``pairs``, at most so many of the file."""
    most_excluded: float = Field(default=0.5, gt=0, lt=1)
    """Largest share of the training pairs that may be left out because their picture or prompt is held out."""


class CheckpointSettings(Settings):
    """Checkpoints, from which a run resumes."""

    every: int = Field(default=100, ge=0)
    """Steps between checkpoints; 0 writes none until the end."""
    keep: int = Field(default=2, ge=1)
    """Newest checkpoints that are kept."""


class LoggingSettings(Settings):
    """What a run writes down besides one line of metrics a step."""

    samples_every: int = Field(default=10, ge=0)
    """Steps between saved pictures and answers; 0 saves none."""


class RunSettings(Settings):
    """Everything that decides a training run."""

    seed: int = Field(default=0, ge=0)
    """Seeds data order, rollouts and initialisation."""
    policy: PolicySettings = PolicySettings()
    data: DataSettings
    rollout: RolloutSettings = RolloutSettings()
    reward: RewardSettings = RewardSettings()
    pairgrpo: PairGRPOSettings = PairGRPOSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    logging: LoggingSettings = LoggingSettings()


S = TypeVar("S", bound=Settings)


def load_settings(cls: type[S], recipe: Path | None = None, overrides: Sequence[str] = ()) -> S:
    """Settings from a TOML recipe, then dotted overrides: ``["--pairgrpo.learning-rate", "2e-6"]``.

    Keys may be written with hyphens or underscores, an override as two words or as ``--key=value``.
    Raises FileNotFoundError when the recipe is missing and ValueError, one sentence a mistake, naming the
    key, the value given and what is allowed.
    """
    values: dict[str, Any] = {} if recipe is None else _normalise(_read_toml(recipe))
    given = _parse_overrides(cls, overrides)
    for path, value in given.items():
        table = values
        for part in path[:-1]:
            inner = table.setdefault(part, {})
            if not isinstance(inner, dict):
                inner = table[part] = {}
            table = inner
        table[path[-1]] = value
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        sentences = []
        for details in error.errors(include_url=False):
            loc = tuple(str(part) for part in details["loc"])
            key = ".".join(part for part in loc if not part.isdigit())
            if loc in given:
                where = "--" + key.replace("_", "-")
            else:
                where = f"{recipe}: {key}" if recipe is not None and details["type"] != "missing" else key
            sentences.append(_sentence(cls, where, key, dict(details)))
        raise ValueError("\n".join(sentences)) from None


def to_toml(settings: Settings) -> str:
    """The settings as TOML, which ``load_settings`` reads back to an equal object; None is left out."""
    lines: list[str] = []
    _write_table(settings.model_dump(mode="json"), (), lines)
    return "\n".join(lines).strip() + "\n"


def setting_keys(cls: type[Settings]) -> dict[str, Any]:
    """Every dotted key of a settings class with its annotation."""
    keys: dict[str, Any] = {}
    for name, field in cls.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, Settings):
            keys.update({f"{name}.{key}": inner for key, inner in setting_keys(annotation).items()})
        else:
            keys[name] = annotation
    return keys


def _read_toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such recipe; a recipe is a TOML file such as recipes/digits.toml"
        )
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from None


def _normalise(table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key.replace("-", "_"): _normalise(value) if isinstance(value, Mapping) else value
        for key, value in table.items()
    }


def _parse_overrides(cls: type[Settings], words: Sequence[str]) -> dict[tuple[str, ...], Any]:
    keys = setting_keys(cls)
    given: dict[tuple[str, ...], Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or len(word) == 2:
            raise ValueError(f"{word!r} is not a setting; write settings as --section.key value")
        flag, equals, text = word.partition("=")
        key = flag[2:].replace("-", "_")
        if key not in keys:
            raise ValueError(_unknown(cls, flag, key))
        if not equals:
            if not rest:
                raise ValueError(f"{flag} needs a value; write {flag} VALUE or {flag}=VALUE")
            text = rest.pop(0)
        given[tuple(key.split("."))] = _parse_value(keys[key], text)
    return given


def _parse_value(annotation: Any, text: str) -> Any:
    """The value that ``text`` stands for in a field of this type; what does not parse stays a string."""
    options = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
    if type(None) in options and text.lower() in {"none", "null"}:
        return None
    wanted = {typing.get_origin(option) or option for option in options}
    if list in wanted and not text.lstrip().startswith("["):
        return split_list(text)
    if wanted & {int, float, bool, list}:
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            return text
    return text


def split_list(text: str) -> list[str]:
    """The parts of a comma-separated list; a comma in quotes after an equals sign separates nothing."""
    return [part.strip() for part in re.findall(r"""(?:='[^']*'|="[^"]*"|[^,])+""", text)]


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in {typing.Union, types.UnionType}


_OTHER_NAMES = {
    "lr": "pairgrpo.learning_rate",
    "max_steps": "pairgrpo.steps",
    "batch_size": "pairgrpo.pairs_per_step",
    "per_device_train_batch_size": "pairgrpo.pairs_per_step",
    "gradient_accumulation_steps": "pairgrpo.gradient_accumulation",
    "warmup": "pairgrpo.warmup_steps",
    "kl_coef": "pairgrpo.beta",
    "epsilon": "pairgrpo.clip_low",
    "epsilon_high": "pairgrpo.clip_high",
    "num_generations": "rollout.generation",
    "max_completion_length": "rollout.max_new_tokens",
    "max_tokens": "rollout.max_new_tokens",
    "cfg": "rollout.guidance",
    "guidance_scale": "rollout.guidance",
    "save_steps": "checkpoint.every",
    "save_total_limit": "checkpoint.keep",
    "eval_steps": "evaluation.every",
    "logging_steps": "logging.samples_every",
    "model_name": "policy.model",
    "model_name_or_path": "policy.model",
    "gradient_checkpointing": "policy.activation_checkpointing",
    "bf16": "policy.dtype",
    "dataset": "data.pairs",
    "train_file": "data.pairs",
    "k": "clusters",
    "delta": "threshold",
    "output_dir": "out",
}
"""What others call settings -> the dotted key here, in whichever class has it."""


def _unknown(cls: type[Settings], where: str, key: str) -> str:
    keys = setting_keys(cls)
    flags = where.startswith("--")
    other = _OTHER_NAMES.get(key.rpartition(".")[2], "")
    if other in keys:
        return f"{where} is not a setting; did you mean {_written(other, flags)}?"
    section, _, leaf = key.rpartition(".")
    siblings = [known for known in keys if section and known.rpartition(".")[0] == section]
    leaves = {known.rpartition(".")[2] for known in siblings or keys}
    names = [leaf] if leaf in leaves else difflib.get_close_matches(leaf, leaves, n=1, cutoff=0.7)
    close = [known for known in siblings or keys if known.rpartition(".")[2] in names]
    if section and not siblings:
        sections = {known.rpartition(".")[0] for known in close}
        near = difflib.get_close_matches(section, sections, n=1)
        close = [known for known in close if known.rpartition(".")[0] in near] or close
    if not close and siblings:
        close = [known for known in keys if known.rpartition(".")[2] == leaf]
    if close:
        hint = f"did you mean {' or '.join(_written(known, flags) for known in close[:3])}?"
    else:
        tops = dict.fromkeys(known.partition(".")[0] for known in keys)
        hint = f"known: {', '.join(siblings or tops)}"
    return f"{where} is not a setting; {hint}"


def _written(key: str, flag: bool) -> str:
    """A key as in a recipe, or as on the command line."""
    return f"--{key.replace('_', '-')}" if flag else key


_TYPE_WORDS = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be a string",
    "list_type": "must be a list",
    "path_type": "must be a path",
    "finite_number": "must be a finite number",
    "model_type": "must be a table",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
}


def _sentence(cls: type[Settings], where: str, key: str, details: dict[str, Any]) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown(cls, where, key)
    if kind == "missing":
        inner = [known for known in setting_keys(cls) if known.startswith(key + ".")]
        key = inner[0] if inner else key
        return f"{key} is required; set it in the recipe or with --{key.replace('_', '-')} VALUE"
    if kind == "literal_error":
        allowed = f"must be one of {context['expected'].replace(' or ', ', ')}"
    elif kind in _TYPE_WORDS:
        allowed = _TYPE_WORDS[kind]
    else:
        message = details["msg"].removeprefix("Value error, ")
        allowed = message.replace("Input should be", "must be", 1)
    return f"{where} is {details['input']!r}, but {allowed}"


def _write_table(table: Mapping[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    tables = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    if path and len(tables) < len(table):
        lines += ["", f"[{'.'.join(path)}]"]
    for key, value in table.items():
        if key not in tables and value is not None:
            lines.append(f"{key} = {_toml_value(value)}")
    for key, value in tables.items():
        _write_table(value, (*path, key), lines)


def _toml_value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_toml_value(item) for item in value)}]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


class CompletionSettings(EndpointSettings):
    """The vision-language model that completes samples, when ``completer`` is endpoint, batch or local."""

    model: str = ""
    """The model's name at the endpoint, or a transformers image-text-to-text model (paper: GPT-o3)."""
    verifier: str | None = Field(default=None, min_length=1)
    """The model of the verification call; none takes the same one. The local completer has one model."""
    concurrency: int = Field(default=8, ge=1)
    """Requests in flight at once; prompts in one forward pass of a local model."""
    temperature: float | None = Field(default=None, ge=0)
    """Sampling temperature; none is the server's own, and greedy for a local model (paper: not stated)."""
    options: int = Field(default=4, ge=2, le=8)
    """Options of a written question (paper: multiple choice, the number not stated)."""
    max_calls: int | None = Field(default=None, ge=0)
    """Budget: answers that this data set may take in all; the build stops there and can go on."""
    max_cost: float | None = Field(default=None, ge=0)
    """Budget: what this data set may cost in all, in the currency of the prices."""
    price_input: float = Field(default=0.0, ge=0)
    """Price of a million tokens sent."""
    price_output: float = Field(default=0.0, ge=0)
    """Price of a million tokens received."""


class PairsSettings(Settings):
    """Everything that decides a PairUG build (paper section 2.1, Algorithm 1)."""

    understanding: Inputs = Field(min_length=1)
    """Raw understanding data: files, folders or hub data sets of picture, question, answer."""
    generation: Inputs = Field(min_length=1)
    """Raw generation data: files, folders or hub data sets of picture and prompt."""
    out: UserPath
    """Folder that receives pairs.jsonl and its images."""
    bad_records: Literal["stop", "drop"] = "stop"
    """A raw record that cannot be used ends the build before anything is paid, or goes into dropped.jsonl."""
    completer: str = Field(default="scene", min_length=1)
    """What completes samples: scene, endpoint, batch, local, or "package.module:Class" (paper: GPT-o3)."""
    completion: CompletionSettings = CompletionSettings()
    encoder: str = Field(default="microsoft/resnet-50", min_length=1)
    """Image encoder: a transformers vision model, or policy:MODEL for a policy's own tower (paper: ResNet-50)."""
    device: str = Field(default="auto", min_length=1)
    """Where images are encoded: auto, cpu, cuda or cuda:N."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute type of a transformers encoder; auto is bfloat16 on a GPU, else float32."""
    clusters: int | None = Field(default=None, ge=1)
    """K of k-means; none takes one for 21 samples, as the paper's counts suggest (paper: not stated)."""
    clustering: Clustering = "torch"
    """k-means on torch or faiss, or the paper's scikit-learn MiniBatchKMeans (reference)."""
    threshold: float = Field(default=0.6, ge=0, le=1)
    """delta, the least cosine of a retrieved pair (paper: 0.6)."""
    neighbours: int = Field(default=1, ge=1)
    """n, understanding samples that one generation sample may take (paper: not stated; 1 fits its counts)."""
    matching: Matching = "optimal"
    """The largest total similarity, best pairs first (greedy: faster), or in file order (paper: sequential)."""
    candidates: int = Field(default=32, ge=1)
    """Nearest understanding samples that greedy and optimal weigh for each generation sample at a time."""
    engine: Literal["local", "ray"] = "local"
    """This process, or the workers of a Ray cluster for completion, features and the search for candidates."""
    workers: int = Field(default=2, ge=1)
    """Workers of the engine ray."""
    worker_gpus: float = Field(default=0.0, ge=0)
    """GPUs of each worker of the engine ray."""
    compare_matchings: bool = False
    """Make every matching once and write pairs, total similarity and use of the data to stats.json."""
    max_tries: int = Field(default=3, ge=1)
    """Completions tried before a sample is dropped (paper: not stated)."""
    batch_size: int = Field(default=64, ge=1)
    """Images per forward pass of the encoder."""
    seed: int = Field(default=0, ge=0)
    """Seeds the clustering and the letters of right options."""
