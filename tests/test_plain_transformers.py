"""The shipped model, and one saved after training, in a process that has only ``transformers``."""

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

folder, image, drawing = sys.argv[1:4]
model = JanusForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
processor = AutoProcessor.from_pretrained(folder, backend="pil")

def chat(*content):
    message = {"role": "user", "content": list(content)}
    return processor.apply_chat_template([message], add_generation_prompt=True, tokenize=False)

text = chat({"type": "image"}, {"type": "text", "text": sys.argv[4]})
inputs = processor(text=[text], images=[Image.open(image)], return_tensors="pt")
answered = model.generate(**inputs, generation_mode="text", max_new_tokens=6, do_sample=False)
reply = processor.decode(answered[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True)

text = chat({"type": "text", "text": sys.argv[5]})
inputs = processor(text=[text], generation_mode="image", return_tensors="pt")
codes = model.generate(**inputs, generation_mode="image", do_sample=False, guidance_scale=2.0)
pixels = model.decode_image_tokens(codes)
image = ((pixels[0].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()
Image.fromarray(image).save(drawing)
assert "pairuni" not in sys.modules
print(json.dumps({"reply": reply.strip(), "codes": codes[0].tolist()}))
"""


@pytest.fixture(scope="module")
def shipped() -> Path:
    return Path(str(resources.files("pairuni") / "assets" / "tiny-janus"))


@pytest.mark.parametrize("saved", [False, True], ids=["shipped", "saved"])
def test_answers_and_draws_without_pairuni(saved: bool, shipped: Path, tmp_path: Path) -> None:
    policy = load_policy("tiny", dtype="float32")
    folder = shipped
    if saved:
        folder = tmp_path / "final"
        with torch.no_grad():
            for _, parameter in policy.train_only(["generation_head"]):
                parameter.mul_(1.001)
        policy.save_pretrained(folder)
    scene = Scene.of([Thing("top left", 3, "blue"), Thing("bottom right", 8, "red")])
    picture = render_image(scene, np.random.default_rng(0))
    picture.save(tmp_path / "scene.png")
    done = subprocess.run(
        [
            *(sys.executable, "-c", SCRIPT, str(folder)),
            *(str(tmp_path / "scene.png"), str(tmp_path / "drawn.png"), QUESTION, PROMPT),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    answer = policy.sample_text(
        TextSampling(images=[picture], questions=[QUESTION], temperature=0.0, max_new_tokens=6)
    )[0][0]
    drawn = policy.sample_images(ImageSampling(prompts=[PROMPT], temperature=0.0, guidance=2.0))[0][0]
    assert result["reply"] == answer.text.strip() == "two"
    assert result["codes"] == drawn.tokens.tolist()
    reading = evaluation_detector().read([Image.open(tmp_path / "drawn.png")])[0]
    assert reading.scene is not None
    assert satisfies(reading.scene, parse(PROMPT)), reading.words


def test_the_package_stays_small(shipped: Path) -> None:
    assert sum(file.stat().st_size for file in shipped.iterdir()) < 16 * 2**20
