"""Requests for rollouts as tasks of the sampler, and traces as trajectories."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from pairuni.policies.lumina_dimoo.images import PATCH_CODES, fit, nearest_size, sizes
from pairuni.policies.lumina_dimoo.prompts import LuminaPrompts, Prompt
from pairuni.policies.lumina_dimoo.sampling_config import SamplingConfig
from pairuni.policies.lumina_dimoo.schedule import answer_steps, picture_steps
from pairuni.policies.lumina_dimoo.traces import Task, Trace
from pairuni.policies.lumina_dimoo.trajectories import ImageTrace, TextTrace
from pairuni.policies.lumina_dimoo.vq import LuminaVQ
from pairuni.policies.requests import EditSampling, ImageSampling, TextSampling

TEXT_STREAM, IMAGE_STREAM, EDIT_STREAM = 0, 1, 2


class LuminaTasks:
    """Makes tasks from requests. Raises ValueError for texts with special tokens."""

    def __init__(self, prompts: LuminaPrompts, vq: LuminaVQ, config: SamplingConfig) -> None:
        self.prompts, self.vq, self.config = prompts, vq, config
        self.ends = (prompts.ids.end, prompts.ids.answer_end)
        """Either ends an answer: the original's sampling looks for the first, its training writes the second."""

    def texts(self, request: TextSampling) -> list[Task]:
        images = [shown[0] if shown else None for shown in request.shown]
        pictures = self._encode(images, self.config.question_size)
        steps = answer_steps(request.max_new_tokens, self.config.text_block, self.config.text_steps)
        return [
            Task(
                kind="text",
                prompt=self.prompts.question(question, picture),
                canvas=self.prompts.text_canvas(request.max_new_tokens),
                steps=steps,
                temperature=request.temperature,
                stop_ids=self.ends,
                noise=(request.seed, TEXT_STREAM, request.first_prompt + index),
            )
            for index, (question, picture) in enumerate(zip(request.questions, pictures, strict=True))
        ]

    def images(self, request: ImageSampling) -> list[Task]:
        side = self.codes(self.config.image_size)
        return [
            self._picture(
                self.prompts.drawing(text, request.guidance), (side, side), request, IMAGE_STREAM, index
            )
            for index, text in enumerate(request.prompts)
        ]

    def edits(self, request: EditSampling) -> list[Task]:
        images, instructions = list(request.images), list(request.instructions)
        if len(images) != len(instructions):
            raise ValueError(
                f"{len(images)} images came with {len(instructions)} instructions; give one for each."
            )
        tasks = []
        for index, picture in enumerate(self._encode(images, self.config.edit_size)):
            assert picture is not None
            prompt = self.prompts.editing(
                instructions[index], picture, request.guidance, request.image_guidance
            )
            height, width = picture.shape
            tasks.append(self._picture(prompt, (height, width), request, EDIT_STREAM, index))
        return tasks

    def codes(self, size: int) -> int:
        """Codes of the side of a square picture."""
        return size // self.vq.scale

    def text(self, trace: Trace, log_probs: Tensor) -> TextTrace:
        """The trajectory of an answer; log_probs: of its decisions."""
        ends = torch.isin(trace.choices, torch.tensor(self.ends)).nonzero()
        finished = len(ends) > 0
        length = int(ends[0]) if finished else len(trace.choices)
        text = self.prompts.tokenizer.decode(trace.choices[:length], skip_special_tokens=True)
        return TextTrace(
            trace=trace,
            log_probs=log_probs,
            text=text.strip(),
            finished=finished,
            sampled=length + finished,
        )

    def image(self, trace: Trace, log_probs: Tensor) -> ImageTrace:
        """The trajectory of an image, likewise."""
        height = int((trace.canvas.ids == self.prompts.ids.newline).sum())
        width = len(trace.choices) // height
        return ImageTrace(trace=trace, log_probs=log_probs, height=height, width=width)

    def _picture(
        self,
        prompt: Prompt,
        shape: tuple[int, int],
        request: ImageSampling | EditSampling,
        stream: int,
        index: int,
    ) -> Task:
        return Task(
            kind="codes",
            prompt=prompt,
            canvas=self.prompts.picture_canvas(*shape),
            steps=picture_steps(shape[0] * shape[1], self.config.image_steps),
            temperature=request.temperature,
            branch=request.branch,
            noise=(request.seed, stream, request.first_prompt + index),
        )

    def _encode(self, images: Sequence[Image.Image | None], side: int) -> list[Tensor | None]:
        """Codes [h, w] of images, of each image once."""
        distinct = {id(image): image for image in images if image is not None}
        if not distinct:
            return [None] * len(images)
        allowed = sizes(side, PATCH_CODES * self.vq.scale)
        fitted = [fit(one, nearest_size(*one.size, allowed)) for one in distinct.values()]
        codes = dict(zip(distinct, self.vq.encode(fitted), strict=True))
        return [None if image is None else codes[id(image)] for image in images]


def picture_codes(trajectory: ImageTrace) -> Tensor:
    """Codes [h, w] of a picture; choices follow the canvas, row by row."""
    return trajectory.trace.choices.view(trajectory.height, trajectory.width).to(torch.long)
