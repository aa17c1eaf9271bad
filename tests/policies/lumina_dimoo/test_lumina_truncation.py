"""Lumina-DiMOO has no top-k and top-p, and says so."""

import pytest
from lumina_requests import drawings, texts

from pairuni.policies.requests import CannotTruncate

pytest.importorskip("diffusers")


@pytest.mark.parametrize("truncation", [{"top_k": 5}, {"top_p": 0.9}], ids=str)
def test_truncated_sampling_is_refused(lumina_policy, truncation):
    said = "cannot sample with top_k or top_p; set rollout.top_k to 0"
    with pytest.raises(CannotTruncate, match=said):
        lumina_policy.sample_text(texts(**truncation))
    with pytest.raises(CannotTruncate, match=said):
        lumina_policy.sample_images(drawings(**truncation))
    with pytest.raises(CannotTruncate, match=said):
        lumina_policy.sample(texts(), drawings(**truncation))
