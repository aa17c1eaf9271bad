"""How a Lumina-DiMOO samples: the checkpoint's own settings, those of a run, and what is saved."""

import json
import shutil

import pytest
from lumina_requests import assert_same, rollouts

from pairuni.config import JanusSettings, LuminaDimooSettings, RunSettings
from pairuni.policies.lumina_dimoo.log_probs import SequenceElbo, TraceReplay
from pairuni.policies.lumina_dimoo.sampling_config import SamplingConfig
from pairuni.policies.registry import load_policy
from tiny_lumina import SAMPLING, save_byte_lumina
from tiny_models import save_tiny_janus

pytest.importorskip("diffusers")


def settings(**changes):
    return LuminaDimooSettings(model="m", type="lumina_dimoo", **changes)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_saved_policy_samples_the_same(whole_folder, tmp_path, dtype):
    policy = load_policy(whole_folder, device="cpu", dtype=dtype)
    policy.save_pretrained(tmp_path / "saved")
    again = load_policy(tmp_path / "saved", device="cpu", dtype=dtype)
    assert again.config == policy.config == SamplingConfig(**SAMPLING)
    assert_same(rollouts(again), rollouts(policy))
    # the weights may be written under another name, the rest is as it was
    before, after = (
        json.loads((one / "config.json").read_text()) for one in (whole_folder, tmp_path / "saved")
    )
    assert {**before, "sampling": None} == {**after, "sampling": None}
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {
        path.name for path in whole_folder.iterdir()
    }


def test_the_settings_of_a_run_replace_those_of_the_checkpoint(whole_folder, tmp_path):
    chosen = settings(image_size=12, image_steps=3, text_block=5, text_steps=1)
    policy = load_policy(whole_folder, device="cpu", settings=chosen)
    answers, drawn = (one for one in (rollouts(policy)[:6], rollouts(policy)[6:12]))
    assert [set(one.trace.steps.tolist()) for one in answers] == [{0, 1}] * 6
    assert {(one.height, one.width, int(one.trace.steps.max())) for one in drawn} == {(6, 6, 2)}
    policy.save_pretrained(tmp_path / "saved")
    again = load_policy(tmp_path / "saved", device="cpu")
    changed = {"image_size": 12, "question_size": 12, "image_steps": 3, "text_block": 5, "text_steps": 1}
    assert again.config == SamplingConfig(**(SAMPLING | changed))
    assert_same(rollouts(again), rollouts(policy))
    assert load_policy(tmp_path / "saved", device="cpu", settings=settings()).config == again.config


@pytest.mark.parametrize(
    ("changes", "estimator"),
    [
        ({}, TraceReplay(shrink=1)),
        ({"shrink": 3}, TraceReplay(shrink=3)),
        ({"estimator": "elbo", "elbo_pairs": 2}, SequenceElbo(pairs=2)),
    ],
)
def test_the_estimator_of_a_run(whole_folder, changes, estimator):
    assert load_policy(whole_folder, weights=False, settings=settings(**changes)).estimator == estimator
    assert load_policy(whole_folder, weights=False).estimator == TraceReplay()


def test_a_model_of_another_family_is_refused(whole_folder, tmp_path):
    with pytest.raises(
        ValueError, match=r"is a model of policy\.type lumina_dimoo, but policy\.type is janus; set"
    ):
        load_policy(whole_folder, settings=JanusSettings(model=str(whole_folder)))
    janus = save_tiny_janus(tmp_path / "janus")
    with pytest.raises(
        ValueError, match=r"policy\.type janus, but policy\.type is lumina_dimoo; set it to janus\."
    ):
        load_policy(janus, settings=settings())
    with pytest.raises(ValueError, match="image_steps"):
        RunSettings.model_validate({"policy": {"model": "tiny", "image_steps": 3}, "data": {"pairs": "x"}})


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ([1], "must give sampling as names and numbers"),
        ({"image_step": 3}, r"unknown names \(image_step\)"),
        ({"image_steps": 0}, r"sampling\.image_steps as 0, but needs a whole number from 1 to 65536"),
        ({"image_steps": 2.5}, r"sampling\.image_steps as 2\.5"),
        ({"text_block": True}, r"sampling\.text_block as True"),
        ({"answer_length": 10**9}, r"sampling\.answer_length as 1000000000"),
        ({"guidance": "5"}, r"sampling\.guidance as 5, but needs a number from"),
        ({"guidance": float("nan")}, r"sampling\.guidance as nan"),
        ({"image_size": 10}, r"sampling\.image_size as 10, but .* multiples of 4 pixels up to 4096\."),
        ({"question_size": 2}, r"sampling\.question_size as 2, but"),
        ({"edit_size": 8192}, r"sampling\.edit_size as 8192, but"),
    ],
)
def test_a_bad_section_is_refused_by_file(whole_folder, tmp_path, section, message):
    folder = tmp_path / "model"
    folder.mkdir()
    for path in whole_folder.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "config.json").unlink()
    content = json.loads((whole_folder / "config.json").read_text())
    wrong = {**SAMPLING, **section} if isinstance(section, dict) else section
    (folder / "config.json").write_text(json.dumps({**content, "sampling": wrong}))
    with pytest.raises(ValueError, match=message) as raised:
        load_policy(folder, weights=False)
    assert str(raised.value).startswith(str(folder / "config.json"))


def test_an_impossible_size_of_a_run_is_refused(whole_folder):
    message = (
        r"policy\.image_size is 10, but this model's images have sides of multiples of 4 pixels up to 4096\."
    )
    with pytest.raises(ValueError, match=message):
        load_policy(whole_folder, weights=False, settings=settings(image_size=10))


def test_the_released_model_declares_nothing(tmp_path):
    save_byte_lumina(tmp_path / "model")
    policy = load_policy(tmp_path / "model", device="cpu")
    assert policy.config == SamplingConfig()
    assert (policy.default_guidance, policy.default_edit_guidance, policy.default_image_guidance) == (
        5.0,
        3.5,
        5.0,
    )
    policy.save_pretrained(tmp_path / "saved")
    assert "sampling" not in json.loads((tmp_path / "saved" / "config.json").read_text())
    shutil.rmtree(tmp_path / "model")
