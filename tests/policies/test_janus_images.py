"""The image side of Janus: VQ codes, features of the vision tower, parts that train."""

import numpy as np
import pytest
import torch
from PIL import Image

from pairuni.policies.janus.images import vq_codes
from pairuni.policies.requests import ImageSampling
from reference.janus_decoding import nearest_codes


@pytest.fixture(scope="module")
def noise_images():
    values = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    return [Image.fromarray(value) for value in values]


@torch.no_grad()
def test_codes_are_nearest_on_the_unit_sphere(policy, noise_images):
    """Also for a codebook of uneven norms, where plain distances choose other codes."""
    vq = policy.module.model.vqmodel
    pixels = policy.pixel_values(noise_images)
    before = vq.quantize.embedding.weight.clone()
    try:
        vq.quantize.embedding.weight.mul_(torch.linspace(0.2, 5.0, len(before))[:, None])
        latents = vq.quant_conv(vq.encoder(pixels)).permute(0, 2, 3, 1).flatten(0, 2)
        expected = nearest_codes(latents, vq.quantize.embedding.weight).view(3, 16)
        plain = vq.encode(pixels).image_tokens.view(3, 16)
        assert torch.equal(policy.encode_images(noise_images), expected)
        assert torch.equal(vq_codes(vq, pixels), expected)
        assert not torch.equal(plain, expected)
    finally:
        vq.quantize.embedding.weight.copy_(before)


@torch.no_grad()
def test_codes_equal_transformers_for_codes_of_unit_length(policy, noise_images):
    vq = policy.module.model.vqmodel
    before = vq.quantize.embedding.weight.clone()
    try:
        vq.quantize.embedding.weight.copy_(torch.nn.functional.normalize(before, dim=-1))
        plain = vq.encode(policy.pixel_values(noise_images)).image_tokens.view(3, 16)
        assert torch.equal(policy.encode_images(noise_images), plain)
    finally:
        vq.quantize.embedding.weight.copy_(before)


@torch.no_grad()
def test_decoded_images_are_those_of_the_vq(policy):
    trajectories = policy.sample_images(ImageSampling(prompts=["a cat"], rollouts=2, guidance=5.0))[0]
    images = policy.decode_images(trajectories)
    for trajectory, image in zip(trajectories, images, strict=True):
        decoded = policy.module.model.vqmodel.decode(trajectory.tokens[None])[0]
        expected = ((decoded + 1) / 2 * 255).clamp(0, 255).permute(1, 2, 0).numpy().astype(np.uint8)
        difference = np.abs(np.asarray(image).astype(int) - expected.astype(int))
        assert difference.max() <= 1  # convolutions of another batch size round otherwise


@torch.no_grad()
def test_features_are_the_mean_over_patches(policy, images):
    features = policy.image_features(images)
    pixels = policy.pixel_values(images)
    expected = policy.module.model.vision_model(pixels).last_hidden_state.mean(dim=1)
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-5)
    assert features.dtype == torch.float32
    assert policy.image_features([]).shape == (0, features.shape[1])


def test_train_only_freezes_all_else(fresh_policy):
    policy = fresh_policy
    trained = policy.train_only(["language_model", "generation_head"])
    names = {name for name, _ in trained}
    assert "lm_head.weight" in names
    assert "model.language_model.embed_tokens.weight" in names
    assert all(
        name.startswith(("lm_head", "model.language_model", "model.generation_head")) for name in names
    )
    for name, parameter in policy.module.named_parameters():
        assert parameter.requires_grad == (name in names)
    assert policy.train_only([]) == []


def test_every_parameter_belongs_to_a_part(fresh_policy):
    parts = (
        *("language_model", "vision_model", "aligner", "vqmodel"),
        *("generation_embeddings", "generation_aligner", "generation_head"),
    )
    named = fresh_policy.train_only(parts)
    assert len(named) == len(list(fresh_policy.module.parameters()))
    with pytest.raises(ValueError, match=r"no part tower; its parts are language_model, .*generation_head"):
        fresh_policy.train_only(["tower"])
