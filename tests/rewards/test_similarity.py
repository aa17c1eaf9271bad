"""CLIP and PickScore held to the forward pass and the processor of ``transformers``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel

from pairuni.records import Annotation
from pairuni.rewards.clip.original import clip_from_original
from pairuni.rewards.clip.similarity import ClipReward, PickScoreReward
from pairuni.rewards.clip.text import load_tokenizer
from reference import tiny_hpsv2

PROMPTS = ["a red bus", "Two dogs and a very long story " * 20, "a red bus", "\u201copen\u201d", ""]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip")
    made = tiny_hpsv2.weights(tiny_hpsv2.shapes())
    clip_from_original({name: torch.from_numpy(values) for name, values in made.items()}).save_pretrained(
        path
    )
    load_tokenizer(str(tiny_hpsv2.write_vocabulary(path / "merges.gz"))).save_pretrained(path)
    CLIPImageProcessorPil().save_pretrained(path)
    return path


def records() -> list[Annotation]:
    return [
        Annotation.model_construct(image_path="a.png", prompt=prompt, question="q", answer="a", tag="")
        for prompt in PROMPTS
    ]


def pictures() -> list[Image.Image]:
    made = tiny_hpsv2.drawn()
    return [made[name] for name in ("wide", "grey", "rgba", "one-wide", "palette")]


def logits(folder: Path) -> list[float]:
    """Logit of each image and its prompt, one at a time, by ``transformers`` alone."""
    model = CLIPModel.from_pretrained(folder).eval()
    tokenizer, processor = load_tokenizer(str(folder)), CLIPImageProcessorPil.from_pretrained(folder)
    found = []
    for prompt, picture in zip(PROMPTS, pictures(), strict=True):
        inputs = dict(tokenizer([prompt], truncation=True, max_length=77, return_tensors="pt"))
        inputs |= processor(images=[picture.convert("RGB")], return_tensors="pt")
        with torch.no_grad():
            found.append(float(model(**inputs).logits_per_image))
    return found


def test_clip_is_the_cosine_and_pickscore_the_logit(folder: Path) -> None:
    expected = np.asarray(logits(folder))
    clip = ClipReward(str(folder), device="cpu", batch_size=2)(records(), pictures())
    pickscore = PickScoreReward(str(folder), processor=str(folder), device="cpu")(records(), pictures())
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
    with pytest.raises(ValueError, match="no CLIP model can be loaded from"):
        ClipReward(str(tmp_path), processor=str(folder), device="cpu")
    with pytest.raises(ValueError, match="CLIP's tokenizer cannot be loaded from"):
        ClipReward(str(folder), processor=str(tmp_path), device="cpu")
    with pytest.raises(ValueError, match="device 'abacus' is unknown"):
        ClipReward(str(folder), device="abacus")
    with pytest.raises(ValueError, match="5 records but 1 images"):
        ClipReward(str(folder), device="cpu")(records(), pictures()[:1])


def test_a_model_that_lacks_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    del state["visual_projection.weight"]
    for file in folder.iterdir():
        if file.name != "model.safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks weights, visual_projection\.weight among them"):
        ClipReward(str(tmp_path), device="cpu")
