"""The VLMEvalKit wrapper, on a stand-in of the kit's classes and a run.py that asks one question."""

import importlib
import json
import sys

import pytest
import stand_ins
from PIL import Image

from pairuni.digits.world import held_out_items
from pairuni.harness import vlmevalkit
from pairuni.policies.registry import load_policy

MODULE = "pairuni.harness.vlmevalkit_model"

RUN = """
import json, sys
from vlmeval.config import supported_VLM

def load_env():
    print("environment read")

def main():
    model = supported_VLM[sys.argv[2]]()
    message = [dict(type="image", value="asked.png"), dict(type="text", value="\\nwhich digit is blue?")]
    reply = model.generate(message, dataset="PairUniDigits")
    print(json.dumps({"arguments": sys.argv, "table": list(supported_VLM), "reply": reply}))
"""


@pytest.fixture
def kit(monkeypatch):
    modules = stand_ins.vlmeval_modules()
    stand_ins.put(monkeypatch, modules, loaded_anew=MODULE)
    monkeypatch.delitem(sys.modules, "vlmeval.run", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return modules


@pytest.fixture
def picture(tmp_path):
    image = held_out_items(0, 1).understanding[0].image
    image.save(tmp_path / "asked.png")
    return image


def made(**arguments):
    return importlib.import_module(MODULE).PairUni("tiny", device="cpu", max_new_tokens=8, **arguments)


def test_run_py_finds_the_policy_among_its_models(kit, picture, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["unchanged"])
    (tmp_path / "run.py").write_text(RUN)
    of_run = ["--data", "MMStar", "POPE", "--mode", "infer"]
    own = ["--policy", "tiny", "--max-new-tokens", "8", "--device", "cpu"]
    vlmevalkit.main(["run.py", *own, *of_run])
    first, last = capsys.readouterr().out.strip().splitlines()
    assert first == "environment read"
    said = json.loads(last)
    assert said["arguments"] == ["run.py", "--model", "pairuni-tiny", *of_run]
    assert said["table"] == ["Janus-Pro-1B", "pairuni-tiny"]
    assert said["reply"] == load_policy("tiny", device="cpu").answer(
        picture, "which digit is blue?", max_new_tokens=8
    )


def test_names_of_vlmevalkits_own_models_are_kept(kit):
    with pytest.raises(ValueError, match="already has a model 'Janus-Pro-1B'"):
        vlmevalkit.register("Janus-Pro-1B", policy="tiny")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere/run.py", "--policy", "tiny"], "nowhere/run.py: no such file"),
        ([__file__, "--policy", "tiny", "--model", "x"], "--model is set by"),
    ],
)
def test_mistakes_on_the_command_line(arguments, said, capsys):
    with pytest.raises(SystemExit):
        vlmevalkit.main(arguments)
    assert said in capsys.readouterr().err


def test_a_janus_policy_is_asked_without_a_system_prompt(kit):
    assert made().policy.processor.use_default_system_prompt is False


def test_texts_and_images_in_any_order(kit, picture, tmp_path):
    model = made(several_images="row")
    path = str(tmp_path / "asked.png")
    parts = [("text", "which digit "), ("image", path), ("text", "is blue?"), ("image", path)]
    row = Image.new("RGB", (2 * picture.width, picture.height))
    row.paste(picture, (0, 0))
    row.paste(picture, (picture.width, 0))
    said = model.generate([{"type": kind, "value": value} for kind, value in parts])
    assert said == model.policy.answer(row, "which digit is blue?", max_new_tokens=8)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ([{"type": "video", "value": "film.mp4"}], r"film\.mp4', which is not an image"),
        ([{"role": "user", "content": []}], "MMDU has conversations"),
    ],
)
def test_what_no_policy_can_answer_is_an_error(kit, tmp_path, monkeypatch, message, said):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (4, 4)).save("a.png")
    with pytest.raises(ValueError, match=said):
        made().generate(message, dataset="MMDU")


def test_several_images_come_before_the_text(kit, picture, tmp_path):
    model = made()
    path = str(tmp_path / "asked.png")
    parts = [("image", path), ("text", "which digit "), ("image", path), ("text", "is blue?")]
    said = model.generate([{"type": kind, "value": value} for kind, value in parts])
    assert said == model.policy.answer([picture, picture], "which digit is blue?", max_new_tokens=8)
    with pytest.raises(ValueError, match="2 images, which is an error here"):
        made(several_images="error").generate([{"type": "image", "value": path}] * 2)


def test_conversations_are_refused_before_they_can_be_scored(kit):
    with pytest.raises(ValueError, match="MMDU has conversations"):
        made().chat([{"role": "user", "content": "hello"}], dataset="MMDU")
