"""CLIP and PickScore compared with the forward pass and the processor of ``transformers``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel

import tiny_detectors
from pairuni.records import Annotation
from pairuni.rewards.clip.similarity import ClipReward, PickScoreReward
from pairuni.rewards.clip.text import load_tokenizer
from reference import tiny_hpsv2

PROMPTS = ["a red bus", "Two dogs and a very long story " * 20, "a red bus", "\u201copen\u201d", ""]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_detectors.clip(tmp_path_factory.mktemp("clip"))


def records() -> list[Annotation]:
    return [
        Annotation.model_construct(image_path="a.png", prompt=prompt, question="q", answer="a", tag="")
        for prompt in PROMPTS
    ]


def images() -> list[Image.Image]:
    made = tiny_hpsv2.synthetic_images()
    return [made[name] for name in ("wide", "grey", "rgba", "one-wide", "palette")]


def logits(folder: Path) -> list[float]:
    """Logit of each image and its prompt, one at a time, by ``transformers`` alone."""
    model = CLIPModel.from_pretrained(folder).eval()
    tokenizer, processor = load_tokenizer(str(folder)), CLIPImageProcessorPil.from_pretrained(folder)
    found = []
    for prompt, image in zip(PROMPTS, images(), strict=True):
        inputs = dict(tokenizer([prompt], truncation=True, max_length=77, return_tensors="pt"))
        inputs |= processor(images=[image.convert("RGB")], return_tensors="pt")
        with torch.no_grad():
            found.append(float(model(**inputs).logits_per_image))
    return found


def test_clip_is_the_cosine_and_pickscore_the_logit(folder: Path) -> None:
    expected = np.asarray(logits(folder))
    clip = ClipReward(str(folder), device="cpu", batch_size=2)(records(), images())
    pickscore = PickScoreReward(str(folder), processor=str(folder), device="cpu")(records(), images())
    assert pickscore == pytest.approx(list(expected), abs=1e-5)
    assert clip == pytest.approx(list(expected / np.exp(2.0)), abs=1e-5)
    assert np.std(clip) > 0.01


def test_both_share_one_model(folder: Path) -> None:
    clip, again = ClipReward(str(folder), device="cpu"), ClipReward(str(folder), device="cpu")
    pickscore = PickScoreReward(str(folder), processor=str(folder), device="cpu")
    assert clip._scorer is again._scorer is pickscore._scorer


def test_what_cannot_be_loaded_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere: no such file or folder"):
        ClipReward("./nowhere")
    with pytest.raises(ValueError, match="cannot load the CLIP model"):
        ClipReward(str(tmp_path), processor=str(folder), device="cpu")
    with pytest.raises(ValueError, match="cannot load CLIP's tokenizer"):
        ClipReward(str(folder), processor=str(tmp_path), device="cpu")
    with pytest.raises(ValueError, match="device 'abacus' is unknown"):
        ClipReward(str(folder), device="abacus")
    with pytest.raises(ValueError, match="5 records but 1 images"):
        ClipReward(str(folder), device="cpu")(records(), images()[:1])


def test_a_model_that_lacks_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    del state["visual_projection.weight"]
    for file in folder.iterdir():
        if file.name != "model.safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"has no weights for visual_projection\.weight"):
        ClipReward(str(tmp_path), device="cpu")
