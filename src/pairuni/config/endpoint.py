"""Settings of a model behind an OpenAI-compatible endpoint."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pairuni.config.base import Settings


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
    """Longest side of an image as it is sent, in pixels; larger ones are scaled down."""
    timeout: float = Field(default=120.0, gt=0)
    """Seconds without a byte after which a request counts as lost."""
    deadline: float | None = Field(default=None, gt=0)
    """Seconds in all after which it does, also while bytes keep coming; none is five times ``timeout``."""
    max_retries: int = Field(default=6, ge=0)
    """Times that a request is sent again after a lost one, a 429 or a 5xx."""
