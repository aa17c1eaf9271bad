"""Janus and Janus-Pro behind the ``UnifiedPolicy`` interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import JanusForConditionalGeneration, JanusProcessor

from pairuni.policies.decoding.loop import DecodeLoop
from pairuni.policies.decoding.requests import Prompt, Request, Rollout
from pairuni.policies.decoding.sampling import Head, SamplingParams
from pairuni.policies.files import written_aside
from pairuni.policies.janus.generation import stop_ids
from pairuni.policies.janus.inputs import IMAGES_AT_ONCE, JanusInputs, digest
from pairuni.policies.janus.loading import load_model, quiet
from pairuni.policies.janus.scoring import JanusScorer
from pairuni.policies.janus.tokenizer import read_tokenizer, write_processor
from pairuni.policies.janus.vq import vq_codes
from pairuni.policies.llama import LlamaLayers
from pairuni.policies.policy import (
    ImageSampling,
    ImageTrajectory,
    TextSampling,
    TextTrajectory,
    Trajectory,
    TrajectoryLogProbs,
    UnifiedPolicy,
)

TEXT_STREAM, IMAGE_STREAM = 0, 1

_TOKENS_A_BYTE = 4
"""Never exceeded: a byte is one token at most, and more only where a tokenizer's normaliser spells it out."""


