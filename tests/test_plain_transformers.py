"""The shipped model and a saved one in a process that imports only ``transformers``."""

import json
import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pairuni.digits.detectors import evaluation_detector
from pairuni.digits.language import parse
from pairuni.digits.prompts import satisfies
from pairuni.digits.scenes import Scene, Thing, render_image
from pairuni.policies import ImageSampling, TextSampling, load_policy

PROMPT = "a red seven"
QUESTION = "how many digits are there?"

SCRIPT = """
import json, sys
import torch
from PIL import Image
from transformers import AutoProcessor, JanusForConditionalGeneration

scene, question, prompt, *folders = sys.argv[1:]

def chat(processor, *content):
    message = {"role": "user", "content": list(content)}
    return processor.apply_chat_template([message], add_generation_prompt=True, tokenize=False)

for folder in folders:
    model = JanusForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(folder, backend="pil")

    text = chat(processor, {"type": "image"}, {"type": "text", "text": question})
    inputs = processor(text=[text], images=[Image.open(scene)], return_tensors="pt")
    answered = model.generate(**inputs, generation_mode="text", max_new_tokens=6, do_sample=False)
    reply = processor.decode(answered[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True)

    text = chat(processor, {"type": "text", "text": prompt})
    inputs = processor(text=[text], generation_mode="image", return_tensors="pt")
    codes = model.generate(**inputs, generation_mode="image", do_sample=False, guidance_scale=2.0)
    pixels = model.decode_image_tokens(codes)
    image = ((pixels[0].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()
    print(json.dumps({"reply": reply.strip(), "codes": codes[0].tolist(), "image": image.tolist()}))
assert "pairuni" not in sys.modules
"""


@pytest.fixture(scope="module")
def shipped() -> Path:
    return Path(str(resources.files("pairuni") / "assets" / "tiny-janus"))


def test_shipped_and_saved_models_answer_and_generate_without_pairuni(shipped: Path, tmp_path: Path) -> None:
    policies = [load_policy("tiny", dtype="float32") for _ in range(2)]
    with torch.no_grad():
        for _, parameter in policies[1].train_only(["generation_head"]):
            parameter.mul_(1.001)
    policies[1].save_pretrained(tmp_path / "final")
    scene = Scene.of([Thing("top left", 3, "blue"), Thing("bottom right", 8, "red")])
    image = render_image(scene, np.random.default_rng(0))
    image.save(tmp_path / "scene.png")
    words = [str(tmp_path / "scene.png"), QUESTION, PROMPT, str(shipped), str(tmp_path / "final")]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for policy, line in zip(policies, done.stdout.splitlines()[-2:], strict=True):
        result = json.loads(line)
        answer = policy.sample_text(
            TextSampling(images=[image], questions=[QUESTION], temperature=0.0, max_new_tokens=6)
        )[0][0]
        sampled = policy.sample_images(ImageSampling(prompts=[PROMPT], temperature=0.0, guidance=2.0))[0][0]
        assert result["reply"] == answer.text.strip() == "two"
        assert result["codes"] == sampled.tokens.tolist()
        pixels = np.array(result["image"], dtype=np.uint8)
        reading = evaluation_detector().read([Image.fromarray(pixels)])[0]
        assert reading.scene is not None
        assert satisfies(reading.scene, parse(PROMPT)), reading.words


def test_the_package_stays_small(shipped: Path) -> None:
    assert sum(file.stat().st_size for file in shipped.iterdir()) < 16 * 2**20
