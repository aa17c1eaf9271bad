"""Prompts of Janus: the chat template, the image placeholder, and the unconditional twin.

Special tokens are looked up by name in the checkpoint's own tokenizer; their ids differ between releases.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor
from transformers import JanusProcessor

IMAGE_TOKENS = {
    "image_token": "<image_placeholder>",
    "boi_token": "<begin_of_image>",
    "eoi_token": "<end_of_image>",
}
"""Names of the image tokens in every Janus release, keyed by the tokenizer attribute that holds them."""

PAD_TOKEN = "<｜▁pad▁｜>"
"""What stands in unconditional prompts, whatever the tokenizer declares as its own padding."""

SYSTEM_PROMPT = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the "
    "user provides, and assist the user with a variety of tasks using natural language.\n\n"
)
"""What Janus-Pro puts before questions about images, and never before drawing prompts."""

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'user' -%}{{ '<|User|>: ' }}{%- else -%}{{ '<|Assistant|>: ' }}{%- endif -%}"
    "{%- if message['content'] is string -%}{{ message['content'] | trim }}"
    "{%- else -%}"
    "{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}{{ '<image_placeholder>\\n' }}"
    "{%- else -%}{{ part['text'] | trim }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- endif -%}"
    "{%- if message['role'] == 'user' -%}{{ '\\n\\n' }}{%- else -%}{{ '<｜end▁of▁sentence｜>' }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|Assistant|>:' }}{%- endif -%}"
)
"""The DeepSeek format of Janus-Pro, for checkpoints that bring no template of their own."""


class JanusPrompts:
    """Token ids of the prompts that a Janus checkpoint was trained on."""

    def __init__(self, processor: JanusProcessor) -> None:
        self.processor = processor
        tokenizer = processor.tokenizer
        self.bos = self._id("bos", tokenizer.bos_token)
        self.eos = self._id("eos", tokenizer.eos_token)
        self.pad = self._id("pad", tokenizer.pad_token)
        self.image = self._id("image", processor.image_token)
        self.begin_image = self._id("begin-of-image", processor.image_start_token)
        self.end_image = self._id("end-of-image", processor.image_end_token)
        self._special = _any_of(self._special_tokens())

    def understanding(self, question: str, *, with_image: bool) -> Tensor:
        """[P] ids of a question; the image is BEGIN, n placeholders, END in front of it."""
        text = self._chat(question, with_image=with_image)
        if self.processor.use_default_system_prompt:
            text = SYSTEM_PROMPT + text
        processor = self.processor
        picture = processor.image_token * processor.num_image_tokens
        picture = processor.image_start_token + picture + processor.image_end_token
        return self._encode(text.replace(processor.image_token, picture))

    def generation(self, prompt: str) -> Tensor:
        """[P] ids of a drawing prompt, begin-of-image last."""
        return self._encode(self._chat(prompt, with_image=False) + self.processor.image_start_token)

    def unconditional(self, prompt_ids: Tensor) -> Tensor:
        """The twin of a generation prompt: every token but BOS and BOI becomes pad, and is attended to.

        Made from the unpadded prompt [P], so that batch padding cannot displace what stays.
        """
        kept = (prompt_ids == self.bos) | (prompt_ids == self.begin_image)
        return torch.where(kept, prompt_ids, torch.full_like(prompt_ids, self.pad))

    def fault(self, text: str) -> str | None:
        """Why ``text`` cannot be a question or a drawing prompt: it contains a special token of the checkpoint."""
        found = self._special.search(text)
        return f"contains the special token {found[0]}; remove it" if found else None

    def _special_tokens(self) -> set[str]:
        tokenizer, processor = self.processor.tokenizer, self.processor
        added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        pictures = {processor.image_token, processor.image_start_token, processor.image_end_token}
        return added | pictures | set(tokenizer.all_special_tokens)

    def _id(self, role: str, token: str | None) -> int:
        index = None if token is None else self.processor.tokenizer.get_vocab().get(token)
        if index is None:
            raise ValueError(
                f"The tokenizer has no {role} token ({token}); use the tokenizer of a Janus model."
            )
        return int(index)

    def _chat(self, text: str, *, with_image: bool) -> str:
        fault = self.fault(text)
        if fault is not None:
            raise ValueError(f"The text {text[:80]!r} {fault}.")
        content: list[dict[str, str]] = [{"type": "image"}] if with_image else []
        message = {"role": "user", "content": [*content, {"type": "text", "text": text}]}
        return str(self.processor.apply_chat_template([message], add_generation_prompt=True, tokenize=False))

    def _encode(self, text: str) -> Tensor:
        ids = self.processor.tokenizer(text)["input_ids"]
        if ids[0] != self.bos:
            ids = [self.bos, *ids]
        return torch.tensor(ids, dtype=torch.long)


def _any_of(tokens: set[str]) -> re.Pattern[str]:
    """Matches any of the tokens, a longer one before one that it begins with."""
    return re.compile("|".join(re.escape(token) for token in sorted(tokens, key=len, reverse=True) if token))
