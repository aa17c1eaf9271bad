"""``--model pairuni`` of lmms-eval: a policy answers, scores or generates images for its requests in batches.

lmms-eval loads this module by the name in ``pairuni.harness.lmms_eval_manifest``.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lmms_eval.api.instance import GenerationResult, TokenCounts
from lmms_eval.api.model import lmms
from tqdm import tqdm

from pairuni.harness.asking import (
    DEFAULT_NEW_TOKENS,
    AnswerSettings,
    Question,
    answers,
    check_several_images,
    question_images,
)
from pairuni.io.files import atomic_write
from pairuni.policies.policy import UnifiedPolicy
from pairuni.policies.requests import ImageSampling
from pairuni.runs.models import load_model

AUTO_BATCH = 64
"""Value of ``--batch_size auto``; the free memory decides how many of these are decoded together."""


class Likelihood(NamedTuple):
    """A reply to a likelihood request in a form that lmms-eval 0.7 passes on to its scoring.

    lmms-eval replaces a plain pair by its repr, but passes on the content of a GenerationResult.
    """

    loss: float
    greedy: bool

    def strip(self) -> str:
        """Empty, so that lmms-eval does not cache the reply: it could not read a pair back from its cache."""
        return ""


class PairUni(lmms):
    """A policy from ``--model_args pretrained=FOLDER_OR_HUB_NAME``; further arguments are those of ``__init__``.

    It is a "simple" model: requests of all kinds have text and images separately. Each process has a complete policy
    and gets its share of the requests from lmms-eval.
    """

    is_simple = True

    def __init__(
        self,
        pretrained: str,
        *,
        device: str | None = None,
        dtype: str = "auto",
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        max_new_tokens: int = DEFAULT_NEW_TOKENS,
        several_images: str = "all",
        mode: str = "answer",
        output_dir: str = "lmms_eval_pictures",
        guidance: float | None = None,
        temperature: float = 1.0,
        images: int = 1,
        seed: int = 0,
    ) -> None:
        """With mode "draw", texts are prompts and replies are generated images; ``guidance`` (by default the policy's),
        ``temperature``, ``images`` (per prompt) and ``output_dir`` apply only to it.

        max_new_tokens: for tasks that set none. several_images: see ``asking.question_images``. seed: of sampling.
        Raises ValueError for an unknown choice or policy.
        """
        super().__init__()
        if mode not in ("answer", "draw"):
            raise ValueError(f"mode is {mode!r}; choose answer or draw")
        self._rank = int(os.environ.get("RANK", 0))
        self._world_size = int(os.environ.get("WORLD_SIZE", 1))
        if device in (None, "auto", "cuda") and torch.cuda.is_available():
            device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
        self.policy: UnifiedPolicy = load_model(str(pretrained), device=device or "auto", dtype=dtype)
        self.device = self.policy.device
        self.batch_size = AUTO_BATCH if str(batch_size).startswith("auto") else int(batch_size)
        if max_batch_size is not None:
            self.batch_size = min(self.batch_size, int(max_batch_size))
        self.max_new_tokens, self.seed = int(max_new_tokens), int(seed)
        self.several_images = check_several_images(several_images)
        self.mode, self.output_dir = mode, Path(output_dir)
        self.guidance, self.temperature, self.images = guidance, float(temperature), int(images)

    def generate_until(self, requests: list[Any]) -> list[Any]:
        """An answer to each request, or with mode "draw" the JSON ``{"text": "", "images": [path, ...]}`` that
        lmms-eval's image generation tasks read."""
        return self._draw(requests) if self.mode == "draw" else self._answer(requests)

    def loglikelihood(self, requests: list[Any]) -> list[Any]:
        """(loss, whether the continuation is the greedy one) of each request.

        loss: mean over tokens of -log pi(token | image, context). lmms-eval's docstring specifies the log-likelihood,
        but its scoring picks the smallest value and its own models return this loss.
        """
        results = []
        for start in self._progress(range(0, len(requests), self.batch_size)):
            images, contexts, continuations = [], [], []
            for request in requests[start : start + self.batch_size]:
                context, continuation, *of_task = request.args
                if callable(continuation):
                    continuation = continuation(self._document(of_task))
                images.append(question_images(self.policy, self._images(of_task), self.several_images))
                contexts.append(_text(context))
                continuations.append(str(continuation))
            scored = self.policy.score_text(images, contexts, continuations)
            for one in scored:
                pair = Likelihood(-float(one.log_probs.double().mean()), one.greedy)
                results.append(GenerationResult(text=pair))
        return results

    def generate_until_multi_round(self, requests: list[Any]) -> list[Any]:
        raise NotImplementedError(
            "the task has several rounds, but policies answer single questions; choose another task"
        )

    def clean(self) -> None:
        """Free the policy before a judge is loaded."""
        del self.policy
        super().clean()

    def _answer(self, requests: Sequence[Any]) -> list[Any]:
        questions = []
        for request in requests:
            context, generation, *of_task = request.args
            questions.append(
                Question(
                    text=_text(context),
                    images=partial(self._images, of_task),
                    settings=AnswerSettings.read(generation, max_new_tokens=self.max_new_tokens),
                )
            )
        results: list[Any] = [None] * len(requests)
        batches = answers(
            self.policy,
            questions,
            batch_size=self.batch_size,
            several_images=self.several_images,
            seed=self.seed,
        )
        with self._progress(total=len(requests)) as progress:
            for batch in batches:
                for index, said, text in batch:
                    counts = TokenCounts(input_tokens=said.prompt_tokens, output_tokens=said.sampled_tokens)
                    results[index] = GenerationResult(text=text, token_counts=counts)
                    self.cache_hook.add_partial("generate_until", requests[index].args[:2], text)
                progress.update(len(batch))
        return results

    def _draw(self, requests: Sequence[Any]) -> list[str]:
        results, written = [], Counter[Path]()
        guidance = self.policy.default_guidance if self.guidance is None else float(self.guidance)
        for start in self._progress(range(0, len(requests), self.batch_size)):
            batch = requests[start : start + self.batch_size]
            for request in batch:
                if any(image is not None for image in self._images(request.args[2:])):
                    raise ValueError(
                        f"the task {request.task_name} has an image to edit, "
                        "but policies generate images from text alone"
                    )
            groups = self.policy.sample_images(
                ImageSampling(
                    prompts=[_text(request.args[0]) for request in batch],
                    rollouts=self.images,
                    temperature=self.temperature,
                    guidance=guidance,
                    seed=self.seed + start,
                )
            )
            for request, group in zip(batch, groups, strict=True):
                paths, folder = [], self.output_dir / str(request.task_name) / str(request.doc_id)
                for image in self.policy.decode_images(group):
                    path = folder / f"{written[folder]}.png"
                    written[folder] += 1
                    with atomic_write(path) as partial_path:
                        image.save(partial_path, format="PNG")
                    paths.append(str(path))
                results.append(json.dumps({"text": "", "images": paths}))
        return results

    def _images(self, of_task: Sequence[Any]) -> Sequence[Any]:
        """The images of (doc_to_visual, doc_id, task, split); a text-only request may lack all four."""
        if not of_task or of_task[0] is None:
            return []
        return list(of_task[0](self._document(of_task)) or [])

    def _document(self, of_task: Sequence[Any]) -> Any:
        _, index, task, split = of_task
        return self.task_dict[task][split][index]

    def _progress(self, *args: Any, **kwargs: Any) -> Any:
        return tqdm(*args, desc="pairuni", disable=self._rank != 0, **kwargs)


def _text(context: str) -> str:
    """The text without image placeholders; a policy has its image before the text."""
    return context.replace("<image>", "").strip()
