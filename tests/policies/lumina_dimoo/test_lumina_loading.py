"""Whole checkpoints: loaded, used from text and pixels to text and pixels, and saved."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from pairuni.policies.lumina_dimoo.loading import load_checkpoint
from pairuni.policies.lumina_dimoo.model import LuminaDimoo
from pairuni.policies.lumina_dimoo.prompts import LuminaPrompts
from pairuni.policies.lumina_dimoo.sampling import sample
from pairuni.policies.lumina_dimoo.schedule import picture_steps, text_steps
from pairuni.policies.lumina_dimoo.traces import Task
from tiny_lumina import BYTE_IDS, save_byte_lumina

pytest.importorskip("diffusers")


@pytest.fixture
def folder(tmp_path):
    save_byte_lumina(tmp_path / "model")
    return tmp_path / "model"


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), encoding="utf-8")


def test_a_checkpoint_comes_back_as_it_was(folder, tmp_path):
    checkpoint = load_checkpoint(folder)
    assert checkpoint.ids == BYTE_IDS
    (tmp_path / "saved").mkdir()
    checkpoint.save(tmp_path / "saved")
    for name in ("model.safetensors", "vqvae/diffusion_pytorch_model.safetensors"):
        before, after = load_file(folder / name), load_file(tmp_path / "saved" / name)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "saved" / name).read_bytes() == (folder / name).read_bytes()
    saved = json.loads((tmp_path / "saved" / "config.json").read_text("utf-8"))
    assert saved == json.loads((folder / "config.json").read_text("utf-8"))
    assert load_checkpoint(tmp_path / "saved").ids == BYTE_IDS


def test_an_image_and_texts_become_text_and_images(folder):
    checkpoint = load_checkpoint(folder)
    model, ids = LuminaDimoo(checkpoint.model, checkpoint.ids), checkpoint.ids
    prompts = LuminaPrompts(checkpoint.tokenizer, ids)
    [codes] = checkpoint.vq.encode([Image.radial_gradient("L").convert("RGB").resize((12, 8))])
    assert codes.shape == (4, 6)
    common = {"temperature": 1.0}
    tasks = [
        Task(
            kind="text",
            prompt=prompts.question("How many?", codes),
            canvas=prompts.text_canvas(8),
            steps=text_steps(8, 4, 4),
            stop_ids=(ids.end, ids.answer_end),
            noise=(0, 0, 0),
            **common,
        ),
        *(
            Task(
                kind="codes",
                prompt=prompt,
                canvas=prompts.picture_canvas(4, 6),
                steps=picture_steps(24, 5),
                noise=(0, 1, place),
                **common,
            )
            for place, prompt in enumerate(
                [prompts.drawing("a red seven", 5.0), prompts.editing("Make it blue.", codes, 3.5, 5.0)]
            )
        ),
    ]
    text, drawing, edited = (group[0] for group in sample(model, tasks, 1))
    assert isinstance(checkpoint.tokenizer.decode(text.choices, skip_special_tokens=True), str)
    for image in checkpoint.vq.decode([one.choices.view(4, 6) for one in (drawing, edited)]):
        assert image.size == (12, 8)
        assert image.mode == "RGB"


def test_without_weights_prompts_still_work(folder):
    (folder / "model.safetensors").unlink()
    (folder / "vqvae" / "diffusion_pytorch_model.safetensors").unlink()
    checkpoint = load_checkpoint(folder, weights=False)
    assert checkpoint.model.lm_head.weight.is_meta
    assert LuminaPrompts(checkpoint.tokenizer, checkpoint.ids).question("Why?", None).ids[0] < 256


def test_files_that_do_not_belong_together_are_refused(folder):
    tokens = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    edit(folder / "config.json", token_ids={**BYTE_IDS.declared(), "answer_start": 257, "newline": 263})
    with pytest.raises(ValueError, match=r"<answer> the id 263 instead of 257"):
        load_checkpoint(folder)
    edit(folder / "config.json", token_ids=BYTE_IDS.declared())
    tokens["model"]["vocab"]["more"] = 400
    (folder / "tokenizer.json").write_text(json.dumps(tokens), encoding="utf-8")
    with pytest.raises(ValueError, match="ids up to 400"):
        load_checkpoint(folder)
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"tokenizer\.json cannot be read"):
        load_checkpoint(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"no tokenizer\.json"):
        load_checkpoint(folder)
