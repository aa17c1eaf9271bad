"""Conversation formats of the original Janus code, by their names there."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import JanusProcessor

from pairuni.policies.files import reason

SYSTEM_PROMPT = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the "
    "user provides, and assist the user with a variety of tasks using natural language.\n\n"
)
"""Precedes questions, never generation prompts."""

IMAGE_TAG = "<image_placeholder>"

_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- set content -%}"
    "{%- if message['content'] is string -%}{{ message['content'] }}"
    "{%- else -%}"
    "{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}{{ '<image_placeholder>\\n' }}"
    "{%- else -%}{{ part['text'] }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- endif -%}"
    "{%- endset -%}"
    "{%- set content = content | trim -%}"
    "{%- if message['role'] == 'user' -%}{{ 'USER:' }}{%- else -%}{{ 'ASSISTANT:' }}{%- endif -%}"
    "{%- if content -%}{{ ' ' + content }}"
    "{%- if message['role'] == 'user' -%}{{ '\\n\\n' }}{%- else -%}{{ '<｜end▁of▁sentence｜>' }}{%- endif -%}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ 'ASSISTANT:' }}{%- endif -%}"
)


@dataclass(frozen=True)
class ConversationFormat:
    """One format. name: the original's ``sft_format``; user, assistant: the names of the roles."""

    name: str
    user: str
    assistant: str

    def question(self, content: str) -> str:
        """One user turn, up to where the answer begins; surrounding white space of the content is dropped.

        A turn without content is the role's name alone, without a separator.
        """
        content = content.strip()
        turn = f"{self.user}: {content}\n\n" if content else f"{self.user}:"
        return f"{turn}{self.assistant}:"

    def template(self, image_tag: str = IMAGE_TAG) -> str:
        """The same as a chat template, for plain ``transformers``."""
        template = _TEMPLATE.replace("USER", self.user).replace("ASSISTANT", self.assistant)
        return template.replace(IMAGE_TAG, image_tag)


FORMATS = {
    known.name: known
    for known in (
        ConversationFormat("deepseek", "<|User|>", "<|Assistant|>"),
        ConversationFormat("deepseek_old", "User", "Assistant"),
    )
}
"""Janus-Pro uses ``deepseek``, Janus-1.3B ``deepseek_old``."""

DEFAULT_FORMAT = "deepseek"
"""The default of the original's processor."""

_PROBE = "what?"


def format_of(processor: JanusProcessor) -> ConversationFormat | None:
    """The format that a processor's chat template renders; None for a template of another kind.

    Raises ValueError for a template that fails, or that drops the image or the question.
    """
    imaged, plain = render(processor, _PROBE, images=1), render(processor, _PROBE, images=0)
    tag = processor.image_token
    if imaged.count(tag) != 1 or _PROBE not in imaged or tag in plain or _PROBE not in plain:
        raise ValueError(
            "The chat template of the checkpoint does not show one placeholder an image and the text of a "
            "question; restore chat_template.jinja."
        )
    for known in FORMATS.values():
        if imaged == known.question(f"{tag}\n{_PROBE}") and plain == known.question(_PROBE):
            return known
    return None


def is_in_format(processor: JanusProcessor, known: ConversationFormat) -> bool:
    """Whether a processor's chat template renders this format."""
    try:
        return format_of(processor) == known
    except ValueError:
        return False


def render(processor: JanusProcessor, text: str, *, images: int) -> str:
    """One question about so many images by the processor's own chat template. Raises ValueError where it fails."""
    content: list[dict[str, str]] = [{"type": "image"}] * images
    message = {"role": "user", "content": [*content, {"type": "text", "text": text}]}
    try:
        return str(processor.apply_chat_template([message], add_generation_prompt=True, tokenize=False))
    except Exception as error:  # Jinja templates can raise any exception
        raise ValueError(
            f"The chat template of the checkpoint fails ({reason(error)}); restore chat_template.jinja."
        ) from error
