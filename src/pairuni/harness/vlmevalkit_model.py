"""A policy as a VLMEvalKit model, registered by ``pairuni.harness.vlmevalkit``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlmeval.vlm.base import BaseModel
from vlmeval.vlm.janus import Janus

from pairuni.harness.asking import AnswerSettings, Question, answers, check_several_images
from pairuni.policies.janus.policy import JanusPolicy
from pairuni.runs.models import load_model


class PairUni(Janus):
    """Inherits the prompts of VLMEvalKit's Janus; loading and generation are pairuni's.

    As there, a Janus policy has no system prompt; the one that VLMEvalKit's Janus adds for MMVet is not used.
    """

    def __init__(
        self,
        policy: str,
        *,
        device: str = "auto",
        dtype: str = "auto",
        max_new_tokens: int = 2048,
        several_images: str = "all",
    ) -> None:
        """several_images: see ``asking.question_images``. Raises ValueError for an unknown policy or choice."""
        BaseModel.__init__(self)
        self.several_images = check_several_images(several_images)
        self.settings = AnswerSettings(max_new_tokens=max_new_tokens)
        self.policy = load_model(policy, device=device, dtype=dtype)
        if isinstance(self.policy, JanusPolicy):
            self.policy.processor.use_default_system_prompt = False

    def generate_inner(self, message: Sequence[dict[str, Any]], dataset: str | None = None) -> str:
        """The greedy answer to a message of texts and images: the images, then the joined texts.

        Raises ValueError for a conversation, for a video, and for several images as ``several_images`` says.
        """
        if any("role" in part for part in message):
            raise ValueError(
                f"{dataset or 'the data set'} has conversations; policies answer single questions"
            )
        question = Question(
            text="".join(part["value"] for part in message if part["type"] == "text").strip(),
            images=lambda: [part["value"] for part in message if part["type"] != "text"],
            settings=self.settings,
        )
        (batch,) = answers(self.policy, [question], batch_size=1, several_images=self.several_images)
        return batch[0][2]

    def chat(self, messages: Any, dataset: str | None = None) -> str:
        """Raises ValueError; VLMEvalKit's ``chat`` would turn a failure into a reply and score it."""
        raise ValueError(f"{dataset or 'the data set'} has conversations; policies answer single questions")
