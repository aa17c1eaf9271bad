"""Lumina-DiMOO behind the ``UnifiedPolicy`` interface: answers, images and edits by masked diffusion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from pairuni.config import LuminaDimooSettings, PolicySettings, RolloutSettings
from pairuni.io.files import atomic_folder
from pairuni.policies.costs import PROMPT_TOKENS, ReplayCost, RolloutCost
from pairuni.policies.llama_policy import LlamaPolicy
from pairuni.policies.lumina_dimoo.images import PATCH_CODES
from pairuni.policies.lumina_dimoo.loading import LuminaCheckpoint, load_checkpoint
from pairuni.policies.lumina_dimoo.log_probs import (
    Estimator,
    SequenceElbo,
    TraceReplay,
    log_probs,
    replay_tokens,
)
from pairuni.policies.lumina_dimoo.model import LuminaDimoo
from pairuni.policies.lumina_dimoo.prompts import LuminaPrompts
from pairuni.policies.lumina_dimoo.sampling import sample
from pairuni.policies.lumina_dimoo.sampling_config import (
    SECTION,
    SamplingConfig,
    sampling_config,
    size_fault,
)
from pairuni.policies.lumina_dimoo.schedule import answer_steps, picture_steps
from pairuni.policies.lumina_dimoo.tasks import LuminaTasks, picture_codes
from pairuni.policies.lumina_dimoo.traces import Task, Trace
from pairuni.policies.lumina_dimoo.trajectories import ImageTrace, LuminaTrajectory, TextTrace
from pairuni.policies.requests import EditSampling, ImageSampling, QuestionImages, TextSampling

Made = TypeVar("Made", TextTrace, ImageTrace)


class LuminaDimooPolicy(LlamaPolicy[TextTrace, ImageTrace, LuminaDimoo]):
    """A Lumina-DiMOO checkpoint, how it samples, and the estimator of its log-probs."""

    module: LlamaForCausalLM
    edits = True

    def __init__(
        self,
        checkpoint: LuminaCheckpoint,
        config: SamplingConfig,
        *,
        estimator: Estimator | None = None,
        name: str = "lumina_dimoo",
    ) -> None:
        """estimator: by default exact trace replay."""
        self.name, self.checkpoint, self.config = name, checkpoint, config
        self.estimator = estimator or TraceReplay()
        super().__init__(checkpoint.model)
        prompts = LuminaPrompts(checkpoint.tokenizer, checkpoint.ids)
        self.tasks = LuminaTasks(prompts, checkpoint.vq, config)
        self.default_guidance = config.guidance
        self.default_edit_guidance = config.edit_guidance
        self.default_image_guidance = config.image_guidance

    def _parts(self, model: LlamaForCausalLM) -> LuminaDimoo:
        return LuminaDimoo(model, self.checkpoint.ids)

    @property
    def other_modules(self) -> tuple[nn.Module, ...]:
        return (self.checkpoint.vq.model,)

    # Sampling

    def sample_text(self, request: TextSampling) -> list[list[TextTrace]]:
        self.check_truncation(request)
        self.check_shown(request)
        return self._texts(self._sample(self.tasks.texts(request), request.rollouts))

    def sample_images(self, request: ImageSampling) -> list[list[ImageTrace]]:
        self.check_truncation(request)
        return self._images(self._sample(self.tasks.images(request), request.rollouts))

    def sample_edits(self, request: EditSampling) -> list[list[ImageTrace]]:
        return self._images(self._sample(self.tasks.edits(request), request.rollouts))

    def sample(
        self, texts: TextSampling, images: ImageSampling
    ) -> tuple[list[list[TextTrace]], list[list[ImageTrace]]]:
        for request in (texts, images):
            self.check_truncation(request)
        self.check_shown(texts)
        questions, drawings = self.tasks.texts(texts), self.tasks.images(images)
        counts = [texts.rollouts] * len(questions) + [images.rollouts] * len(drawings)
        traces = self._sample([*questions, *drawings], counts)
        return self._texts(traces[: len(questions)]), self._images(traces[len(questions) :])

    def _sample(self, tasks: Sequence[Task], rollouts: int | Sequence[int]) -> list[list[Trace]]:
        self._check_current()
        return sample(self.inference, tasks, rollouts)

    def _texts(self, groups: Sequence[Sequence[Trace]]) -> list[list[TextTrace]]:
        return self._trajectories(self.tasks.text, groups)

    def _images(self, groups: Sequence[Sequence[Trace]]) -> list[list[ImageTrace]]:
        return self._trajectories(self.tasks.image, groups)

    def _trajectories(
        self, make: Callable[[Trace, Tensor], Made], groups: Sequence[Sequence[Trace]]
    ) -> list[list[Made]]:
        return [list(map(make, group, self._decided(group))) for group in groups]

    @torch.no_grad()
    def _decided(self, traces: Sequence[Trace]) -> list[Tensor]:
        """The log-probs of the decisions of traces; where these are not their tokens, they are scored."""
        if isinstance(self.estimator, TraceReplay):
            return [one.log_probs for one in traces]
        return [values.cpu() for values in log_probs(self.inference, traces, self.estimator)]

    def decode_images(self, trajectories: Sequence[ImageTrace]) -> list[Image.Image]:
        return self.checkpoint.vq.decode([picture_codes(one) for one in trajectories])

    def answer(self, images: QuestionImages, question: str, *, max_new_tokens: int | None = None) -> str:
        """The greedy answer to one question; by default of up to the checkpoint's ``answer_length``."""
        return super().answer(images, question, max_new_tokens=max_new_tokens or self.config.answer_length)

    def question_fault(self, text: str) -> str | None:
        return self.tasks.prompts.fault(text)

    # Scoring

    def _score(
        self, parts: LuminaDimoo, trajectories: Sequence[LuminaTrajectory], *, checkpointing: bool
    ) -> list[Tensor]:
        traces = [one.trace for one in trajectories]
        return parts.replay(lambda: log_probs(parts, traces, self.estimator, checkpointing=checkpointing))

    def replay_cost(self, trajectories: Sequence[LuminaTrajectory]) -> ReplayCost:
        tokens = replay_tokens(self._training, [one.trace for one in trajectories], self.estimator)
        return ReplayCost(tokens, tokens)

    def text_cost(self, rollout: RolloutSettings, images: int = 1) -> RolloutCost:
        steps = answer_steps(rollout.max_new_tokens, self.config.text_block, self.config.text_steps)
        prompt = len(self.tasks.prompts.question("", None).ids) + PROMPT_TOKENS
        pictures = images * _picture_tokens(self.tasks.codes(self.config.question_size))
        row = prompt + pictures + rollout.max_new_tokens + 2
        return self._cost(rollout.understanding, rollout.max_new_tokens, len(steps), row, row)

    def image_cost(self, rollout: RolloutSettings) -> RolloutCost:
        side = self.tasks.codes(self.config.image_size)
        steps = picture_steps(side**2, self.config.image_steps)
        prompt = self.tasks.prompts.drawing("", rollout.guidance)
        canvas = _picture_tokens(side) + 2
        row = len(prompt.ids) + PROMPT_TOKENS + canvas
        sampled = row + sum(len(ids) + canvas for ids, _ in prompt.unconditional)
        scored = sampled if rollout.branch == "guided" else row
        return self._cost(rollout.generation, side**2, len(steps), sampled, scored)

    def _cost(self, rollouts: int, tokens: int, steps: int, sampled: int, scored: int) -> RolloutCost:
        """Of rollouts of so many tokens each; sampled, scored: tokens of the rows of a step and of a state."""
        replayed = scored * self.estimator.states(rollouts, steps)
        return RolloutCost(
            rows=rollouts,
            steps=steps,
            sampled=rollouts * tokens,
            # before the first step, nothing differs between the rollouts
            computed=sampled * (1 + rollouts * (steps - 1)),
            cached=0,
            replayed=replayed,
            largest=scored * self.estimator.states(1, steps),
            keys=replayed,
        )

    # Saving

    def save_pretrained(self, folder: Path) -> None:
        """Write the checkpoint in the original layout, with ``config`` in its config.json; adapters are merged."""
        self._check_current()
        config = {key: value for key, value in self.checkpoint.config.items() if key != SECTION}
        if declared := self.config.declared():
            config[SECTION] = declared
        with atomic_folder(Path(folder), keep_all_but="model*.safetensors*") as partial:
            replace(self.checkpoint, model=self.inference_module, config=config).save(partial)


