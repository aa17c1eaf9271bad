"""Writes hpsv2_scores.json, open_clip_vit_h_14.txt and tiny_bpe.txt, with code that is not ours.

The model is open_clip's own ``CLIP`` class; the preprocessing of images and the tokenizer are those of the HPSv2
repository (tgxs002/HPSv2, hpsv2/src/open_clip/transform.py and tokenizer.py) on torchvision. In an environment of
its own, with torch, open_clip_torch, torchvision, ftfy and transformers, and HPSv2's checkout on PYTHONPATH:

    PYTHONPATH=HPSv2 python tests/reference/make_hpsv2_scores.py

HPSv2 cannot score an image with an alpha channel (its model has three input channels); such an image is converted
to RGB first. Where torchvision has no build for the torch at hand, its compiled operators are declared without an
implementation: preprocessing uses none of them.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tiny_hpsv2 import (
    EMBED,
    KEYS,
    MERGES,
    PROMPTS,
    SCORES,
    SHARED,
    TEXT,
    VISION,
    photos,
    synthetic_images,
    weights,
    write_vocabulary,
)

OPERATORS = "nms qnms roi_align qroi_align roi_pool ps_roi_align ps_roi_pool deform_conv2d"
BACKWARD = "roi_align roi_pool ps_roi_align ps_roi_pool deform_conv2d"


def declare_operators() -> None:
    """Let torchvision's Python import where its compiled half cannot load."""
    library = torch.library.Library("torchvision", "DEF")
    for name in OPERATORS.split() + [f"_{name}_backward" for name in BACKWARD.split()]:
        library.define(f"{name}(Tensor x) -> Tensor")
    globals()["_library"] = library


def train_merges() -> None:
    """A small vocabulary from the photographs' captions, by the rules of CLIP's."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    split = pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    lines = (SHARED / "photos.jsonl").read_text(encoding="utf-8").splitlines()
    tokenizer.train_from_iterator([text for line in lines for text in json.loads(line)["captions"]], trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    MERGES.write_text("\n".join(["small", *(" ".join(merge) for merge in merges)]) + "\n", encoding="utf-8")


def main() -> None:
    declare_operators()
    import open_clip
    import torchvision
    from hpsv2.src.open_clip import tokenizer as original_tokenizer
    from hpsv2.src.open_clip.transform import image_transform

    train_merges()
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = write_vocabulary(Path(folder) / "bpe_simple_vocab_16e6.txt.gz")
        simple = original_tokenizer.SimpleTokenizer(bpe_path=str(vocabulary))
    original_tokenizer._tokenizer = simple
    text = open_clip.CLIPTextCfg(vocab_size=len(simple.encoder), **TEXT)
    model = open_clip.CLIP(EMBED, open_clip.CLIPVisionCfg(**VISION), text).eval()
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    made = {name: torch.from_numpy(values) for name, values in weights(shapes).items()}
    model.load_state_dict(made, strict=True)
    preprocess = image_transform(VISION["image_size"], is_train=False)

    def score(image: Image.Image, prompt: str) -> float:
        pixels = preprocess(image.convert("RGB") if image.mode == "RGBA" else image)[None]
        with torch.no_grad():
            image_features = model.encode_image(pixels, normalize=True)
            text_features = model.encode_text(original_tokenizer.tokenize([prompt]), normalize=True)
        return float(torch.diagonal(image_features @ text_features.T)[0])

    images = synthetic_images()
    prompts = {name: PROMPTS[place % len(PROMPTS)] for place, name in enumerate(images)}
    found: dict[str, Any] = {
        "made_by": "tests/reference/make_hpsv2_scores.py",
        "versions": {
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "open_clip_torch": open_clip.__version__,
        },
        "shapes": shapes,
        "tokens": [row[: row.index(max(row)) + 1] for row in original_tokenizer.tokenize(PROMPTS).tolist()],
        "drawn": {name: score(image, prompts[name]) for name, image in images.items()},
        "prompts": {prompt: score(images["wide"], prompt) for prompt in PROMPTS},
        "photos": {name: score(image, caption) for name, (image, caption) in photos().items()},
    }
    SCORES.write_text(json.dumps(found, indent=1, ensure_ascii=True) + "\n", encoding="utf-8")

    with torch.device("meta"):
        full = open_clip.CLIP(**open_clip.get_model_config("ViT-H-14"))
    lines = [
        f"{name} {'x'.join(map(str, tensor.shape))}".rstrip() for name, tensor in full.state_dict().items()
    ]
    KEYS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(json.dumps({key: found[key] for key in ("drawn", "prompts", "photos")}, indent=1))


if __name__ == "__main__":
    main()
