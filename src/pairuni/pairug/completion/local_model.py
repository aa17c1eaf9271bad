"""A vision-language model on this machine: any image-text-to-text model of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pairuni.chat.reasoning import without_reasoning
from pairuni.chat.request import Answer, FailureStreak, RequestFailed
from pairuni.chat.responses import why_no_answer
from pairuni.config import CompletionSettings
from pairuni.io.hub import model_folder
from pairuni.io.images import ImageError
from pairuni.pairug.completion.requests import Request


class LocalModel:
    """Answers requests in batches, greedily unless a temperature is set; on the first GPU if there is one."""

    def __init__(self, settings: CompletionSettings) -> None:
        """Raises OSError or ValueError, naming the model, when transformers cannot load it."""
        from transformers import AutoModelForImageTextToText, AutoProcessor

        from pairuni.devices import resolve_device

        self._settings = settings
        self._failures = FailureStreak()
        folder = str(model_folder(settings.model, kind="vision-language model (completion.model)"))
        try:
            self._processor: Any = AutoProcessor.from_pretrained(folder)
            model = AutoModelForImageTextToText.from_pretrained(folder, dtype="auto")
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(
                f"completion.model is {settings.model!r}, which transformers cannot load as an "
                f"image-text-to-text model: {error}"
            ) from None
        self._model: Any = model.to(resolve_device("auto")).eval()
        # generation appends to the right end of each row
        self._processor.tokenizer.padding_side = "left"
        if self._processor.tokenizer.pad_token is None:
            self._processor.tokenizer.pad_token = self._processor.tokenizer.eos_token

    def ask_all(self, requests: Sequence[Request]) -> list[Answer | RequestFailed | ImageError]:
        """One answer per request, in order; ImageError for an unusable image, RequestFailed for no answer.

        Raises RequestsStopped after many requests in a row without an answer.
        """
        usable: list[int] = []
        images = []
        answers: list[Answer | RequestFailed | ImageError] = [ImageError("was not opened") for _ in requests]
        for place, request in enumerate(requests):
            try:
                images.append([image.load() for image in request.images])
                usable.append(place)
            except ImageError as error:
                answers[place] = error
        if usable:
            said = self._generate([requests[place] for place in usable], images)
            for place, answer in zip(usable, said, strict=True):
                answers[place] = self._checked(answer)
        return answers

    def _checked(self, answer: Answer) -> Answer | RequestFailed:
        reason = why_no_answer(answer)
        if reason is None:
            self._failures.answered()
            return answer
        said = f"{self._settings.model} gave {reason}"
        self._failures.failed(said)
        return RequestFailed(said, (answer["prompt_tokens"], answer["completion_tokens"]))

    def _generate(self, requests: Sequence[Request], images: Sequence[list[Any]]) -> list[Answer]:
        import torch

        template = self._processor.apply_chat_template
        prompts = [template(messages_of(one), add_generation_prompt=True, tokenize=False) for one in requests]
        inputs = self._processor(text=prompts, images=list(images), padding=True, return_tensors="pt").to(
            self._model.device, self._model.dtype
        )
        limit = max(one.max_tokens for one in requests)
        sampling: dict[str, Any] = {"do_sample": False}
        if self._settings.temperature:
            sampling = {"do_sample": True, "temperature": self._settings.temperature}
        with torch.inference_mode():
            tokens = self._model.generate(**inputs, max_new_tokens=limit, **sampling)
        start = inputs["input_ids"].shape[1]
        return [
            self._answer(row, int(mask.sum()))
            for row, mask in zip(tokens[:, start:], inputs["attention_mask"], strict=True)
        ]

    def _answer(self, tokens: Any, prompt_tokens: int) -> Answer:
        ends = self._model.generation_config.eos_token_id
        ended = [
            place
            for place, token in enumerate(tokens.tolist())
            if token in (ends if isinstance(ends, list) else [ends])
        ]
        count = ended[0] + 1 if ended else len(tokens)
        return {
            "text": self._text(tokens[: count - bool(ended)]),
            "finish": "stop" if ended else "length",
            "refusal": None,
            "id": "",
            "prompt_tokens": prompt_tokens,
            "completion_tokens": count,
        }

    def _text(self, tokens: Any) -> str:
        """The text without special tokens, unless they mark the reasoning."""
        decode = self._processor.tokenizer.decode
        plain, marked = (
            str(decode(tokens, skip_special_tokens=skipped)).strip() for skipped in (True, False)
        )
        kept = without_reasoning(marked).strip()
        return marked if plain and (not kept or not marked.startswith(kept)) else plain


def messages_of(request: Request) -> list[dict[str, Any]]:
    """A request as messages for a chat template."""
    shown = [{"type": "image"} for _ in request.images]
    return [
        {"role": "system", "content": [{"type": "text", "text": request.system}]},
        {"role": "user", "content": [*shown, {"type": "text", "text": request.text}]},
    ]
