"""Encoders of transformers by name, on tiny random models saved to a folder."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    ResNetConfig,
    ResNetModel,
    Siglip2Config,
    Siglip2ImageProcessorPil,
    Siglip2Model,
    SiglipConfig,
    SiglipModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
    ViTModel,
)

from pairuni.pairug.selection.encoders import TransformersEncoder, make_encoder

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
VISION = {**SMALL, "image_size": 32, "patch_size": 16}
TEXT = {**SMALL, "vocab_size": 30, "max_position_embeddings": 8}
PATCHES = {**SMALL, "patch_size": 8, "num_patches": 16}


def models() -> dict[str, tuple[torch.nn.Module, str, int]]:
    dual = CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=8)
    return {
        "resnet": (
            ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 24], depths=[1, 1])),
            "pooler output",
            24,
        ),
        "vit": (ViTModel(ViTConfig(**VISION)), "pooler output", 16),
        "vit without its pooler": (ViTForImageClassification(ViTConfig(**VISION)), "mean", 16),
        "clip tower": (CLIPVisionModel(CLIPVisionConfig(**VISION)), "pooler output", 16),
        "clip": (CLIPModel(dual), "image features", 8),
        "dinov2": (Dinov2Model(Dinov2Config(**VISION)), "pooler output", 16),
        "dinov3": (DINOv3ViTModel(DINOv3ViTConfig(**VISION)), "pooler output", 16),
        "siglip": (
            SiglipModel(SiglipConfig(text_config=TEXT, vision_config=VISION)),
            "image features",
            16,
        ),
    }


NAMES = ["resnet", "vit", "vit without its pooler", "clip tower", "clip", "dinov2", "dinov3", "siglip"]


@pytest.mark.parametrize("name", NAMES)
def test_features_are_the_model_s_pooled_output_whatever_the_batch(tmp_path, name):
    torch.manual_seed(0)
    model, pooling, width = models()[name]
    model.eval().save_pretrained(tmp_path)
    processor = ViTImageProcessorPil(size={"height": 32, "width": 32})
    processor.save_pretrained(tmp_path)
    images = [Image.effect_noise((40, 30), 80).convert("RGB"), Image.new("RGB", (9, 64), (200, 10, 10))]
    encoder = TransformersEncoder(str(tmp_path))
    features = encoder(images)
    assert features.shape == (2, width)
    assert encoder.pooling == pooling
    assert np.allclose(features[1:], encoder(images[1:]), atol=1e-5)

    pixels = processor(images=images, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        if name == "resnet":
            expected = model(pixels).last_hidden_state.mean((2, 3))
        elif name == "vit without its pooler":
            expected = model.vit(pixels).last_hidden_state.mean(1)
        elif name == "siglip":
            expected = model.vision_model(pixels).pooler_output
        elif name == "clip":
            expected = model.visual_projection(model.vision_model(pixels).pooler_output)
        else:
            expected = model(pixels).pooler_output
    assert np.allclose(features, expected.numpy(), atol=1e-5)


def test_siglip_2_sees_its_patches_and_their_mask(tmp_path):
    torch.manual_seed(0)
    model = Siglip2Model(Siglip2Config(text_config=TEXT, vision_config=PATCHES)).eval()
    model.save_pretrained(tmp_path)
    processor = Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16)
    processor.save_pretrained(tmp_path)
    images = [Image.effect_noise((40, 30), 80).convert("RGB"), Image.new("RGB", (9, 64), (200, 10, 10))]
    encoder = TransformersEncoder(str(tmp_path))
    with torch.no_grad():
        inputs = processor(images=images, return_tensors="pt")
        shapes, mask = inputs["spatial_shapes"], inputs["pixel_attention_mask"]
        expected = model.vision_model(inputs["pixel_values"], mask, shapes).pooler_output
    assert np.allclose(encoder(images), expected.numpy(), atol=1e-5)
    assert encoder.pooling == "image features"


def test_dinov3_is_preprocessed_without_torchvision(tmp_path):
    torch.manual_seed(0)
    model = DINOv3ViTModel(DINOv3ViTConfig(**VISION)).eval()
    model.save_pretrained(tmp_path)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    stated = {"image_processor_type": "DINOv3ViTImageProcessorFast", "size": {"height": 32, "width": 32}}
    stated |= {"image_mean": mean, "image_std": std, "resample": 2}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated))
    image = Image.effect_noise((32, 32), 80).convert("RGB")
    pixels = (np.asarray(image) / 255 - mean) / std
    with torch.no_grad():
        expected = model(torch.tensor(pixels, dtype=torch.float32).permute(2, 0, 1)[None]).pooler_output
    assert np.allclose(TransformersEncoder(str(tmp_path))([image]), expected.numpy(), atol=1e-5)


def test_bfloat16_is_near_and_said(tmp_path):
    torch.manual_seed(0)
    ViTModel(ViTConfig(**VISION)).save_pretrained(tmp_path)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    images = [Image.effect_noise((40, 30), 80).convert("RGB"), Image.new("RGB", (9, 64), (200, 10, 10))]
    full, half = (TransformersEncoder(str(tmp_path), dtype=dtype) for dtype in ("auto", "bfloat16"))
    assert (full.dtype, half.dtype) == ("float32", "bfloat16")
    difference = np.abs(full(images) - half(images)).max()
    assert 0 < difference < 0.05
    assert half(images).dtype == np.float32


def test_a_model_that_is_not_there_or_not_whole_is_a_sentence(tmp_path):
    with pytest.raises(
        ValueError, match=r"there is no folder .*nowhere; pass the folder of the image encoder"
    ):
        TransformersEncoder(str(tmp_path / "nowhere"))
    config = ViTConfig(**VISION)
    model = ViTModel(config)
    kept = {name: value for name, value in model.state_dict().items() if "layernorm_before" not in name}
    model.save_pretrained(tmp_path, state_dict=kept)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"lacks weights, .*layernorm_before"):
        TransformersEncoder(str(tmp_path))


def brightness(images):
    return np.array([[np.asarray(image).mean(), 1.0] for image in images], dtype=np.float32)


class Sized:
    def __call__(self, images):
        return np.array([image.size for image in images], dtype=np.float32)


class Demanding(Sized):
    def __init__(self, model):
        self.model = model


NOT_CALLED = "text"


def test_a_function_or_class_of_your_own():
    images = [Image.new("RGB", (3, 2), (90, 90, 90))]
    assert make_encoder(f"{__name__}:brightness")(images).tolist() == [[90.0, 1.0]]
    assert make_encoder(f"{__name__}:Sized")(images).tolist() == [[3.0, 2.0]]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere.at_all:Encoder", r"module nowhere\.at_all, which was not found"),
        (f"{__name__}:Nothing", "has no class Nothing"),
        (f"{__name__}:NOT_CALLED", "has no class NOT_CALLED"),
        (f"{__name__}:Demanding", "cannot be made without arguments"),
        ("builtins:dict", "must have `__call__`"),
    ],
)
def test_an_encoder_of_your_own_that_is_none_is_a_sentence(name, said):
    with pytest.raises(ValueError, match=f"the image encoder '{re.escape(name)}'.*{said}"):
        make_encoder(name)
