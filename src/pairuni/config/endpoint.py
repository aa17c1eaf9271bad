"""Settings of a model behind an OpenAI-compatible endpoint."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pairuni.config.base import Settings


class EndpointSettings(Settings):
    """How requests are sent to a model behind an OpenAI-compatible endpoint."""

    model: str = ""
    """The model's name at the endpoint."""
    base_url: str | None = Field(default=None, min_length=1)
    """The endpoint, such as http://localhost:8000/v1; by default OPENAI_BASE_URL, else OpenAI's."""
    key_variable: str = Field(default="OPENAI_API_KEY", min_length=1)
    """Environment variable that holds the API key; the key itself is never a setting."""
    concurrency: int = Field(default=8, ge=1)
    """Number of concurrent requests."""
    structured: Literal["auto", "schema", "object", "text"] = "auto"
    """How JSON is enforced in replies: schema, any object, or the prompt alone; auto uses what the server supports."""
    temperature: float | None = Field(default=None, ge=0)
    """Sampling temperature; by default the server's."""
    max_tokens: int = Field(default=2048, ge=1)
    """Maximum reply length in tokens, including reasoning."""
    image_side: int = Field(default=1024, ge=32)
    """Maximum side of a sent image in pixels; larger images are scaled down."""
    timeout: float = Field(default=120.0, gt=0)
    """Seconds without data after which a request is considered lost."""
    deadline: float | None = Field(default=None, gt=0)
    """Maximum seconds of a request in total, even if data keeps arriving; by default five times ``timeout``."""
    max_retries: int = Field(default=6, ge=0)
    """Maximum number of retries after a lost request, a 429 or a 5xx."""
