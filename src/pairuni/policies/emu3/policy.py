"""Emu3 of ``transformers`` behind the ``UnifiedPolicy`` interface."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from transformers import Emu3ForConditionalGeneration, Emu3Processor

from pairuni.config import Emu3Settings, PolicySettings
from pairuni.io.files import atomic_folder
from pairuni.policies.autoregressive import ImageTokens, TokenTrajectory
from pairuni.policies.decoding.loop import DecodeLoop
from pairuni.policies.decoding_policy import DecodingPolicy
from pairuni.policies.emu3.grid import SECTION, Grid
from pairuni.policies.emu3.loading import load_model
from pairuni.policies.emu3.parts import Emu3Parts
from pairuni.policies.requests import ImageSampling, TextSampling
from pairuni.policies.rollouts import ImageRollouts, TextRollouts
from pairuni.policies.tensors import no_progress_bar


class Emu3Policy(DecodingPolicy[Emu3Parts]):
    """An ``Emu3ForConditionalGeneration`` and its processor.

    An image in a question is VQ tokens in the prompt. A picture is drawn in rows of visual tokens; the end-of-line
    tokens between them are forced, and its trajectory holds the codes alone.
    """

    module: Emu3ForConditionalGeneration

    def __init__(
        self,
        model: Emu3ForConditionalGeneration,
        processor: Emu3Processor,
        *,
        grid: Grid | None = None,
        name: str = "emu3",
        loop: DecodeLoop | None = None,
    ) -> None:
        """grid: size of drawn pictures, by default that in the model's configuration, else the processor's."""
        self.name, self.processor = name, processor
        super().__init__(model, loop)
        self.grid = grid or _default_grid(model, processor)
        self.image_tokens = self.grid.tokens
        self.default_guidance = float(model.generation_config.guidance_scale or 3.0)  # the authors' value
        declared = model.generation_config.eos_token_id
        ids = declared if isinstance(declared, list) else [] if declared is None else [declared]
        self.stop_ids = tuple(dict.fromkeys([*ids, processor.tokenizer.eos_token_id]))
        self.prompts = self.inference.inputs.prompts

    def _parts(self, model: Emu3ForConditionalGeneration) -> Emu3Parts:
        return Emu3Parts(model, self.processor)

    def _text_rollouts(self, request: TextSampling) -> TextRollouts:
        ids, shown = list[Tensor](), dict[int, Tensor]()
        inputs = self.inference.inputs
        for images, question in zip(request.shown, request.questions, strict=True):
            image = images[0] if images else None
            asked = self.prompts.question(question, image)
            row = asked["input_ids"][0]
            if image is not None:
                if id(image) not in shown:
                    shown[id(image)] = inputs.image_ids(asked)
                row = row.masked_scatter(row == self.prompts.image, shown[id(image)])
            ids.append(row)
        return TextRollouts(
            self.inference,
            request,
            ids,
            [()] * len(ids),
            stop_ids=self.stop_ids,
            tokenizer=self.processor.tokenizer,
        )

    def _image_rollouts(self, request: ImageSampling) -> ImageRollouts:
        ids = [self.prompts.drawing(prompt, self.grid) for prompt in request.prompts]
        line_ends = [(step, self.inference.inputs.line_end) for step in self.grid.line_ends]
        return ImageRollouts(self.inference, request, ids, steps=self.grid.tokens, forced=line_ends)

    @torch.no_grad()
    def decode_images(self, trajectories: Sequence[ImageTokens]) -> list[Image.Image]:
        images = []
        for one in trajectories:
            grid = self.prompts.grid(one.prompt_ids)
            codes = one.tokens.view(1, grid.height, grid.width).to(self.device)
            pixels = self.inference_module.model.vqmodel.decode(codes).float().cpu()
            shown = self.processor.postprocess(list(pixels), return_tensors="PIL.Image.Image")
            images += shown["pixel_values"]
        return images

    def question_fault(self, text: str) -> str | None:
        return self.prompts.fault(text)

    def prompt_faults(self, prompts: Sequence[str]) -> dict[str, str]:
        return self._faults(prompts, lambda text: self.prompts.drawing(text, self.grid), self.grid.tokens)

    def read_tokens(self, trajectory: TokenTrajectory) -> list[tuple[int, int]]:
        if not isinstance(trajectory, ImageTokens):
            return super().read_tokens(trajectory)
        prompts = [trajectory.prompt_ids]
        if trajectory.scores_guidance:
            prompts.append(self.prompts.unconditional(trajectory.prompt_ids))
        own = self.prompts.grid(trajectory.prompt_ids).tokens - 1
        return [(len(ids), own) for ids in prompts]

    @property
    def question_image_tokens(self) -> int:
        """Of the largest image that the processor makes and the context holds."""
        codes = int(self.processor.image_processor.max_pixels) // self.processor.downsample_ratio**2
        return min(codes + math.isqrt(codes), self.context)

    def save_pretrained(self, folder: Path) -> None:
        """As ``UnifiedPolicy.save_pretrained``, with the size of drawn pictures in config.json.

        Other files in the folder stay, weights of an earlier save do not.
        """
        self._check_current()
        setattr(self.inference_module.config, SECTION, asdict(self.grid))
        with atomic_folder(Path(folder), keep_all_but="model*.safetensors*") as partial, no_progress_bar():
            self.inference_module.save_pretrained(partial)
            self.processor.save_pretrained(partial)


def _default_grid(model: Emu3ForConditionalGeneration, processor: Emu3Processor) -> Grid:
    if (declared := getattr(model.config, SECTION, None)) is not None:
        return Grid(**declared)
    return Grid(
        *processor.calculate_generate_size(processor.ratio, processor.image_area, processor.downsample_ratio)
    )


def load_emu3(
    folder: Path, *, name: str, device: torch.device, dtype: torch.dtype, settings: PolicySettings | None
) -> Emu3Policy:
    """The policy in a checkpoint folder; on the device "meta" without its weights.

    settings: those of a run, with the size of drawn pictures.
    """
    model, processor = load_model(folder, dtype=dtype, weights=device.type != "meta")
    grid = _default_grid(model, processor)
    if settings is not None:
        assert isinstance(settings, Emu3Settings), "load_policy compares the types"
        grid = Grid(settings.image_height or grid.height, settings.image_width or grid.width)
    return Emu3Policy(model.to(device), processor, grid=grid, name=name)
