"""The lmms-eval plug-in: on a stand-in of its model class, and, where it is installed, on lmms-eval itself."""

import functools
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import stand_ins
import torch
from PIL import Image

from pairuni.digits.evaluation import evaluate
from pairuni.digits.world import held_out_items
from pairuni.policies.registry import load_policy
from pairuni.policies.requests import ImageSampling, TextSampling
from pairuni.runs.models import load_model

ROOT = Path(__file__).parents[2]
INSTALLED = importlib.util.find_spec("lmms_eval") is not None
MODULE = "pairuni.harness.lmms_eval_model"

loaded_once = functools.cache(load_model)


@pytest.fixture
def plugin(monkeypatch):
    """The module that lmms-eval loads."""
    stand_ins.put(monkeypatch, {} if INSTALLED else stand_ins.lmms_eval_modules(), loaded_anew=MODULE)
    module = importlib.import_module(MODULE)
    monkeypatch.setattr(module, "load_model", loaded_once)
    return module


@pytest.fixture(scope="module")
def documents():
    return [
        {"image": one.image, "question": one.question.text, "answer": one.question.answer}
        for one in held_out_items(0, 12).understanding
    ]


@pytest.fixture
def model(plugin, documents):
    made = plugin.PairUni("tiny", device="cpu", batch_size="5")
    made.task_dict = {"digits": {"test": documents}}
    return made


def request(index, *first, visual=lambda document: [document["image"]]):
    arguments = (*first, visual, index, "digits", "test")
    return SimpleNamespace(args=arguments, task_name="digits", doc_id=index)


def asked(documents, **generation):
    generation = {"max_new_tokens": 8, "temperature": 0, "until": ["\n\n"], **generation}
    return [request(index, one["question"], generation) for index, one in enumerate(documents)]


def test_the_entry_point_names_the_model(monkeypatch, plugin):
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    module, _, attribute = declared["lmms_eval.models"]["pairuni"].partition(":")
    manifest = getattr(importlib.import_module(module), attribute)()
    assert manifest.model_id == "pairuni"
    module, _, name = manifest.simple_class_path.rpartition(".")
    assert getattr(importlib.import_module(module), name) is plugin.PairUni
    assert plugin.PairUni.is_simple


def test_importing_the_harness_loads_neither_lmms_eval_nor_torch():
    code = "import pairuni.harness, sys; print({'torch', 'lmms_eval'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"


def test_answers_are_the_policys_own_in_the_order_of_the_requests(model, documents):
    requests = [
        request(
            index,
            f"<image>\n{one['question']}",
            {"max_new_tokens": 1 if index == 3 else 8, "do_sample": False},
        )
        for index, one in enumerate(documents)
    ]
    results = model.generate_until(requests)
    for index, (one, result) in enumerate(zip(documents, results, strict=True)):
        expected = model.policy.answer(one["image"], one["question"], max_new_tokens=1 if index == 3 else 8)
        assert result.text == expected
        assert result.token_counts.input_tokens > model.policy.image_tokens
    assert results[3].token_counts.output_tokens == 1


def test_answers_stop_where_the_task_says(model, documents):
    whole = model.generate_until(asked(documents[:1]))[0].text
    assert len(whole) > 1
    assert model.generate_until(asked(documents[:1], until=[whole[1:]]))[0].text == whole[:1]


def test_answers_are_offered_to_the_cache(model, documents):
    model.cache_hook = stand_ins.CacheHook()
    results = model.generate_until(asked(documents[:2]))
    seen = {arguments[0]: text for _, arguments, text in model.cache_hook.seen}
    assert seen == {one["question"]: result.text for one, result in zip(documents, results, strict=False)}


def test_a_question_about_text_alone(model):
    (result,) = model.generate_until([request(0, "how many?", {"max_new_tokens": 4}, visual=lambda _: [])])
    assert result.text == model.policy.answer(None, "how many?", max_new_tokens=4)


def test_several_images_are_all_shown_or_an_error(model, documents):
    both = request(0, "which?", {"max_new_tokens": 4}, visual=lambda one: [one["image"], one["image"]])
    (result,) = model.generate_until([both])
    image = documents[0]["image"]
    assert result.text == model.policy.answer([image, image], "which?", max_new_tokens=4)
    model.several_images = "error"
    with pytest.raises(ValueError, match="2 images, which is an error here"):
        model.generate_until([both])
    model.several_images = "all"


