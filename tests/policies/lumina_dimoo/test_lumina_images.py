"""Sizes of images as in the original, and the VQ as the original calls it."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from pairuni.policies.lumina_dimoo.images import fit, nearest_size, sizes
from pairuni.policies.lumina_dimoo.vq import LuminaVQ, load_vq, new_vq
from tiny_lumina import AMUSED, IDS, TINY_VQ

pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def vq():
    torch.manual_seed(0)
    model = new_vq(**TINY_VQ)
    with torch.no_grad():
        model.quantize.embedding.weight.normal_()
        model.quant_conv.weight.normal_(0, 2)
    return LuminaVQ(model, IDS)


@pytest.fixture(scope="module")
def photos():
    rng = np.random.default_rng(0)
    return [
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for height, width in ((6, 8), (6, 8), (4, 4), (6, 8))
    ]


def test_sizes_are_those_of_the_original(original):
    for case in original["sizes"]:
        found = nearest_size(*case["image"], sizes(case["side"], 32))
        assert list(found) == case["size"]


def test_scaling_is_that_of_the_original(original):
    image = Image.merge("RGB", [Image.linear_gradient("L").rotate(90 * turn) for turn in range(3)])
    scaled = np.asarray(fit(image.resize((150, 150)), (32, 32)))
    assert scaled[16].tolist() == original["pixels"]


def test_an_image_is_cut_in_the_middle():
    image = Image.new("RGBA", (96, 32), "red")
    image.paste((0, 0, 255, 255), (32, 0, 64, 32))
    found = fit(image, (32, 32))
    assert found.mode == "RGB"
    assert np.unique(np.asarray(found).reshape(-1, 3), axis=0).tolist() == [[0, 0, 255]]


def test_codes_are_those_of_the_original_calls(vq, photos):
    from diffusers.image_processor import VaeImageProcessor

    found = vq.encode(photos)
    assert vq.scale == 2
    for image, codes in zip(photos, found, strict=True):
        pixels = VaeImageProcessor(vae_scale_factor=2, do_normalize=False).preprocess(image)
        with torch.no_grad():
            latents = vq.model.encode(pixels).latents
            expected = vq.model.quantize(latents)[2][2].reshape(latents.shape[2:])
        assert torch.equal(codes, expected)
        assert codes.shape == (image.height // 2, image.width // 2)
    assert len(torch.unique(torch.cat([codes.flatten() for codes in found]))) > 4


def test_images_are_those_of_the_original_calls(vq):
    from diffusers.image_processor import VaeImageProcessor

    generator = torch.Generator().manual_seed(1)
    codes = [torch.randint(24, shape, generator=generator) for shape in ((3, 4), (3, 4), (2, 2))]
    for one, image in zip(codes, vq.decode(codes), strict=True):
        with torch.no_grad():
            pixels = vq.model.decode(one[None], force_not_quantize=True, shape=(1, *one.shape, 4)).sample
        processor = VaeImageProcessor(vae_scale_factor=2, do_normalize=False)
        [expected] = processor.postprocess(pixels.clip(0, 1), output_type="pil")
        assert image.size == (2 * one.shape[1], 2 * one.shape[0])
        difference = np.asarray(image).astype(int) - np.asarray(expected).astype(int)
        assert np.abs(difference).max() <= 1


def test_a_vq_is_loaded_as_diffusers_saves_it(vq, photos, tmp_path):
    vq.model.save_pretrained(tmp_path / "vqvae")
    loaded = load_vq(tmp_path, IDS)
    for one, other in zip(loaded.encode(photos), vq.encode(photos), strict=True):
        assert torch.equal(one, other)
    assert load_vq(tmp_path, IDS, weights=False).model.quant_conv.weight.is_meta


def test_amused_has_sixteen_pixels_a_code(tmp_path):
    (tmp_path / "vqvae").mkdir()
    config = {"_class_name": "VQModel", **AMUSED}
    (tmp_path / "vqvae" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert load_vq(tmp_path, replace(IDS, codebook=8192), weights=False).scale == 16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "AutoencoderKL"}, "AutoencoderKL"),
        ({"num_vq_embeddings": 25}, "25 codes"),
        ({"layers_per_block": 10**7}, "layers_per_block"),
        ({"block_out_channels": [8] * 5000}, "5000 items"),
        ({"latent_channels": "x"}, "cannot be read"),
        ({"layers_per_block": 2}, "tensors are missing"),
    ],
)
def test_a_vq_that_does_not_fit_is_refused(vq, tmp_path, changes, message):
    vq.model.save_pretrained(tmp_path / "vqvae")
    path = tmp_path / "vqvae" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_vq(tmp_path, IDS)


def test_missing_files_and_packages_are_named(vq, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"vqvae/config\.json"):
        load_vq(tmp_path, IDS)
    vq.model.save_pretrained(tmp_path / "vqvae")
    (tmp_path / "vqvae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"diffusion_pytorch_model\.safetensors"):
        load_vq(tmp_path, IDS)
    monkeypatch.setitem(sys.modules, "diffusers.models.autoencoders.vq_model", None)
    for make in (new_vq, lambda: load_vq(tmp_path, IDS)):
        with pytest.raises(ImportError, match=r"pairuni\[lumina\]"):
            make()
