"""Requests and results of a decode loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from pairuni.policies.decoding.sampling import Head, SamplingParams
from pairuni.policies.decoding.truncation import packed_size


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Input embeddings [P, H] of a prompt and [U, H] of its unconditional prompt.

    Prompts that share a tensor share its prefill.
    """

    conditional: Tensor
    unconditional: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Request:
    """Rollouts of several prompts with one head.

    embed: token ids [N] -> input embeddings [N, H].
    lengths: token counts of the prompts; unconditional_lengths: of their unconditional prompts, by default the same.
    prompts: indices -> their embeddings; called chunk by chunk, so that only the prompts being decoded are in memory.
    stream: separates the noise of requests that share a seed. first_prompt: added to the indices of the prompts in
    their noise.
    """

    head: Head
    embed: Callable[[Tensor], Tensor]
    lengths: Sequence[int]
    prompts: Callable[[Sequence[int]], Sequence[Prompt]]
    sampling: SamplingParams
    seed: int
    stream: int = 0
    first_prompt: int = 0
    unconditional_lengths: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, but must be 0 or larger.")

    @property
    def kept_bytes(self) -> int:
        """Bytes that a token's packed kept tokens take; 0 where all are kept."""
        return packed_size(len(self.head.project.weight)) if self.sampling.truncates else 0

    @property
    def branch_lengths(self) -> list[Sequence[int]]:
        """Token counts of the prompts of each branch that is decoded."""
        if not self.sampling.guided:
            return [self.lengths]
        return [self.lengths, self.unconditional_lengths or self.lengths]

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt of any branch; 0 without prompts."""
        return max((length for lengths in self.branch_lengths for length in lengths), default=0)


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """tokens: [T] int64; log_probs: [T] float32; kept: [T, B] uint8 or None for all tokens, as ``sample_tokens`` gives
    them; all on the CPU. finished: it ended with a stop token."""

    tokens: Tensor
    log_probs: Tensor
    kept: Tensor | None
    finished: bool
