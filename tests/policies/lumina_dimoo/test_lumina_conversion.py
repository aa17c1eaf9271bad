"""Conversion of Lumina-DiMOO checkpoints between the layouts, bit for bit."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from commands import call, fails
from pairuni.policies import load_policy
from pairuni.policies.conversion import convert_checkpoint
from pairuni.policies.requests import ImageSampling
from tiny_lumina import SAMPLING, save_byte_lumina


@pytest.fixture
def source(tmp_path):
    save_byte_lumina(tmp_path / "source", **SAMPLING)
    return tmp_path / "source"


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_there_and_back_changes_no_tensor_and_no_other_file(source, tmp_path):
    there, back = tmp_path / "there", tmp_path / "back"
    code, said, errors = call("convert", source, there, "--layout", "transformers")
    assert code == 0, errors
    assert "original to transformers layout" in said
    assert call("convert", there, back, "--layout", "original")[0] == 0
    before, after = content(source), content(back)
    one, other = load_file(source / "model.safetensors"), load_file(back / "model.safetensors")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) and one[name].dtype == other[name].dtype for name in one)
    for files in (before, after):
        del files["model.safetensors"]
        files["config.json"] = json.loads(files["config.json"])
    assert before == after


def test_transformers_loads_the_other_layout_and_so_do_we(source, tmp_path):
    convert_checkpoint(source, tmp_path / "there", "transformers")
    plain = LlamaForCausalLM.from_pretrained(tmp_path / "there")
    for name, tensor in load_policy(source, device="cpu", dtype="float32").module.state_dict().items():
        assert torch.equal(plain.state_dict()[name], tensor), name
    request = ImageSampling(prompts=["a dog"], rollouts=2, guidance=3.0, seed=1)
    first, second = (
        load_policy(folder, device="cpu", dtype="float32").sample_images(request)[0]
        for folder in (source, tmp_path / "there")
    )
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.trace.choices, other.trace.choices)


def test_what_cannot_be_converted_is_refused(source, tmp_path):
    assert "already has the original" in fails("convert", source, tmp_path / "x", "--layout", "original")
    (tmp_path / "llama").mkdir()
    (tmp_path / "llama" / "config.json").write_text('{"model_type": "llama"}')
    said = fails("convert", tmp_path / "llama", tmp_path / "x", "--layout", "original")
    assert "model_type 'llama'" in said
    (source / "vqvae" / "config.json").unlink()
    assert "vqvae/config.json" in fails("convert", source, tmp_path / "x", "--layout", "transformers")
    assert not (tmp_path / "x").exists()
