"""Functions of the lmms-eval tasks in this folder."""

import json

from PIL import Image

from pairuni.digits.detectors import evaluation_detector
from pairuni.digits.language import parse
from pairuni.digits.prompts import satisfies
from pairuni.rewards.answers.accuracy import answers_match


def images(doc):
    return [doc["image"].convert("RGB")]


def no_images(doc):
    return []


def answer_correct(doc, results):
    return {"accuracy": float(answers_match(doc["question"], doc["answer"], results[0]))}


def image_correct(doc, results):
    with Image.open(json.loads(results[0])["images"][0]) as image:
        reading = evaluation_detector().read([image.convert("RGB")])[0]
    right = reading.scene is not None and satisfies(reading.scene, parse(doc["prompt"]))
    return {"accuracy": float(right)}
