"""Settings of the commands that use one model: `pairuni draw`, `pairuni edit` and `pairuni answer`."""

from __future__ import annotations

from pydantic import Field

from pairuni.config.base import Settings, UserPath


class ModelSettings(Settings):
    """The model, and where and how it runs."""

    model: str = Field(min_length=1)
    """tiny, a hub name, or the folder of a model, a run or a checkpoint."""
    device: str = Field(default="auto", min_length=1)
    """auto, cpu, cuda or cuda:N."""
    dtype: str = Field(default="auto", min_length=1)
    """auto, float32 or bfloat16."""


class DrawSettings(ModelSettings):
    """Images of one prompt."""

    prompt: str
    """Prompt."""
    out: UserPath
    """Image file; several images are named NAME-1, NAME-2, ..."""
    count: int = Field(default=1, ge=1)
    """Number of images."""
    seed: int = Field(default=0, ge=0)
    """Random seed."""
    guidance: float | None = Field(default=None, ge=1)
    """Classifier-free guidance weight; 1 turns guidance off. By default the checkpoint's own, else 5."""
    temperature: float = Field(default=1.0, ge=0)
    """Sampling temperature; 0 is greedy."""


class EditSettings(ModelSettings):
    """An image edited by an instruction."""

    image: UserPath
    """Image file."""
    instruction: str
    """What to change, such as "remove the hat"."""
    out: UserPath
    """File of the edited image."""
    seed: int = Field(default=0, ge=0)
    """Random seed."""
    guidance: float | None = Field(default=None, ge=1)
    """Guidance against the prompt without the instruction; 1 turns it off. By default the model's own."""
    image_guidance: float | None = Field(default=None, ge=1)
    """Guidance against the prompt without the image; 1 turns it off. By default the model's own."""
    temperature: float = Field(default=1.0, ge=0)
    """Sampling temperature; 0 is greedy."""


class AnswerSettings(ModelSettings):
    """The answer to one question about one or several images."""

    image: list[UserPath] = Field(min_length=1)
    """Image file; of several, each comes before the question, in this order."""
    question: str
    """Question about the images; the last argument."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """Maximum tokens of the answer; by default 512, or fewer if the context is full; of Lumina-DiMOO the
    length that the checkpoint states."""
