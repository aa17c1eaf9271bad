"""A policy as a VLMEvalKit model; ``pairuni.harness.vlmevalkit`` makes it known to VLMEvalKit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlmeval.vlm.base import BaseModel
from vlmeval.vlm.janus import Janus

from pairuni.harness.asking import AnswerSettings, Question, answers, check_several_images
from pairuni.policies.janus.policy import JanusPolicy
from pairuni.runs.models import load_model


class PairUni(Janus):
    """Prompts are those of VLMEvalKit's own Janus, from which this inherits; loading and answering are ours.

    Like it, a Janus policy is asked without a system prompt; the one that VLMEvalKit's Janus adds for MMVet
    alone is left out.
    """

    def __init__(
        self,
        policy: str,
        *,
        device: str = "auto",
        dtype: str = "auto",
        max_new_tokens: int = 2048,
        several_images: str = "error",
    ) -> None:
        """several_images: see ``asking.one_image``. Raises ValueError for an unknown policy or choice."""
        BaseModel.__init__(self)
        self.several_images = check_several_images(several_images)
        self.settings = AnswerSettings(max_new_tokens=max_new_tokens)
        self.policy = load_model(policy, device=device, dtype=dtype)
        if isinstance(self.policy, JanusPolicy):
            self.policy.processor.use_default_system_prompt = False

    def generate_inner(self, message: Sequence[dict[str, Any]], dataset: str | None = None) -> str:
        """The greedy answer to texts and images in any order: texts joined, the image before them.

        Raises ValueError for a conversation, for a video, and for several images unless told what to do.
        """
        if any("role" in part for part in message):
            raise ValueError(
                f"{dataset or 'The data set'} holds conversations; policies answer one question."
            )
        question = Question(
            text="".join(part["value"] for part in message if part["type"] == "text").strip(),
            pictures=lambda: [part["value"] for part in message if part["type"] != "text"],
            settings=self.settings,
        )
        (batch,) = answers(self.policy, [question], batch_size=1, several_images=self.several_images)
        return batch[0][2]

    def chat(self, messages: Any, dataset: str | None = None) -> str:
        """Refused at once; VLMEvalKit's own ``chat`` would answer a failure with a sentence, and score it."""
        raise ValueError(f"{dataset or 'The data set'} holds conversations; policies answer one question.")
