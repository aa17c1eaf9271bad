"""A PairGRPO step on Emu3, adapters, and checkpoints of plain ``transformers``."""

import json
from pathlib import Path

import pytest
import torch
from PIL import ImageStat
from safetensors.torch import load_file, save_file
from transformers import Emu3ForConditionalGeneration, Emu3Processor

from pair_batches import grpo, make_pairs
from pairuni.config import Emu3Settings, JanusSettings, LoRASettings, RolloutSettings
from pairuni.pairgrpo.rollout import Rewards, rollout_batch
from pairuni.pairgrpo.step import update
from pairuni.policies import ImageSampling, TextSampling, load_policy
from pairuni.records import TASKS
from pairuni.training.optimizer import NamedAdamW
from tiny_emu3 import save_tiny_emu3


class Letters:
    name = "letters"

    def __call__(self, records, samples):
        return [sum(ord(letter) % 7 for letter in sample) / 10 for sample in samples]


class Brightness:
    name = "brightness"

    def __call__(self, records, samples):
        return [ImageStat.Stat(image.convert("L")).mean[0] / 255 for image in samples]


REWARDS = Rewards(understanding=Letters(), generation=Brightness())
ROLLOUT = RolloutSettings(understanding=3, generation=3, guidance=3.0, max_new_tokens=5)
ADAPTERS = LoRASettings(rank=3, alpha=12.0)


def step(policy, parameters, folder: Path) -> dict[str, float]:
    pairs = make_pairs(folder, (1.0, 0.81))
    batch = rollout_batch(policy, pairs, ROLLOUT, REWARDS, seed=1, image_folder=folder)
    optimizer = NamedAdamW(parameters, learning_rate=1e-2)
    settings = grpo(micro_batch_tokens=300, updates_per_step=2)
    return update(policy, batch, optimizer, settings, step=1, learning_rate=1e-2)


def greedy(policy) -> list[list[int]]:
    texts = TextSampling(images=[None], questions=["why?"], temperature=0.0, max_new_tokens=12)
    images = ImageSampling(prompts=["a cat"], temperature=0.0, guidance=3.0)
    answers, drawings = policy.sample(texts, images)
    return [one.tokens.tolist() for group in (*answers, *drawings) for one in group]


def test_a_step_changes_the_language_model_alone(fresh_emu3, tmp_path):
    before = {name: value.clone() for name, value in fresh_emu3.module.state_dict().items()}
    metrics = step(fresh_emu3, fresh_emu3.train_only(["language_model"]), tmp_path)
    for task in TASKS:
        assert metrics[f"{task}/sampling/sampling_logp_difference/max"] < 1e-4
        assert metrics[f"{task}/reward_std"] > 0
    after = fresh_emu3.module.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert {"lm_head.weight", "model.text_model.layers.0.self_attn.q_proj.weight"} < changed
    assert not any("vqmodel" in name for name in changed)


def test_adapters_train_and_merge(fresh_emu3, tmp_path):
    plain = greedy(fresh_emu3)
    fresh_emu3.add_adapters(ADAPTERS, seed=1)
    parameters = fresh_emu3.train_only(["language_model"])
    assert {name.rpartition(".lora_")[0].rpartition(".")[2] for name, _ in parameters} == set(
        ADAPTERS.targets
    )
    assert len(parameters) == 2 * 2 * len(ADAPTERS.targets)
    assert greedy(fresh_emu3) == plain
    metrics = step(fresh_emu3, parameters, tmp_path)
    assert all(metrics[f"{task}/sampling/sampling_logp_difference/max"] < 1e-4 for task in TASKS)
    assert greedy(fresh_emu3) != plain
    fresh_emu3.save_pretrained(tmp_path / "merged")
    assert greedy(load_policy(tmp_path / "merged", device="cpu", settings=settings())) == greedy(fresh_emu3)


def settings(**changes) -> Emu3Settings:
    return Emu3Settings(**{"model": "x", "type": "emu3", "image_height": 3, "image_width": 4} | changes)


def test_a_saved_policy_loads_in_plain_transformers(fresh_emu3, tmp_path):
    with torch.no_grad():
        fresh_emu3.module.lm_head.weight.mul_(1.5)
    fresh_emu3.save_pretrained(tmp_path / "saved")
    model, info = Emu3ForConditionalGeneration.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not any(info.values())
    for name, value in fresh_emu3.module.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    processor = Emu3Processor.from_pretrained(tmp_path / "saved")
    assert processor.chat_template == fresh_emu3.processor.chat_template
    assert processor.tokenizer.get_vocab() == fresh_emu3.processor.tokenizer.get_vocab()
    # the size of drawings is saved too
    assert greedy(load_policy(tmp_path / "saved", device="cpu")) == greedy(fresh_emu3)


def test_settings_choose_the_size_of_drawings(tmp_path):
    folder = save_tiny_emu3(tmp_path / "emu3")
    assert load_policy(folder, device="cpu").image_tokens == 90 * 91 - 1
    policy = load_policy(folder, device="cpu", settings=settings(image_height=2, image_width=5))
    (image,) = policy.generate_images("a cat")
    assert image.size == (40, 16)
    with pytest.raises(ValueError, match=r"of policy\.type emu3, but policy\.type is janus"):
        load_policy(folder, device="cpu", settings=JanusSettings(model="x"))


def test_the_skeleton_plans_without_weights(tmp_path):
    folder = save_tiny_emu3(tmp_path / "emu3")
    (folder / "model.safetensors").unlink()
    policy = load_policy(folder, weights=False, settings=settings())
    cost = policy.image_cost(ROLLOUT)
    assert (cost.steps, cost.rows) == (14, 6)
    assert policy.text_cost(ROLLOUT).cached == 20 + 64 + 3 * 5  # 4 x 4 codes and 4 ends of line
    with pytest.raises(ValueError, match="has no weights"):
        load_policy(folder, device="cpu")


def test_weights_of_older_transformers_load(fresh_emu3, tmp_path):
    """The released checkpoints name their tensors as earlier versions did."""
    folder = save_tiny_emu3(tmp_path / "emu3")
    tensors = {}
    for name, value in fresh_emu3.module.state_dict().items():
        old = name.replace("model.vqmodel", "vqmodel").replace("model.text_model", "text_model.model")
        tensors["text_model.lm_head.weight" if name == "lm_head.weight" else old] = value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    loaded = load_policy(folder, device="cpu").module.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in fresh_emu3.module.state_dict().items())


def test_damaged_checkpoints_are_refused(tmp_path):
    folder = save_tiny_emu3(tmp_path / "emu3")
    tensors = load_file(folder / "model.safetensors")
    lost = {name: value for name, value in tensors.items() if not name.endswith("norm.weight")}
    save_file(lost, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"do not fit their config\.json: .* tensors are missing"):
        load_policy(folder, device="cpu")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    content = json.loads((folder / "config.json").read_text())
    for change, said in (
        ({"vocabulary_map": None}, "has no vocabulary_map"),
        ({"drawing": {"height": 3, "width": 0}}, "drawing is"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
        ({"vocabulary_map": swapped(content["vocabulary_map"])}, "consecutive"),
    ):
        (folder / "config.json").write_text(json.dumps(content | change))
        with pytest.raises(ValueError, match=said):
            load_policy(folder, device="cpu")


def swapped(vocabulary: dict[str, int]) -> dict[str, int]:
    first, second = "<|visual token 000000|>", "<|visual token 000001|>"
    return vocabulary | {first: vocabulary[second], second: vocabulary[first]}
