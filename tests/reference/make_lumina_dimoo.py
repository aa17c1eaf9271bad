"""Writes lumina_dimoo.json with the original code (Alpha-VLLM/Lumina-DiMOO), which is not ours.

In an environment with torch, transformers and diffusers, with a checkout of the original:

    PYTHONPATH=Lumina-DiMOO:src:tests python tests/reference/make_lumina_dimoo.py

Weights are those of ``tiny_lumina``. The original's ``LLaDAModel`` computes logits and its generators sample. Their
random numbers come from a legacy generator of numpy in the order of the calls, whose seed is stored. The text generator
runs on logits in which the mask token has probability zero; the original can sample it, and the position then stays
masked. Prompts are what the original's own scripts (inference_t2i.py, inference_i2i.py) and its training's
``ItemProcessor`` build, up to the call of the model, with the real special ids and a tokenizer of bytes.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image

from tiny_lumina import CONFIG, IDS, RELEASED, plain_tokenizer, tensors

OUTPUT = Path(__file__).with_name("lumina_dimoo.json")
FIELDS = (
    *("d_model", "n_heads", "n_kv_heads", "n_layers", "mlp_hidden_size", "rope", "rope_theta", "alibi"),
    *("block_type", "activation_type", "layer_norm_type", "layer_norm_with_affine", "bias_for_layer_norm"),
    *("max_sequence_length", "vocab_size", "embedding_size", "rms_norm_eps", "weight_tying", "include_bias"),
    *("attention_dropout", "residual_dropout", "embedding_dropout"),
)
ROWS = [[5, 34, 41, 63, 31, 35, 30], [1, 2, 3, 37, 34, 30, 55, 31, 30, 30, 31, 35, 38]]


def main() -> None:
    from model.modeling_llada import LLaDAModel, ModelConfig

    model = LLaDAModel(ModelConfig(**{key: CONFIG[key] for key in FIELDS}, init_device="cpu")).eval()
    model.load_state_dict({name.removeprefix("model."): tensor for name, tensor in tensors().items()})
    full = LLaDAModel(ModelConfig(**{key: RELEASED[key] for key in FIELDS}, init_device="meta"))
    content = {
        "released": released(full),
        "logits": [{"tokens": row, "values": rounded(model(torch.tensor([row])).logits[0])} for row in ROWS],
        "text": [text(model, **case) for case in TEXT],
        "pictures": [picture(model, **case) for case in PICTURES],
        "edits": [edit(model, **case) for case in EDITS],
        "prompts": prompts(),
        "sizes": sizes(),
        "pixels": pixels(),
    }
    OUTPUT.write_text(json.dumps(content, separators=(",", ":")).replace('],"', '],\n"') + "\n", "utf-8")


def released(model: torch.nn.Module) -> dict[str, Any]:
    families: dict[str, dict[str, Any]] = {}
    parameters = 0
    for name, tensor in model.state_dict().items():
        family = re.sub(r"\.\d+\.", ".{n}.", f"model.{name}")
        found = families.setdefault(family, {"shape": list(tensor.shape), "count": 0})
        found["count"] += 1
        parameters += tensor.numel()
    return {"tensors": families, "parameters": parameters}


def rounded(values: torch.Tensor) -> list[list[float]]:
    return [[float(f"{one:.8g}") for one in row] for row in values.tolist()]


class Recorder(torch.nn.Module):
    """The model as the generators call it; keeps the conditional sequence before each step."""

    def __init__(self, model: torch.nn.Module, *, hide_mask: bool) -> None:
        super().__init__()
        self.model, self.hide_mask = model, hide_mask
        self.module = SimpleNamespace(caching=lambda enable: None)
        self.states: list[list[int]] = []

    def forward(self, tokens: torch.Tensor, cat: str = "cond", **_: Any) -> Any:
        if tokens.shape[1] > 1 and cat == "cond":
            self.states.append(tokens[0].tolist())
        logits = self.model(tokens).logits
        if self.hide_mask:
            logits[..., IDS.mask] = -torch.inf
        return SimpleNamespace(logits=logits)


@contextmanager
def noise(seed: int) -> Any:
    rng = np.random.RandomState(seed)

    def rand_like(like: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
        return torch.from_numpy(rng.random_sample(tuple(like.shape))).to(dtype or like.dtype)

    with mock.patch("torch.rand_like", rand_like):
        yield


TEXT = [
    {"prompt": [1, 2, 3, 34, 41, 50, 31, 35, 4], "length": 8, "block": 4, "steps": 6, "temperature": 1.0},
    {"prompt": [1, 2, 3, 4], "length": 6, "block": 6, "steps": 2, "temperature": 0.0},
    {"prompt": [9, 8, 7, 6, 5], "length": 6, "block": 3, "steps": 4, "temperature": 0.7},
]


def text(model: torch.nn.Module, prompt: list[int], **case: Any) -> dict[str, Any]:
    from generators.text_understanding_generator import generate_text_understanding

    recorder = Recorder(model, hide_mask=True)
    start = [*prompt, IDS.answer_start, *[IDS.mask] * case["length"], IDS.answer_end]
    with noise(seed=11):
        final = generate_text_understanding(
            recorder,
            torch.tensor([start]),
            steps=case["steps"],
            gen_length=case["length"],
            block_length=case["block"],
            temperature=case["temperature"],
            mask_id=IDS.mask,
            code_start=len(prompt) + 1,
        )
    return {"prompt": prompt, **case, "seed": 11, "states": [*recorder.states, final[0].tolist()]}


def rows(height: int, width: int) -> list[int]:
    return [IDS.answer_start, IDS.image_start, *([IDS.mask] * width + [IDS.newline]) * height, *END]


END = [IDS.image_end, IDS.answer_end]
PICTURES = [
    {"height": 3, "width": 4, "steps": 5, "strength": 4.0, "temperature": 1.0},
    {"height": 2, "width": 3, "steps": 3, "strength": 0.0, "temperature": 0.5},
    {"height": 2, "width": 2, "steps": 8, "strength": 1.5, "temperature": 0.0},
]


def picture(model: torch.nn.Module, **case: Any) -> dict[str, Any]:
    from generators.image_generation_generator import generate_image

    prompt, unconditional = [1, 2, 3, 4, 5, 6], [1, 2, 36, 6]
    recorder = Recorder(model, hide_mask=False)
    with noise(seed=12):
        codes = generate_image(
            recorder,
            torch.tensor([[*prompt, *rows(case["height"], case["width"])]]),
            seq_len=case["height"] * case["width"],
            newline_every=case["width"],
            timesteps=case["steps"],
            mask_token_id=IDS.mask,
            newline_id=IDS.newline,
            temperature=case["temperature"],
            cfg_scale=case["strength"],
            uncon_ids=torch.tensor([unconditional]),
            code_start=len(prompt) + 2,
            codebook_size=IDS.codebook,
        )
    return {
        "prompt": prompt,
        "unconditional": unconditional,
        **case,
        "seed": 12,
        "states": recorder.states,
        "codes": (codes[0] - IDS.codes).tolist(),
    }


EDITS = [
    {"height": 3, "width": 2, "steps": 4, "strength": 2.5, "image_strength": 4.0, "temperature": 1.0},
    {"height": 2, "width": 2, "steps": 2, "strength": 0.0, "image_strength": 1.0, "temperature": 1.0},
]


def edit(model: torch.nn.Module, **case: Any) -> dict[str, Any]:
    from generators.image_to_image_generator import generate_i2i

    shown = [34, 41, 42, 31, 43, 44, 31, 35]
    prompt, without_text, without_image = [1, 2, 3, *shown, 4], [1, 36, *shown, 4], [1, 2, 3, 4]
    recorder = Recorder(model, hide_mask=False)
    with noise(seed=13):
        codes = generate_i2i(
            recorder,
            torch.tensor([[*prompt, *rows(case["height"], case["width"])]]),
            seq_len=case["height"] * case["width"],
            newline_every=case["width"],
            timesteps=case["steps"],
            mask_token_id=IDS.mask,
            newline_id=IDS.newline,
            temperature=case["temperature"],
            cfg_scale=case["strength"],
            cfg_img=case["image_strength"],
            uncon_text=torch.tensor([without_text]),
            uncon_image=torch.tensor([without_image]),
            code_start=len(prompt) + 2,
            codebook_size=IDS.codebook,
        )
    return {
        "prompt": prompt,
        "without_text": without_text,
        "without_image": without_image,
        **case,
        "seed": 13,
        "states": [row for row in recorder.states if row[: len(prompt)] == prompt],
        "codes": (codes[0] - IDS.codes).tolist(),
    }


# Prompts

QUESTIONS = ["How many digits are red?", "Wie viele? "]
DRAWINGS = ["a red seven", ""]
INSTRUCTIONS = ["Make the seven blue."]


class _Stop(Exception):
    pass


class _FakeVQ:
    """Encodes every image as codes 0, 1, 2, ... in a grid of its size / 16."""

    config = SimpleNamespace(block_out_channels=[0] * 5)
    device = torch.device("cpu")

    def to(self, device: Any) -> _FakeVQ:
        return self

    def encode(self, pixels: torch.Tensor) -> Any:
        return SimpleNamespace(latents=torch.zeros(1, 1, pixels.shape[2] // 16, pixels.shape[3] // 16))

    def quantize(self, latents: torch.Tensor) -> Any:
        return None, None, (None, None, torch.arange(latents.numel()))


def prompts() -> list[dict[str, Any]]:
    found = []
    for text in QUESTIONS:
        found.append(question(text))
    for text in DRAWINGS:
        arguments = run_script(
            "inference.inference_t2i", "generate_image", text, ["--height", "32", "--width", "48"]
        )
        found.append(
            {
                "kind": "drawing",
                "text": text,
                "height": 2,
                "width": 3,
                "ids": arguments[0],
                "without_text": arguments["uncon_ids"],
                "start": arguments["code_start"],
            }
        )
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.png"
        Image.new("RGB", (1024, 256)).save(image)
        for text in INSTRUCTIONS:
            arguments = run_script(
                *("inference.inference_i2i", "generate_i2i", text),
                ["--image_path", str(image), "--edit_type", "edit_add"],
            )
            found.append(
                {
                    "kind": "editing",
                    "text": text,
                    "height": 16,
                    "width": 64,
                    "ids": arguments[0],
                    "start": arguments["code_start"],
                    "without_text": arguments["uncon_text"],
                    "without_image": arguments["uncon_image"],
                }
            )
    return found


def run_script(name: str, generator: str, text: str, arguments: list[str]) -> dict[Any, Any]:
    """The arguments with which a script of the original calls its generator; tensors as lists."""
    captured: dict[Any, Any] = {}

    def capture(model: Any, ids: torch.Tensor, **others: Any) -> None:
        captured.update({0: ids, **others})
        raise _Stop

    script = __import__(name, fromlist=["main"])
    folder = tempfile.mkdtemp()
    command = [name, "--checkpoint", "x", "--prompt", text, "--output_dir", folder, *arguments]
    with (
        mock.patch.object(sys, "argv", command),
        mock.patch.object(script, generator, capture),
        mock.patch.object(
            script, "AutoTokenizer", SimpleNamespace(from_pretrained=lambda *a, **k: plain_tokenizer())
        ),
        mock.patch.object(
            script, "LLaDAForMultiModalGeneration", SimpleNamespace(from_pretrained=lambda *a, **k: None)
        ),
        mock.patch("diffusers.VQModel", SimpleNamespace(from_pretrained=lambda *a, **k: _FakeVQ())),
        suppress(_Stop),
    ):
        script.main()
    return {key: one[0].tolist() if isinstance(one, torch.Tensor) else one for key, one in captured.items()}


def question(text: str) -> dict[str, Any]:
    """An example of training, of which the part before the answer counts; the inference script breaks lines twice."""
    for missing in (
        "xllmx",
        "xllmx.data",
        "xllmx.data.item_processor",
        "xllmx.solvers",
        "xllmx.solvers.finetune",
    ):
        sys.modules.setdefault(missing, ModuleType(missing))
    sys.modules["xllmx.data.item_processor"].ItemProcessorBase = object
    sys.modules["xllmx.solvers.finetune"].FinetuneSolverBase = object
    import train.train as training
    from utils.prompt_utils import create_prompt_templates

    height, width = 2, 3
    codes = training.add_break_line([126356 + one for one in range(height * width)], height, width, 126084)
    with mock.patch.object(training, "load_image_tokens", return_value=list(codes)):
        tokens, _ = training.ItemProcessor(plain_tokenizer(), 1024).process_item(
            {
                "user_image": "x",
                "answer_image": "",
                "user_prompt": text,
                "answer_text": "7",
                "system_prompt": create_prompt_templates()["text_understanding"],
            }
        )
    start = tokens.index(126354) + 1
    return {
        "kind": "question",
        "text": text,
        "height": height,
        "width": width,
        "ids": tokens[:start],
        "start": start,
    }


# Images

IMAGES = [(640, 480), (480, 640), (1000, 300), (300, 300), (3000, 100), (37, 900), (1920, 1080)]


def sizes() -> list[dict[str, Any]]:
    """The size to which the original cuts an image, for images with the area of 512 x 512 or 1024 x 1024."""
    from utils import image_utils

    found = []
    for side in (512, 1024):
        allowed = image_utils.generate_crop_size_list((side // 32) ** 2, 32)
        for size in IMAGES:
            with mock.patch.object(image_utils, "center_crop", lambda image, crop_size: crop_size):
                cut = image_utils.var_center_crop(SimpleNamespace(size=size), crop_size_list=allowed)
            found.append({"side": side, "image": size, "size": cut})
    return found


def pixels() -> list[list[int]]:
    """The middle row of an image that the original scales without having to choose where to cut."""
    from utils.image_utils import center_crop

    image = Image.merge("RGB", [Image.linear_gradient("L").rotate(90 * turn) for turn in range(3)]).resize(
        (150, 150)
    )
    scaled = np.asarray(center_crop(image, (32, 32)))
    assert scaled.shape == (32, 32, 3)
    found: list[list[int]] = scaled[16].tolist()
    return found


if __name__ == "__main__":
    main()
