"""A unified policy small enough to check by hand: a table of logits by prompt and previous token.

It has exact log-probs, answers of varying length that end in EOS, and guided images of four cells.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from pairuni.policies.autoregressive import AutoregressivePolicy, ImageTokens, TextTokens, TokenTrajectory
from pairuni.policies.decoding.truncation import pack, unpack
from pairuni.policies.requests import ImageSampling, TextSampling
from pairuni.policies.trajectories import TrajectoryLogProbs

EOS = 0
WORDS = ["", "A", "B", "C", "D"]
COLOURS = [(0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 255, 255)]
CONTEXTS = 7
IMAGE_TOKENS = 4


class FakeTables(nn.Module):
    def __init__(self, dtype: torch.dtype, spread: float) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(5)

        def table(tokens: int) -> nn.Parameter:
            values = torch.randn(CONTEXTS, tokens + 1, tokens, generator=draw, dtype=torch.float64)
            return nn.Parameter((spread * values).to(dtype))

        self.words = table(len(WORDS))
        self.cells = table(len(COLOURS))
        self.shared = nn.Parameter(torch.ones(1, dtype=dtype))
        self.frozen = nn.Parameter(torch.ones(3, dtype=dtype))


class FakePolicy(AutoregressivePolicy):
    """Row 0 of each table is the unconditional prompt; ``shared`` scales both tasks' logits."""

    name = "fake"
    truncates = True

    def __init__(self, dtype: torch.dtype = torch.float32, spread: float = 0.5) -> None:
        self.module: FakeTables = FakeTables(dtype, spread)
        self.replays = 0

    def _logits(self, table: Tensor, context: int, previous: int) -> Tensor:
        return self.module.shared * table[context, previous]

    def _step(self, trajectory_kind: str, context: int, previous: int, guidance: float) -> Tensor:
        if trajectory_kind == "text":
            return self._logits(self.module.words, context, previous)
        conditional = self._logits(self.module.cells, context, previous)
        unconditional = self._logits(self.module.cells, 0, previous)
        return unconditional + guidance * (conditional - unconditional)

    def sample_text(self, request: TextSampling) -> list[list[TextTokens]]:
        groups = []
        for index, (image, question) in enumerate(zip(request.images, request.questions, strict=True)):
            assert image is not None
            assert image.mode == "RGB"
            prompt = torch.tensor(list(question.encode()))
            group = []
            for rollout in range(request.rollouts):
                draw = torch.Generator().manual_seed(
                    request.seed + 1000 * (request.first_prompt + index) + rollout
                )
                tokens, log_probs, kept = self._sample(
                    "text", prompt, request, 1.0, request.max_new_tokens, draw
                )
                group.append(
                    TextTokens(
                        tokens=tokens,
                        log_probs=log_probs,
                        prompt_ids=prompt,
                        pixel_values=(),
                        temperature=request.temperature,
                        kept=kept,
                        finished=bool(tokens[-1] == EOS),
                        text="".join(WORDS[token] for token in tokens.tolist()),
                    )
                )
            groups.append(group)
        return groups

    def sample_images(self, request: ImageSampling) -> list[list[ImageTokens]]:
        groups = []
        for index, text in enumerate(request.prompts):
            prompt = torch.tensor(list(text.encode()))
            group = []
            for rollout in range(request.rollouts):
                draw = torch.Generator().manual_seed(
                    request.seed + 1000 * (request.first_prompt + index) + rollout
                )
                tokens, log_probs, kept = self._sample(
                    "image", prompt, request, request.guidance, IMAGE_TOKENS, draw
                )
                trajectory = ImageTokens(
                    tokens=tokens,
                    log_probs=log_probs,
                    prompt_ids=prompt,
                    temperature=request.temperature,
                    guidance=request.guidance,
                    branch=request.branch,
                    kept=kept,
                )
                group.append(trajectory)
            groups.append(group)
        return groups

    @torch.no_grad()
    def _sample(
        self,
        kind: str,
        prompt: Tensor,
        request: TextSampling | ImageSampling,
        guidance: float,
        longest: int,
        draw: torch.Generator,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        tokens: list[int] = []
        log_probs: list[Tensor] = []
        kept: list[Tensor] = []
        while len(tokens) < longest and (kind == "image" or EOS not in tokens):
            previous = tokens[-1] + 1 if tokens else 0
            scores = self._step(kind, _context(prompt), previous, guidance) / request.temperature
            distribution = scores.float().log_softmax(dim=-1)
            kept.append(_kept(distribution.exp().tolist(), request.top_k, request.top_p))
            distribution = distribution.masked_fill(~kept[-1], -torch.inf).log_softmax(dim=-1)
            tokens.append(int(torch.multinomial(distribution.exp(), 1, generator=draw)))
            log_probs.append(distribution[tokens[-1]])
        truncated = request.top_k > 0 or request.top_p < 1.0
        return (
            torch.tensor(tokens),
            torch.stack(log_probs),
            pack(torch.stack(kept)) if truncated else None,
        )

    def decode_images(self, trajectories: Sequence[ImageTokens]) -> list[Image.Image]:
        images = []
        for trajectory in trajectories:
            image = Image.new("RGB", (2, 2))
            image.putdata([COLOURS[token] for token in trajectory.tokens.tolist()])
            images.append(image)
        return images

    def log_probs(self, trajectories: Sequence[TokenTrajectory]) -> TrajectoryLogProbs:
        self.replays += 1
        longest = max(len(trajectory.tokens) for trajectory in trajectories)
        rows, mask = [], torch.zeros(len(trajectories), longest)
        for row, trajectory in enumerate(trajectories):
            guidance = 1.0
            if isinstance(trajectory, ImageTokens) and trajectory.branch == "guided":
                guidance = trajectory.guidance
            previous, values = 0, []
            for place, token in enumerate(trajectory.tokens.tolist()):
                scores = self._step(trajectory.modality, _context(trajectory.prompt_ids), previous, guidance)
                scores = scores / trajectory.temperature
                if trajectory.kept is not None:
                    (kept,) = unpack(trajectory.kept[place : place + 1], len(scores))
                    scores = scores.masked_fill(~kept, -torch.inf)
                values.append(scores.log_softmax(dim=-1)[token])
                previous = token + 1
            mask[row, : len(values)] = 1
            # a policy may leave anything in its padding
            padding = torch.full((longest - len(values),), -3.0, dtype=values[0].dtype)
            rows.append(torch.cat([torch.stack(values), padding]))
        return TrajectoryLogProbs(values=torch.stack(rows), mask=mask)

    def image_features(self, images: Sequence[Image.Image]) -> Tensor:
        return torch.stack([torch.tensor(image.resize((1, 1)).getpixel((0, 0))).float() for image in images])

    def train_only(self, parts: Sequence[str]) -> list[tuple[str, nn.Parameter]]:
        if unknown := set(parts) - {"language_model", "aligner", "generation_head"}:
            raise ValueError(f"no part {sorted(unknown)[0]!r}")
        self.module.frozen.requires_grad_(False)
        return [(name, p) for name, p in self.module.named_parameters() if p.requires_grad]

    def save_pretrained(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(dict(self.module.state_dict()), folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"model_type": self.name}))


def _kept(probs: list[float], top_k: int, top_p: float) -> Tensor:
    """[V] bool: of the top_k most probable tokens, the fewest that have a share top_p of their probability."""
    ranked = sorted(range(len(probs)), key=lambda token: -probs[token])[: top_k or None]
    chosen: list[int] = []
    while not chosen or sum(probs[t] for t in chosen) < top_p * sum(probs[t] for t in ranked):
        chosen.append(ranked[len(chosen)])
        if len(chosen) == len(ranked):
            break
    return torch.tensor([token in chosen for token in range(len(probs))])


def _context(prompt: Tensor) -> int:
    return 1 + int(prompt.sum()) % (CONTEXTS - 1)
