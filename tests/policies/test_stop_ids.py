"""Every end-of-sequence id that a checkpoint declares ends an answer, and saving keeps all of them."""

import json
import shutil

import pytest
import torch
from checkpoints import edit_json as edit
from PIL import Image
from safetensors.torch import load_file
from transformers import GenerationConfig, JanusForConditionalGeneration

from pairuni.policies import load_policy
from pairuni.policies.janus.convert import convert_checkpoint
from pairuni.policies.requests import TextSampling
from tiny_models import save_tiny_janus


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return save_tiny_janus(tmp_path_factory.mktemp("ends") / "model")


@pytest.fixture
def folder(plain, tmp_path):
    return shutil.copytree(plain, tmp_path / "model")


def sample(policy, **asked):
    settings = {"rollouts": 6, "temperature": 1.0, "max_new_tokens": 24, "seed": 0, **asked}
    return policy.sample_text(
        TextSampling(images=[Image.new("RGB", (30, 30), "red")], questions=["what?"], **settings)
    )[0]


def common_token(folder):
    """A token other than the tokenizer's end that several rollouts sample, not as their first."""
    policy = load_policy(folder)
    rows = [one.tokens[1:].tolist() for one in sample(policy)]
    counts = {token: sum(token in row for row in rows) for row in rows for token in row}
    return max((token for token in counts if token != policy.prompts.eos), key=lambda token: counts[token])


@pytest.mark.parametrize("form", ["list", "int"])
def test_sampling_stops_at_each_and_keeps_the_one_that_was_sampled(folder, form):
    other, before = common_token(folder), load_policy(folder)
    eos = before.prompts.eos
    edit(folder / "generation_config.json", eos_token_id=[eos, other] if form == "list" else other)
    policy = load_policy(folder)
    assert set(policy.stop_ids) == {eos, other}
    ended_by_other = 0
    for old, new in zip(sample(before), sample(policy), strict=True):
        ends = [place for place, token in enumerate(old.tokens.tolist()) if token in (eos, other)]
        length = ends[0] + 1 if ends else len(old.tokens)
        assert new.tokens.tolist() == old.tokens[:length].tolist()
        torch.testing.assert_close(new.log_probs, old.log_probs[:length], atol=1e-4, rtol=0)
        assert new.finished == bool(ends)
        if new.finished and new.tokens[-1] == other:
            ended_by_other += 1
            kept = policy.processor.tokenizer.decode(new.tokens[:-1], skip_special_tokens=True)
            assert new.text == kept.strip()
    assert ended_by_other


def test_training_scores_the_end_that_was_sampled(folder):
    other = common_token(folder)
    edit(folder / "generation_config.json", eos_token_id=[load_policy(folder).prompts.eos, other])
    policy = load_policy(folder)
    rollouts = sample(policy)
    assert any(one.tokens[-1] == other for one in rollouts if one.finished)
    scored = policy.log_probs(rollouts)
    for one, values, mask in zip(rollouts, scored.values, scored.mask, strict=True):
        assert int(mask.sum()) == len(one.tokens)
        torch.testing.assert_close(values[: len(one.tokens)], one.log_probs, atol=1e-4, rtol=0)


def test_greedy_answers_equal_transformers(folder):
    other = common_token(folder)
    edit(folder / "generation_config.json", eos_token_id=[load_policy(folder).prompts.eos, other])
    policy = load_policy(folder)
    model = JanusForConditionalGeneration.from_pretrained(folder)
    image, questions = Image.new("RGB", (30, 30), "blue"), ["what?", "why?", "who is it?", "where?"]
    for question in questions:
        ids = policy.prompts.understanding(question, images=1)[None]
        plain = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values=policy.pixel_values([image]),
            max_new_tokens=16,
            do_sample=False,
        )[0, ids.shape[1] :]
        ours = policy.sample_text(
            TextSampling(images=[image], questions=[question], temperature=0, max_new_tokens=16)
        )
        assert ours[0][0].tokens.tolist() == plain.tolist()


@pytest.mark.parametrize("declared", [[1, 40], [40, 1], 40, 1, [40, 41]])
def test_saving_keeps_what_was_declared(folder, tmp_path, declared):
    edit(folder / "generation_config.json", eos_token_id=declared)
    policy = load_policy(folder)
    policy.save_pretrained(tmp_path / "saved")
    assert GenerationConfig.from_pretrained(tmp_path / "saved").eos_token_id == declared
    assert load_policy(tmp_path / "saved").stop_ids == policy.stop_ids
    convert_checkpoint(folder, tmp_path / "original", "original")
    convert_checkpoint(tmp_path / "original", tmp_path / "back", "transformers")
    for converted in ("original", "back"):
        assert load_policy(tmp_path / converted).stop_ids == policy.stop_ids
    assert GenerationConfig.from_pretrained(tmp_path / "back").eos_token_id == declared


def test_config_is_read_without_a_generation_config(folder):
    """As in transformers: one file or the other. Llama's default id, which every configuration has, does not count."""
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["eos_token_id"] = [1, 40]
    (folder / "config.json").write_text(json.dumps(config))
    assert load_policy(folder).stop_ids == (1,)
    (folder / "generation_config.json").unlink()
    policy = load_policy(folder)
    assert policy.stop_ids == (1, 40)
    assert policy.module.generation_config.eos_token_id == [1, 40]
    config["text_config"]["eos_token_id"] = 2
    (folder / "config.json").write_text(json.dumps(config))
    assert load_policy(folder).stop_ids == (1,)
    config["eos_token_id"] = 41
    (folder / "config.json").write_text(json.dumps(config))
    assert load_policy(folder).stop_ids == (41, 1)


@pytest.mark.parametrize("ids", ["1", [1, "2"], [], [1, None], -1, 10**6, 1.0, True, {"a": 1}])
def test_impossible_ids_are_refused(folder, ids):
    edit(folder / "generation_config.json", eos_token_id=ids)
    with pytest.raises(ValueError, match=r"generation_config\.json (gives eos_token_id|cannot be read)"):
        load_policy(folder)


@pytest.mark.parametrize("guidance", ["5", -1, float("nan"), float("inf"), True, [5]])
def test_impossible_guidance_is_refused(folder, guidance):
    edit(folder / "generation_config.json", guidance_scale=guidance)
    with pytest.raises(ValueError, match=r"generation_config\.json gives guidance_scale"):
        load_policy(folder)


def test_contradicting_flags_do_not_prevent_saving(folder, tmp_path):
    edit(folder / "generation_config.json", temperature=0.6, top_p=0.9, do_sample=False, guidance_scale=3.0)
    policy = load_policy(folder)
    policy.save_pretrained(tmp_path / "saved")
    assert load_policy(tmp_path / "saved").default_guidance == 3.0
    weights = [load_file(path / "model.safetensors") for path in (folder, tmp_path / "saved")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