class JanusPolicy(UnifiedPolicy):
    """A ``JanusForConditionalGeneration`` and its processor; the model is kept in eval mode, free of dropout."""

    module: JanusForConditionalGeneration

    def __init__(
        self,
        model: JanusForConditionalGeneration,
        processor: JanusProcessor,
        *,
        name: str = "janus",
        loop: DecodeLoop | None = None,
        tokenizer: bytes | None = None,
    ) -> None:
        """tokenizer: the bytes of tokenizer.json, which ``save_pretrained`` then repeats."""
        self.name = name
        self._tokenizer_json = tokenizer
        self.module, self.processor = model.eval(), processor
        self.default_guidance = float(model.generation_config.guidance_scale or self.default_guidance)
        self.image_tokens = int(model.config.vq_config.num_patches) ** 2
        self.stop_ids = stop_ids(model.generation_config, processor)
        self.inputs = JanusInputs(model, processor)
        self.prompts = self.inputs.prompts
        layers = LlamaLayers(model.model.language_model)
        self.loop = loop or DecodeLoop(layers)
        drawing = model.model.generation_head
        self.text_head = Head(features=lambda states: states, project=model.lm_head)
        self.image_head = Head(
            features=lambda states: drawing.activation_fn(drawing.proj_out(states)),
            project=drawing.vision_head,
        )
        self._scorer = JanusScorer(self.inputs, layers, text=self.text_head, image=self.image_head)

    def question_fault(self, text: str) -> str | None:
        return self.prompts.fault(text)

    # Sampling

    def sample_text(self, request: TextSampling) -> list[list[TextTrajectory]]:
        texts = _Texts(self, request)
        return texts.trajectories(self.loop.run([texts.request])[0])

    def sample_images(self, request: ImageSampling) -> list[list[ImageTrajectory]]:
        images = _Images(self, request)
        return images.trajectories(self.loop.run([images.request])[0])

    def sample(
        self, texts: TextSampling, images: ImageSampling
    ) -> tuple[list[list[TextTrajectory]], list[list[ImageTrajectory]]]:
        text, image = _Texts(self, texts), _Images(self, images)
        text_rollouts, image_rollouts = self.loop.run([text.request, image.request])
        return text.trajectories(text_rollouts), image.trajectories(image_rollouts)

    @torch.no_grad()
    def decode_images(self, trajectories: Sequence[ImageTrajectory]) -> list[Image.Image]:
        pictures = []
        for start in range(0, len(trajectories), IMAGES_AT_ONCE):
            batch = trajectories[start : start + IMAGES_AT_ONCE]
            tokens = torch.stack([trajectory.tokens for trajectory in batch]).to(self.device)
            decoded = self.module.decode_image_tokens(tokens).float()
            for pixels in ((decoded + 1) / 2 * 255).clamp(0, 255).to(torch.uint8).cpu().numpy():
                pictures.append(Image.fromarray(np.ascontiguousarray(pixels), mode="RGB"))
        return pictures

    def answer(self, image: Image.Image | None, question: str, *, max_new_tokens: int | None = None) -> str:
        """The greedy answer to one question; by default up to 512 tokens, or fewer in a shorter context."""
        if max_new_tokens is None:
            prompt = self.prompts.understanding(question, with_image=image is not None)
            room = self.module.config.text_config.max_position_embeddings - len(prompt)
            max_new_tokens = max(1, min(512, room))
        request = TextSampling(
            images=[image], questions=[question], temperature=0.0, max_new_tokens=max_new_tokens
        )
        return self.sample_text(request)[0][0].text

    def draw(
        self,
        prompt: str,
        *,
        count: int = 1,
        guidance: float | None = None,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> list[Image.Image]:
        """``count`` images of one prompt; guidance None is the checkpoint's own."""
        guidance = self.default_guidance if guidance is None else guidance
        request = ImageSampling(
            prompts=[prompt], rollouts=count, temperature=temperature, guidance=guidance, seed=seed
        )
        return self.decode_images(self.sample_images(request)[0])

    # Checks before a run

    def question_faults(self, questions: Sequence[str], max_new_tokens: int) -> dict[str, str]:
        return self._faults(
            questions, lambda text: self.prompts.understanding(text, with_image=True), max_new_tokens
        )

    def prompt_faults(self, prompts: Sequence[str]) -> dict[str, str]:
        return self._faults(prompts, self.prompts.generation, self.image_tokens)

    def _faults(self, texts: Sequence[str], encode: Callable[[str], Tensor], steps: int) -> dict[str, str]:
        """Only texts that may be too long are encoded."""
        most = self.module.config.text_config.max_position_embeddings
        surely = most - steps - len(encode("a"))
        faults = {}
        for text in texts:
            fault = self.question_fault(text)
            if fault is None and _TOKENS_A_BYTE * len(text.encode(errors="replace")) > surely:
                needed = len(encode(text)) + steps
                if needed > most:
                    fault = (
                        f"needs {needed:,} positions with {steps:,} new tokens, but the model has {most:,}; "
                        "shorten it or lower the number of new tokens"
                    )
            if fault is not None:
                faults[text] = fault
        return faults

    # Scoring

    def log_probs(self, trajectories: Sequence[Trajectory]) -> TrajectoryLogProbs:
        if not trajectories:
            raise ValueError("log_probs was given no trajectories.")
        rows = self._scorer.log_probs(trajectories, checkpointing=self.activation_checkpointing)
        values = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        mask = nn.utils.rnn.pad_sequence([torch.ones_like(row.detach()) for row in rows], batch_first=True)
        return TrajectoryLogProbs(values=values, mask=mask)

    @torch.no_grad()
    def score_text(
        self, images: Sequence[Image.Image | None], questions: Sequence[str], answers: Sequence[str]
    ) -> list[TextTrajectory]:
        """As ``UnifiedPolicy.score_text``. Raises ValueError for an answer without a token."""
        given = []
        for image, question, answer in zip(images, questions, answers, strict=True):
            ids = self.processor.tokenizer(answer, add_special_tokens=False)["input_ids"]
            if not ids:
                raise ValueError(
                    f"An answer to {question[:80]!r} is empty; give at least one token to score."
                )
            given.append(
                TextTrajectory(
                    tokens=torch.tensor(ids),
                    log_probs=torch.zeros(len(ids)),
                    prompt_ids=self.prompts.understanding(question, with_image=image is not None),
                    pixel_values=None if image is None else self.pixel_values([image])[0],
                    temperature=1.0,
                    finished=False,
                    text=answer,
                )
            )
        self.check_room([one.prompt_ids for one in given], max((len(one.tokens) for one in given), default=0))
        rows = self._scorer.log_probs(given, checkpointing=False) if given else []
        return [replace(one, log_probs=row.float().cpu()) for one, row in zip(given, rows, strict=True)]

    # Features and codes

    def pixel_values(self, images: Sequence[Image.Image]) -> Tensor:
        """[N, 3, S, S] float32 on the CPU, by the checkpoint's own preprocessing with PIL."""
        return self.inputs.pixel_values(images)

    @torch.no_grad()
    def image_features(self, images: Sequence[Image.Image]) -> Tensor:
        """Mean over the patches of the vision tower's last hidden state, [N, D] float32 on the CPU."""
        features = []
        for start in range(0, len(images), IMAGES_AT_ONCE):
            states = self.inputs.vision_states(self.pixel_values(images[start : start + IMAGES_AT_ONCE]))
            features.append(states.float().mean(dim=1).cpu())
        if not features:
            return torch.zeros(0, self.module.config.vision_config.hidden_size)
        return torch.cat(features)

    @torch.no_grad()
    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """VQ codes of images, [N, T] int64 on the CPU; see ``vq_codes``."""
        processor = self.processor.image_processor
        codes = [torch.zeros(0, self.image_tokens, dtype=torch.long)]
        for start in range(0, len(images), IMAGES_AT_ONCE):
            pixels = self.pixel_values(images[start : start + IMAGES_AT_ONCE])
            if processor.do_normalize:
                mean, std = (
                    torch.tensor(x).view(-1, 1, 1) for x in (processor.image_mean, processor.image_std)
                )
                pixels = pixels * std + mean
            codes.append(vq_codes(self.module.model.vqmodel, 2 * pixels - 1).cpu())
        return torch.cat(codes)

    # Training and saving

    def train_only(self, parts: Sequence[str]) -> list[tuple[str, nn.Parameter]]:
        core = self.module.model
        known: dict[str, list[nn.Module]] = {
            "language_model": [core.language_model, self.module.lm_head],
            "vision_model": [core.vision_model],
            "aligner": [core.aligner],
            "vqmodel": [core.vqmodel],
            "generation_embeddings": [core.generation_embeddings],
            "generation_aligner": [core.generation_aligner],
            "generation_head": [core.generation_head],
        }
        unknown = [part for part in parts if part not in known]
        if unknown:
            raise ValueError(
                f"The policy has no part {', '.join(unknown)}; its parts are {', '.join(known)}."
            )
        self.module.requires_grad_(False)
        for part in parts:
            for module in known[part]:
                module.requires_grad_(True)
        return [
            (name, parameter) for name, parameter in self.module.named_parameters() if parameter.requires_grad
        ]

    def save_pretrained(self, folder: Path) -> None:
        with written_aside(Path(folder)) as aside, quiet():
            self.module.save_pretrained(aside)
            write_processor(self.processor, aside, self._tokenizer_json)

    def check_room(self, prompts: Sequence[Tensor], steps: int) -> None:
        """Raise ValueError when a prompt and ``steps`` new tokens do not fit the model's context."""
        most = self.module.config.text_config.max_position_embeddings
        positions = max((len(prompt) for prompt in prompts), default=0) + steps
        if positions > most:
            raise ValueError(
                f"The longest prompt and {steps} new tokens need {positions} positions, but the model has "
                f"{most}; shorten the prompt or lower the number of new tokens."
            )


class _Texts:
    """Answers asked for: the request to the decode loop, and the trajectories that come of it."""

    def __init__(self, policy: JanusPolicy, asked: TextSampling) -> None:
        images, questions = list(asked.images), asked.questions
        if len(images) != len(questions):
            raise ValueError(f"{len(images)} images came with {len(questions)} questions; give one for each.")
        self.policy, self.asked = policy, asked
        self.ids = [
            policy.prompts.understanding(question, with_image=image is not None)
            for image, question in zip(images, questions, strict=True)
        ]
        policy.check_room(self.ids, asked.max_new_tokens)
        shared = {id(image): policy.pixel_values([image])[0] for image in images if image is not None}
        self.pixels = [None if image is None else shared[id(image)] for image in images]
        self.request = Request(
            head=policy.text_head,
            embed=policy.inputs.text,
            lengths=[len(row) for row in self.ids],
            prompts=self._embed,
            sampling=SamplingParams(
                rollouts=asked.rollouts,
                steps=asked.max_new_tokens,
                temperature=asked.temperature,
                stop_ids=policy.stop_ids,
            ),
            seed=asked.seed,
            stream=TEXT_STREAM,
        )

    def _embed(self, chosen: Sequence[int]) -> list[Prompt]:
        inputs = self.policy.inputs
        pixels = {digest(self.pixels[index]): self.pixels[index] for index in chosen}
        pictures = [image for image in pixels.values() if image is not None]
        embeds = dict(zip((key for key in pixels if key), inputs.images(pictures), strict=True))
        same: dict[tuple[bytes, str], Prompt] = {}
        prompts = []
        for index in chosen:
            key = (digest(self.pixels[index]), self.asked.questions[index])
            if key not in same:
                same[key] = Prompt(conditional=inputs.prompt(self.ids[index], embeds.get(key[0])))
            prompts.append(same[key])
        return prompts

    def trajectories(self, groups: Sequence[Sequence[Rollout]]) -> list[list[TextTrajectory]]:
        tokenizer = self.policy.processor.tokenizer
        return [
            [
                TextTrajectory(
                    tokens=rollout.tokens,
                    log_probs=rollout.log_probs,
                    prompt_ids=self.ids[index],
                    pixel_values=self.pixels[index],
                    temperature=float(self.asked.temperature),
                    finished=rollout.finished,
                    text=tokenizer.decode(
                        # the end of an answer is no part of its text, also where it is an ordinary token
                        rollout.tokens[:-1] if rollout.finished else rollout.tokens,
                        skip_special_tokens=True,
                    ).strip(),
                )
                for rollout in group
            ]
            for index, group in enumerate(groups)
        ]


class _Images:
    """Images asked for, likewise."""

    def __init__(self, policy: JanusPolicy, asked: ImageSampling) -> None:
        self.policy, self.asked = policy, asked
        self.ids = [policy.prompts.generation(prompt) for prompt in asked.prompts]
        policy.check_room(self.ids, policy.image_tokens)
        self.request = Request(
            head=policy.image_head,
            embed=policy.inputs.drawn,
            lengths=[len(row) for row in self.ids],
            prompts=self._embed,
            sampling=SamplingParams(
                rollouts=asked.rollouts,
                steps=policy.image_tokens,
                temperature=asked.temperature,
                guidance=asked.guidance,
                branch=asked.branch,
            ),
            seed=asked.seed,
            stream=IMAGE_STREAM,
        )

    def _embed(self, chosen: Sequence[int]) -> list[Prompt]:
        inputs = self.policy.inputs
        conditional: dict[str, Tensor] = {}
        unconditional: dict[tuple[int, ...], Tensor] = {}
        embedded = []
        for index in chosen:
            key = self.asked.prompts[index]
            if key not in conditional:
                conditional[key] = inputs.prompt(self.ids[index])
            twin = None
            if self.request.sampling.guided:
                masked = inputs.prompts.unconditional(self.ids[index])
                shape = tuple(masked.tolist())
                if shape not in unconditional:
                    unconditional[shape] = inputs.prompt(masked)
                twin = unconditional[shape]
            embedded.append(Prompt(conditional=conditional[key], unconditional=twin))
        return embedded

    def trajectories(self, groups: Sequence[Sequence[Rollout]]) -> list[list[ImageTrajectory]]:
        return [
            [
                ImageTrajectory(
                    tokens=rollout.tokens,
                    log_probs=rollout.log_probs,
                    prompt_ids=self.ids[index],
                    temperature=float(self.asked.temperature),
                    guidance=float(self.asked.guidance),
                    branch=self.asked.branch,
                )
                for rollout in group
            ]
            for index, group in enumerate(groups)
        ]


def load_janus(folder: Path, *, name: str, device: torch.device, dtype: torch.dtype) -> JanusPolicy:
    """The policy in a checkpoint folder of either layout; on the device "meta" without its weights."""
    model, processor = load_model(folder, dtype=dtype, weights=device.type != "meta")
    return JanusPolicy(model.to(device), processor, name=name, tokenizer=read_tokenizer(folder))