def _picture_tokens(side: int) -> int:
    """Tokens of a square picture in a prompt or on a canvas: codes, newlines, begin and end."""
    return side * (side + 1) + 2


def load_lumina_dimoo(
    folder: Path, *, name: str, device: torch.device, dtype: torch.dtype, settings: PolicySettings | None
) -> LuminaDimooPolicy:
    """The policy in a checkpoint folder of the original layout; on the device "meta" without its weights.

    settings: those of a run, which replace the checkpoint's own. Raises ValueError for a damaged checkpoint, and for
    sizes of images that its codes cannot make.
    """
    checkpoint = load_checkpoint(folder, dtype=dtype, weights=device.type != "meta")
    path, patch = folder / "config.json", PATCH_CODES * checkpoint.vq.scale
    config = sampling_config(checkpoint.config, path)
    config.check_sizes(patch, path)
    estimator: Estimator | None = None
    if settings is not None:
        assert isinstance(settings, LuminaDimooSettings), "load_policy compares the types"
        if settings.image_size is not None and (fault := size_fault(settings.image_size, patch)):
            raise ValueError(f"policy.image_size is {fault}.")
        config = config.with_settings(settings)
        estimator = (
            SequenceElbo(pairs=settings.elbo_pairs)
            if settings.estimator == "elbo"
            else TraceReplay(shrink=settings.shrink)
        )
    checkpoint.model.to(device)
    checkpoint.vq.model.to(device)
    return LuminaDimooPolicy(checkpoint, config, estimator=estimator, name=name)
