"""Token ids of Janus's prompts: questions, generation prompts, and their unconditional prompts.

Special tokens are looked up by name in the checkpoint's own tokenizer; their ids differ between releases.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor
from transformers import JanusProcessor

from pairuni.policies.janus.conversation import DEFAULT_FORMAT, FORMATS, SYSTEM_PROMPT, format_of, render

IMAGE_TOKENS = {
    "image_token": "<image_placeholder>",
    "boi_token": "<begin_of_image>",
    "eoi_token": "<end_of_image>",
}
"""Names of the image tokens in every Janus release, keyed by the tokenizer attribute that holds them."""

PAD_TOKEN = "<｜▁pad▁｜>"
"""The padding of unconditional prompts, independent of the tokenizer's padding token."""

CHAT_TEMPLATE = FORMATS[DEFAULT_FORMAT].template()
"""The format of Janus-Pro, for checkpoints without a template."""


class JanusPrompts:
    """Token ids of the prompts that a Janus checkpoint was trained with.

    Where the chat template renders one of the original's formats, prompts are exactly those of the original code,
    which handles white space and empty texts differently from templates. Raises ValueError for a template or a
    tokenizer that cannot be used.
    """

    def __init__(self, processor: JanusProcessor) -> None:
        self.processor = processor
        tokenizer = processor.tokenizer
        self.bos = self._id("bos", tokenizer.bos_token)
        self.eos = self._id("eos", tokenizer.eos_token)
        self.pad_token = PAD_TOKEN if PAD_TOKEN in tokenizer.get_vocab() else tokenizer.pad_token
        self.pad = self._id("pad", self.pad_token)
        self.image = self._id("image", processor.image_token)
        self.begin_image = self._id("begin-of-image", processor.image_start_token)
        self.end_image = self._id("end-of-image", processor.image_end_token)
        self._special = _any_of(self._special_tokens())
        self.format = format_of(processor)

    def understanding(self, question: str, *, images: int) -> Tensor:
        """[P] ids of a question; its images come first: of each begin-of-image, its placeholders, end-of-image."""
        text = self._chat(question, images=images)
        if self.processor.use_default_system_prompt:
            text = SYSTEM_PROMPT + text
        processor = self.processor
        image = processor.image_token * processor.num_image_tokens
        image = processor.image_start_token + image + processor.image_end_token
        return self._encode(text.replace(processor.image_token, image))

    def generation(self, prompt: str) -> Tensor:
        """[P] ids of a generation prompt, begin-of-image last."""
        return self._encode(self._chat(prompt, images=0) + self.processor.image_start_token)

    def unconditional(self, prompt_ids: Tensor) -> Tensor:
        """The unconditional prompt of a generation prompt [P]: all tokens but BOS and BOI become pad.

        The pads are attended to. The prompt must be unpadded, so that batch padding cannot move what stays.
        """
        kept = (prompt_ids == self.bos) | (prompt_ids == self.begin_image)
        return torch.where(kept, prompt_ids, torch.full_like(prompt_ids, self.pad))

    def fault(self, text: str) -> str | None:
        """Why ``text`` cannot be a question or a generation prompt: it contains a special token."""
        found = self._special.search(text)
        return f"contains the special token {found[0]}; remove it" if found else None

    def _special_tokens(self) -> set[str]:
        tokenizer, processor = self.processor.tokenizer, self.processor
        added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        image = {processor.image_token, processor.image_start_token, processor.image_end_token}
        return added | image | {self.pad_token} | set(tokenizer.all_special_tokens)

    def _id(self, role: str, token: str | None) -> int:
        index = None if token is None else self.processor.tokenizer.get_vocab().get(token)
        if index is None:
            raise ValueError(
                f"The tokenizer has no {role} token ({token}); use the tokenizer of a Janus model."
            )
        return int(index)

    def _chat(self, text: str, *, images: int) -> str:
        fault = self.fault(text)
        if fault is not None:
            raise ValueError(f"The text {text[:80]!r} {fault}.")
        tag = self.processor.image_token
        if self.format is not None:
            return self.format.question(f"{tag}\n" * images + text)
        chat = render(self.processor, text, images=images)
        if chat.count(tag) != images:
            raise ValueError(
                f"The chat template of the checkpoint shows {chat.count(tag)} placeholders for {images} images; "
                "restore chat_template.jinja."
            )
        return chat

    def _encode(self, text: str) -> Tensor:
        ids = self.processor.tokenizer(text)["input_ids"]
        if ids[0] != self.bos:
            ids = [self.bos, *ids]
        return torch.tensor(ids, dtype=torch.long)


def _any_of(tokens: set[str]) -> re.Pattern[str]:
    """Matches any of the tokens; a token before its own prefixes."""
    return re.compile("|".join(re.escape(token) for token in sorted(tokens, key=len, reverse=True) if token))
