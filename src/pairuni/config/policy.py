"""Settings of the model that is trained: one class for each model family, chosen by ``type``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from pairuni.config.base import Settings, UserPath


class LoRASettings(Settings):
    """Low-rank adapters on the language model, which then train instead of its weights (extra ``lora``)."""

    rank: int = Field(default=32, ge=1)
    """Rank of each adapter."""
    alpha: float = Field(default=64.0, gt=0)
    """The adapter's output is scaled by alpha / rank."""
    targets: list[str] = Field(
        default=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"], min_length=1
    )
    """Linear layers of each decoder layer that get an adapter."""
    adapter: UserPath | None = None
    """Folder of an adapter to continue from, such as a run's final/; its rank, alpha and targets must be these."""


class PolicySettings(Settings):
    """The unified model that is trained; what all families share."""

    UPDATES_ONLY: ClassVar[frozenset[str]] = frozenset(
        {"type", "trainable", "device", "activation_checkpointing", "lora"}
    )
    """Settings that do not change what the untrained model samples."""

    model: str = Field(min_length=1)
    """A shipped name ("tiny", "tiny-lumina"), a folder, or a hub name such as deepseek-community/Janus-Pro-1B (paper:
    Janus-Pro-1B, Janus-Pro-7B, Lumina-DiMOO)."""
    type: str
    """Model family: janus (Janus and Janus-Pro), lumina_dimoo or emu3."""
    trainable: list[str] = Field(min_length=1)
    """Modules to train; vision towers and VQ tokenizers are frozen unless listed. By default the language model, and
    the generation head of Janus."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute type; auto is bfloat16 if the device supports it, else float32."""
    device: str = Field(default="auto", min_length=1)
    """auto, cpu, cuda or cuda:N."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time for the update."""
    lora: LoRASettings | None = None
    """Train adapters of the language model; by default its weights train. Other parts in ``trainable`` train fully."""


class JanusSettings(PolicySettings):
    """Janus and Janus-Pro."""

    type: Literal["janus"] = "janus"
    """Model family: janus (Janus and Janus-Pro), lumina_dimoo or emu3."""
    trainable: list[str] = Field(default=["language_model", "generation_head"], min_length=1)
    """Modules to train; vision towers and VQ tokenizers are frozen unless listed. By default the language model, and
    the generation head of Janus."""


class LuminaDimooSettings(PolicySettings):
    """Lumina-DiMOO, a masked diffusion model. Where a sampling setting is absent, the checkpoint's own value counts."""

    UPDATES_ONLY = PolicySettings.UPDATES_ONLY | {"estimator", "shrink", "elbo_pairs"}

    type: Literal["lumina_dimoo"]
    """Model family: janus (Janus and Janus-Pro), lumina_dimoo or emu3."""
    trainable: list[str] = Field(default=["language_model"], min_length=1)
    """Modules to train; vision towers and VQ tokenizers are frozen unless listed. By default the language model, and
    the generation head of Janus."""
    image_size: int | None = Field(default=None, ge=1)
    """Pixels of a side of the images that are generated, and about that of images in questions."""
    image_steps: int | None = Field(default=None, ge=1)
    """Steps in which the codes of an image are set (paper: 35)."""
    text_block: int | None = Field(default=None, ge=1)
    """Tokens of the blocks in which answers are filled from left to right (paper: not stated)."""
    text_steps: int | None = Field(default=None, ge=1)
    """Steps in which a block is filled (paper: 2, of blocks whose size is not stated)."""
    estimator: Literal["trace", "elbo"] = "trace"
    """Log-probs by trace replay, each token scored in the state of sampling; or by the sequence's
    evidence lower bound with coupled masks (paper: not stated)."""
    shrink: int = Field(default=1, ge=1)
    """Steps of sampling that trace replay scores in one state; 1 is exact, more are cheaper."""
    elbo_pairs: int = Field(default=1, ge=1)
    """Coupled pairs of masks of the evidence lower bound."""


class Emu3Settings(PolicySettings):
    """Emu3. Where a size is absent, the checkpoint's own counts: 90 by 90 for the released ones."""

    type: Literal["emu3"]
    """Model family: janus (Janus and Janus-Pro), lumina_dimoo or emu3."""
    trainable: list[str] = Field(default=["language_model"], min_length=1)
    """Modules to train; vision towers and VQ tokenizers are frozen unless listed. By default the language model, and
    the generation head of Janus."""
    image_height: int | None = Field(default=None, ge=1)
    """Rows of visual tokens in the images that are generated; a token is 8 pixels."""
    image_width: int | None = Field(default=None, ge=1)
    """Visual tokens in each row."""


def _family(given: Any) -> Any:
    """The ``type`` of settings or of a table, which may leave it out."""
    if isinstance(given, Mapping):
        return given.get("type", "janus")
    return getattr(given, "type", None)


AnyPolicySettings = Annotated[
    Annotated[JanusSettings, Tag("janus")]
    | Annotated[LuminaDimooSettings, Tag("lumina_dimoo")]
    | Annotated[Emu3Settings, Tag("emu3")],
    Discriminator(_family),
]
"""The settings of a model of any family; without ``type``, of a Janus."""
