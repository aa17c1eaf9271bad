"""Error messages for unknown settings and invalid values."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Sequence
from typing import Annotated, Any

from pairuni.config.base import Settings


def setting_keys(cls: type[Settings]) -> dict[str, Any]:
    """All dotted keys of a settings class, mapped to their annotations; an optional section is a key too."""
    keys: dict[str, Any] = {}
    for name, field in cls.model_fields.items():
        sections = section_classes(field.annotation)
        for section in sections:
            keys.update({f"{name}.{key}": inner for key, inner in setting_keys(section).items()})
        if not sections or types.NoneType in typing.get_args(field.annotation):
            keys[name] = field.annotation
    return keys


def section_classes(annotation: Any) -> list[type[Settings]]:
    """The settings class of a section, which may be optional, or those of its variants; empty for a plain value."""
    if typing.get_origin(annotation) is Annotated:
        return section_classes(typing.get_args(annotation)[0])
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [one for option in typing.get_args(annotation) for one in section_classes(option)]
    return []


def without_variants(cls: type[Settings], loc: Sequence[str]) -> tuple[str, ...]:
    """The path of a setting in pydantic's ``loc``, which also names the variant of a section."""
    if not loc or loc[0] not in cls.model_fields:
        return tuple(loc)
    sections = section_classes(cls.model_fields[loc[0]].annotation)
    rest = loc[2:] if len(sections) > 1 else loc[1:]
    if not sections or not rest:
        return (loc[0], *rest)
    return (loc[0], *without_variants(sections[0], rest))


def _variant_with(cls: type[Settings], key: str) -> str:
    """The ``type`` of the variant of a section that has this setting."""
    name, _, rest = key.partition(".")
    sections = [
        one for one in section_classes(cls.model_fields[name].annotation) if rest in setting_keys(one)
    ]
    variant: str = typing.get_args(sections[0].model_fields["type"].annotation)[0]
    return variant


_OTHER_NAMES = {
    "lr": "pairgrpo.learning_rate",
    "max_steps": "pairgrpo.steps",
    "num_train_epochs": "pairgrpo.epochs",
    "batch_size": "pairgrpo.pairs_per_batch",
    "per_device_train_batch_size": "pairgrpo.pairs_per_batch",
    "gradient_accumulation_steps": "pairgrpo.batches_per_step",
    "warmup": "pairgrpo.warmup_steps",
    "warmup_ratio": "pairgrpo.warmup_share",
    "lr_scheduler_type": "pairgrpo.schedule",
    "min_lr_rate": "pairgrpo.min_learning_rate_share",
    "kl_coef": "pairgrpo.beta",
    "epsilon": "pairgrpo.clip_low",
    "epsilon_high": "pairgrpo.clip_high",
    "num_generations": "rollout.generation",
    "max_completion_length": "rollout.max_new_tokens",
    "max_tokens": "rollout.max_new_tokens",
    "mask_truncated_completions": "pairgrpo.truncated",
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
"""Names of settings in other projects -> the dotted key here, in whichever class has it."""


def unknown_setting(cls: type[Settings], where: str, key: str) -> str:
    keys = setting_keys(cls)
    if key in keys:
        section = key.rpartition(".")[0]
        return f"{where} is a setting of {section}.type {_variant_with(cls, key)} only; remove it, or set the type"
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
    """A key as written in a recipe, or on the command line."""
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
    "union_tag_not_found": "must be a table",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
}


def wrong_value(cls: type[Settings], where: str, key: str, details: dict[str, Any]) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if kind == "value_error" and not key:  # about several settings, which the message names
        return where + str(details["msg"]).removeprefix("Value error, ")
    if kind == "extra_forbidden":
        return unknown_setting(cls, where, key)
    if kind == "union_tag_invalid":
        where, details = f"{where}.type", {**details, "input": details["input"]["type"]}
    if kind == "missing":
        inner = [known for known in setting_keys(cls) if known.startswith(key + ".")]
        key = inner[0] if inner else key
        option = f" or with --{key.replace('_', '-')} VALUE" if cls.AS_OPTIONS else ""
        return f"{key} is required; set it in the recipe{option}"
    if kind == "literal_error":
        allowed = f"must be one of {context['expected'].replace(' or ', ', ')}"
    elif kind == "union_tag_invalid":
        allowed = f"must be one of {context['expected_tags']}"
    elif kind in _TYPE_WORDS:
        allowed = _TYPE_WORDS[kind]
    else:
        message = details["msg"].removeprefix("Value error, ")
        allowed = message.replace("Input should be", "must be", 1)
    return f"{where} is {details['input']!r}, but {allowed}"