def test_choices_are_ranked_by_loss_and_marked_greedy(model, documents):
    one = documents[0]
    said = model.policy.sample_text(
        TextSampling(images=[one["image"]], questions=[one["question"]], temperature=0.0, max_new_tokens=1)
    )[0][0]
    tokenizer = model.policy.processor.tokenizer
    choices = [tokenizer.decode(said.tokens), " zebra stripes", " blue"]
    requests = [request(0, one["question"], choice) for choice in choices]
    requests.append(request(0, one["question"], lambda document: " " + document["answer"]))
    results = [result.text for result in model.loglikelihood(requests)]
    scored = model.policy.score_text([one["image"]] * 3, [one["question"]] * 3, choices)
    for (loss, _), given in zip(results, scored, strict=False):
        assert loss == pytest.approx(-float(given.log_probs.mean()), abs=1e-5)
    assert [greedy for _, greedy in results[:3]] == [True, False, False]
    assert min(results[:3]) == results[0]
    assert results[3][0] > 0
    assert not any(pair.strip() for pair in results), "lmms-eval's cache would keep what it cannot read"


def test_drawings_lie_where_the_reply_says(model, documents, tmp_path):
    model.mode, model.output_dir, model.images, model.batch_size = "draw", tmp_path, 2, 8
    prompts = [one.prompt for one in held_out_items(0, 3).generation]
    requests = [
        request(index, prompt, {"max_new_tokens": 4}, visual=lambda _: [])
        for index, prompt in enumerate(prompts)
    ]
    # the last is asked twice, as with --repeats 2
    replies = [json.loads(reply) for reply in model.generate_until([*requests, requests[2]])]
    drawn = model.policy.sample_images(
        ImageSampling(prompts=[*prompts, prompts[2]], rollouts=2, guidance=model.policy.default_guidance)
    )
    paths = [path for reply in replies for path in reply["images"]]
    assert len(set(paths)) == 8
    for reply, group in zip(replies, drawn, strict=True):
        assert reply["text"] == ""
        for path, expected in zip(reply["images"], model.policy.decode_images(group), strict=True):
            with Image.open(path) as picture:
                assert picture.tobytes() == expected.tobytes()


def test_an_image_to_edit_is_refused(model, documents, tmp_path):
    model.mode, model.output_dir = "draw", tmp_path
    with pytest.raises(ValueError, match="digits has an image to edit"):
        model.generate_until(asked(documents[:1]))


def test_rounds_are_refused(model):
    with pytest.raises(NotImplementedError, match="several rounds"):
        model.generate_until_multi_round([])


def test_arguments(plugin, monkeypatch):
    with pytest.raises(ValueError, match="mode is 'paint'; choose answer or draw"):
        plugin.PairUni("tiny", mode="paint")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    made = plugin.PairUni("tiny", device="cpu", batch_size="auto", max_batch_size=16)
    assert (made._rank, made._world_size, made.batch_size) == (1, 2, 16)
    assert made.device == torch.device("cpu")
    made.clean()
    with pytest.raises(AttributeError):
        _ = made.policy


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED, reason="needs lmms-eval")
@pytest.mark.parametrize("processes", [1, 2])
def test_lmms_eval_gives_the_scores_of_our_own_evaluation(tmp_path, processes):
    items = 24
    program = [str(ROOT / "benchmarks" / "lmms_eval" / "run.py"), str(tmp_path), "--items", str(items)]
    environment = {**os.environ, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    subprocess.run(
        [sys.executable, *program, "--processes", str(processes)], check=True, env=environment, timeout=280
    )
    results = {}
    for file in (tmp_path / "results").rglob("*_results.json"):
        results |= json.loads(file.read_text())["results"]
    policy = load_policy("tiny", device="cpu")
    expected = evaluate(policy, held_out_items(0, items), guidance=policy.default_guidance, seed=0).scores()
    assert results["digits_answer"]["accuracy,none"] == pytest.approx(expected["understanding"])
    assert results["digits_choice"]["acc,none"] > 0.4
    if processes == 1:
        assert results["digits_draw"]["accuracy,none"] == pytest.approx(expected["generation"])
