"""Janus and Janus-Pro behind the ``UnifiedPolicy`` interface."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import JanusForConditionalGeneration, JanusProcessor

from pairuni.policies.decoding import Decoder, Prompt, Sampling, decode, guide, scoring_temperature
from pairuni.policies.files import written_aside
from pairuni.policies.janus.loading import load_model, quiet
from pairuni.policies.janus.prompts import JanusPrompts
from pairuni.policies.janus.vq import vq_codes
from pairuni.policies.policy import (
    ImageTrajectory,
    LogProbBranch,
    TextTrajectory,
    Trajectory,
    TrajectoryLogProbs,
    UnifiedPolicy,
)
from pairuni.policies.replay import last_states, token_log_probs

TEXT_STREAM, IMAGE_STREAM = 0, 1
CACHE_BUDGET = 8 << 30
"""Bytes of keys and values that one batch of rollouts may hold when ``max_rows`` is not given."""

_IMAGES_AT_ONCE = 32


class JanusPolicy(UnifiedPolicy):
    """A ``JanusForConditionalGeneration`` and its processor; the model is kept in eval mode, free of dropout.

    max_rows: rows decoded together, guided pictures counting twice; None derives it from ``CACHE_BUDGET``.
    """

    module: JanusForConditionalGeneration

    def __init__(
        self,
        model: JanusForConditionalGeneration,
        processor: JanusProcessor,
        *,
        name: str = "janus",
        max_rows: int | None = None,
    ) -> None:
        self.name, self.max_rows = name, max_rows
        self.module, self.processor = model.eval(), processor
        self.prompts = JanusPrompts(processor)
        self.default_guidance = float(model.generation_config.guidance_scale or self.default_guidance)
        core, config = model.model, model.config
        self.image_tokens = int(config.vq_config.num_patches) ** 2
        self._backbone: nn.Module = core.language_model
        self._embed_text: nn.Module = core.language_model.get_input_embeddings()
        self._text = Decoder(backbone=self._backbone, head=model.lm_head, embed=self._embed_text)
        self._image = Decoder(
            backbone=self._backbone,
            head=core.generation_head,
            embed=model.prepare_embeddings_for_image_generation,
        )

    # Sampling

    def sample_text(
        self,
        images: Sequence[Image.Image | None],
        questions: Sequence[str],
        *,
        rollouts: int,
        temperature: float,
        max_new_tokens: int,
        seed: int,
    ) -> list[list[TextTrajectory]]:
        """As ``UnifiedPolicy.sample_text``; an image may be None for a question about text alone."""
        if len(images) != len(questions):
            raise ValueError(f"{len(images)} images came with {len(questions)} questions; give one for each.")
        images = list(images)
        ids = [
            self.prompts.understanding(question, with_image=image is not None)
            for image, question in zip(images, questions, strict=True)
        ]
        shared: dict[int, Tensor] = {}
        for image in images:
            if image is not None and id(image) not in shared:
                shared[id(image)] = self.pixel_values([image])[0]
        pixels = [None if image is None else shared[id(image)] for image in images]
        sampling = Sampling(
            rollouts=rollouts,
            steps=max_new_tokens,
            temperature=temperature,
            stop_id=self.prompts.eos,
            max_rows=self._rows(ids, max_new_tokens),
        )

        def embed(chosen: Sequence[int]) -> list[Prompt]:
            features = self._image_embeds([pixels[index] for index in chosen])
            same: dict[tuple[int, str], Prompt] = {}
            prompts = []
            for index, feature in zip(chosen, features, strict=True):
                key = (id(pixels[index]), questions[index])
                if key not in same:
                    same[key] = Prompt(conditional=self._prompt_embeds(ids[index], feature))
                prompts.append(same[key])
            return prompts

        groups = decode(self._text, [len(row) for row in ids], embed, sampling, seed=seed, stream=TEXT_STREAM)
        return [
            [
                TextTrajectory(
                    tokens=rollout.tokens,
                    log_probs=rollout.log_probs,
                    prompt_ids=ids[index],
                    pixel_values=pixels[index],
                    temperature=float(temperature),
                    finished=rollout.finished,
                    text=self.processor.tokenizer.decode(rollout.tokens, skip_special_tokens=True).strip(),
                )
                for rollout in group
            ]
            for index, group in enumerate(groups)
        ]

    def sample_images(
        self,
        prompts: Sequence[str],
        *,
        rollouts: int,
        temperature: float,
        guidance: float,
        branch: LogProbBranch,
        seed: int,
    ) -> list[list[ImageTrajectory]]:
        ids = [self.prompts.generation(prompt) for prompt in prompts]
        sampling = Sampling(
            rollouts=rollouts,
            steps=self.image_tokens,
            temperature=temperature,
            guidance=guidance,
            branch=branch,
            max_rows=self._rows(ids, self.image_tokens),
        )

        def embed(chosen: Sequence[int]) -> list[Prompt]:
            conditional: dict[str, Tensor] = {}
            unconditional: dict[tuple[int, ...], Tensor] = {}
            embedded = []
            for index in chosen:
                key = prompts[index]
                if key not in conditional:
                    conditional[key] = self._prompt_embeds(ids[index], None)
                twin = None
                if sampling.guided:
                    masked = self.prompts.unconditional(ids[index])
                    shape = tuple(masked.tolist())
                    if shape not in unconditional:
                        unconditional[shape] = self._prompt_embeds(masked, None)
                    twin = unconditional[shape]
                embedded.append(Prompt(conditional=conditional[key], unconditional=twin))
            return embedded

        groups = decode(
            self._image, [len(row) for row in ids], embed, sampling, seed=seed, stream=IMAGE_STREAM
        )
        return [
            [
                ImageTrajectory(
                    tokens=rollout.tokens,
                    log_probs=rollout.log_probs,
                    prompt_ids=ids[index],
                    temperature=float(temperature),
                    guidance=float(guidance),
                    branch=branch,
                )
                for rollout in group
            ]
            for index, group in enumerate(groups)
        ]

    @torch.no_grad()
    def decode_images(self, trajectories: Sequence[ImageTrajectory]) -> list[Image.Image]:
        pictures = []
        for start in range(0, len(trajectories), _IMAGES_AT_ONCE):
            batch = trajectories[start : start + _IMAGES_AT_ONCE]
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
        group = self.sample_text(
            [image], [question], rollouts=1, temperature=0.0, max_new_tokens=max_new_tokens, seed=0
        )
        return group[0][0].text

    def draw(
        self,
        prompt: str,
        *,
        count: int = 1,
        guidance: float | None = None,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> list[Image.Image]:
        """``count`` pictures of one prompt; guidance None is the checkpoint's own."""
        guidance = self.default_guidance if guidance is None else guidance
        groups = self.sample_images(
            [prompt], rollouts=count, temperature=temperature, guidance=guidance, branch="guided", seed=seed
        )
        return self.decode_images(groups[0])

    # Scoring

    def log_probs(self, trajectories: Sequence[Trajectory]) -> TrajectoryLogProbs:
        if not trajectories:
            raise ValueError("log_probs was given no trajectories.")
        places: dict[str, list[int]] = {"text": [], "image": []}
        for place, trajectory in enumerate(trajectories):
            places[trajectory.modality].append(place)
        rows: dict[int, Tensor] = {}
        texts = [one for one in trajectories if isinstance(one, TextTrajectory)]
        pictures = [one for one in trajectories if isinstance(one, ImageTrajectory)]
        if texts:
            rows.update(zip(places["text"], self._score_text(texts), strict=True))
        if pictures:
            rows.update(zip(places["image"], self._score_images(pictures), strict=True))
        ordered = [rows[place] for place in range(len(trajectories))]
        values = nn.utils.rnn.pad_sequence(ordered, batch_first=True)
        mask = nn.utils.rnn.pad_sequence([torch.ones_like(row.detach()) for row in ordered], batch_first=True)
        return TrajectoryLogProbs(values=values, mask=mask)

    def _score_text(self, trajectories: Sequence[TextTrajectory]) -> Sequence[Tensor]:
        features = self._image_embeds([trajectory.pixel_values for trajectory in trajectories])
        sequences = []
        for trajectory, feature in zip(trajectories, features, strict=True):
            prompt = self._prompt_embeds(trajectory.prompt_ids, feature)
            answer = self._embed_text(trajectory.tokens[:-1].to(self.device))
            sequences.append(torch.cat([prompt, answer]))
        states = last_states(self._backbone, sequences, [len(one.tokens) for one in trajectories])
        return self._gather(self.module.lm_head(states), trajectories)

    def _score_images(self, trajectories: Sequence[ImageTrajectory]) -> Sequence[Tensor]:
        mixed = [one.branch == "guided" and one.guidance != 1.0 for one in trajectories]
        twins = [one for one, is_mixed in zip(trajectories, mixed, strict=True) if is_mixed]
        tokens = [one.tokens.to(self.device) for one in (*trajectories, *twins)]
        prompts = [one.prompt_ids for one in trajectories]
        prompts += [self.prompts.unconditional(one.prompt_ids) for one in twins]
        sequences = [
            torch.cat([self._prompt_embeds(prompt, None), self._image.embed(drawn[:-1])])
            for prompt, drawn in zip(prompts, tokens, strict=True)
        ]
        counts = [len(drawn) for drawn in tokens]
        logits = self._image.head(last_states(self._backbone, sequences, counts)).float()
        split = sum(counts[: len(trajectories)])
        conditional, unconditional = logits[:split], logits[split:]
        if not twins:
            return self._gather(conditional, trajectories)
        guidance = self._spread(twins, [one.guidance for one in twins]).unsqueeze(1)
        if all(mixed):
            return self._gather(guide(conditional, unconditional, guidance), trajectories)
        chosen = self._spread(trajectories, mixed).bool()
        guided = guide(conditional[chosen], unconditional, guidance)
        return self._gather(conditional.index_put((chosen,), guided), trajectories)

    def _gather(self, logits: Tensor, trajectories: Sequence[Trajectory]) -> Sequence[Tensor]:
        """Logits of all tokens in a row, [sum of T, V] -> log-probs of each trajectory, [T_i]."""
        tokens = torch.cat([one.tokens for one in trajectories]).to(self.device)
        temperatures = [scoring_temperature(one.temperature) for one in trajectories]
        values = token_log_probs(logits, tokens, self._spread(trajectories, temperatures))
        return values.split([len(one.tokens) for one in trajectories])

    def _spread(self, trajectories: Sequence[Trajectory], numbers: Sequence[float]) -> Tensor:
        """One number a trajectory -> one a token, [sum of T] float32."""
        counts = torch.tensor([len(one.tokens) for one in trajectories])
        return torch.tensor(numbers, dtype=torch.float32).repeat_interleave(counts).to(self.device)

    # Embeddings and features

    def pixel_values(self, images: Sequence[Image.Image]) -> Tensor:
        """[N, 3, S, S] float32 on the CPU, by the checkpoint's own preprocessing with PIL."""
        rgb = [image.convert("RGB") for image in images]
        return self.processor.image_processor(rgb, return_tensors="pt")["pixel_values"].float()

    def _prompt_embeds(self, prompt_ids: Tensor, image: Tensor | None) -> Tensor:
        """[P, H] input embeddings, image placeholders replaced by the image's embeddings [T, H]."""
        ids = prompt_ids.to(self.device)
        embeds = self._embed_text(ids)
        if image is None:
            return embeds
        return embeds.masked_scatter((ids == self.prompts.image).unsqueeze(1), image.to(embeds.dtype))

    def _image_embeds(self, pixels: Sequence[Tensor | None]) -> list[Tensor | None]:
        """[T, H] of each image after the aligner; equal images run once, a frozen tower without graph."""
        keys: list[bytes | None] = []
        digests: dict[int, bytes] = {}
        distinct: dict[bytes, Tensor] = {}
        for image in pixels:
            if image is None:
                keys.append(None)
                continue
            if id(image) not in digests:
                digests[id(image)] = hashlib.blake2b(image.contiguous().numpy().tobytes()).digest()
            keys.append(digests[id(image)])
            distinct.setdefault(digests[id(image)], image)
        embeds: dict[bytes, Tensor] = {}
        images = list(distinct.items())
        for start in range(0, len(images), _IMAGES_AT_ONCE):
            batch = images[start : start + _IMAGES_AT_ONCE]
            states = self._vision_states(torch.stack([image for _, image in batch]))
            aligned = self.module.model.aligner(states)
            embeds.update((key, row) for (key, _), row in zip(batch, aligned, strict=True))
        return [None if key is None else embeds[key] for key in keys]

    def _vision_states(self, pixels: Tensor) -> Tensor:
        """[N, 3, S, S] -> last hidden states of the vision tower [N, T, D]."""
        tower = self.module.model.vision_model
        trains = any(parameter.requires_grad for parameter in tower.parameters())
        with torch.set_grad_enabled(trains and torch.is_grad_enabled()):
            return tower(pixels.to(self.device)).last_hidden_state

    @torch.no_grad()
    def image_features(self, images: Sequence[Image.Image]) -> Tensor:
        """Mean over the patches of the vision tower's last hidden state, [N, D] float32 on the CPU."""
        features = []
        for start in range(0, len(images), _IMAGES_AT_ONCE):
            states = self._vision_states(self.pixel_values(images[start : start + _IMAGES_AT_ONCE]))
            features.append(states.float().mean(dim=1).cpu())
        if not features:
            return torch.zeros(0, self.module.config.vision_config.hidden_size)
        return torch.cat(features)

    @torch.no_grad()
    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """VQ codes of pictures, [N, T] int64 on the CPU; see ``vq_codes``."""
        processor = self.processor.image_processor
        codes = [torch.zeros(0, self.image_tokens, dtype=torch.long)]
        for start in range(0, len(images), _IMAGES_AT_ONCE):
            pixels = self.pixel_values(images[start : start + _IMAGES_AT_ONCE])
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
            self.processor.save_pretrained(aside)

    def _rows(self, prompts: Sequence[Tensor], steps: int) -> int:
        """Rows that one batch may hold, and the check that they fit the model's context."""
        config = self.module.config.text_config
        positions = max((len(prompt) for prompt in prompts), default=0) + steps
        if positions > config.max_position_embeddings:
            raise ValueError(
                f"The longest prompt and {steps} new tokens need {positions} positions, but the model has "
                f"{config.max_position_embeddings}; shorten the prompt or lower the number of new tokens."
            )
        if self.max_rows is not None:
            return self.max_rows
        width = config.num_key_value_heads * config.head_dim * self.module.dtype.itemsize
        row = 2 * config.num_hidden_layers * width * positions
        return min(256, max(2, CACHE_BUDGET // row))


def load_janus(folder: Path, *, name: str, device: torch.device, dtype: torch.dtype) -> JanusPolicy:
    """The policy in a checkpoint folder of either layout."""
    model, processor = load_model(folder, dtype=dtype)
    return JanusPolicy(model.to(device), processor, name=name)
