"""A model on this machine, held to transformers' own generate, one prompt at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from completion_samples import complete, made_samples
from pairuni.chat.reasoning import without_reasoning
from pairuni.chat.request import RequestsStopped
from pairuni.config import CompletionSettings
from pairuni.io.images import ImageError
from pairuni.pairug.completion.annotator import make_annotator
from pairuni.pairug.completion.answer_store import AnswerStore
from pairuni.pairug.completion.local_model import LocalModel, messages_of
from pairuni.pairug.completion.model_tasks import task_of
from pairuni.pairug.completion.requests import RequestImage
from tiny_models import save_tiny_janus


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_janus(tmp_path_factory.mktemp("vlm")))


def requests_of(folder: Path, settings: CompletionSettings, count: int = 3):
    samples = made_samples(folder, count)
    pictures = [RequestImage.of(Path(sample.image_path), settings.image_side) for sample in samples]
    return [task_of(s, [picture], settings).write([]) for s, picture in zip(samples, pictures, strict=True)]


def test_a_batch_says_what_each_prompt_says_alone(tmp_path, checkpoint):
    settings = CompletionSettings(model=checkpoint, max_tokens=12, concurrency=3)
    requests = requests_of(tmp_path, settings)
    answers = LocalModel(settings).ask_all(requests)
    processor = AutoProcessor.from_pretrained(checkpoint)
    model = AutoModelForImageTextToText.from_pretrained(checkpoint).eval()
    for request, answer in zip(requests, answers, strict=True):
        prompt = processor.apply_chat_template(
            messages_of(request), add_generation_prompt=True, tokenize=False
        )
        inputs = processor(text=prompt, images=[Image.open(request.images[0].path)], return_tensors="pt")
        with torch.inference_mode():
            tokens = model.generate(**inputs, max_new_tokens=12, do_sample=False)
        new = tokens[0, inputs["input_ids"].shape[1] :]
        assert answer["text"] == processor.tokenizer.decode(new, skip_special_tokens=True).strip()
        assert answer["prompt_tokens"] == inputs["input_ids"].shape[1]
        ended = processor.tokenizer.eos_token_id in new
        assert (answer["finish"], answer["completion_tokens"]) == ("stop" if ended else "length", len(new))
    assert len({answer["text"] for answer in answers}) > 1


def test_samples_end_by_name_and_a_second_run_asks_nothing(tmp_path, checkpoint, monkeypatch):
    settings = CompletionSettings(model=checkpoint, max_tokens=4, concurrency=2)
    samples = made_samples(tmp_path, 5)
    Path(samples[2].image_path).write_bytes(Path(samples[2].image_path).read_bytes()[:60])
    store = AnswerStore(tmp_path / "cache" / "answers.jsonl")
    report = complete(samples, make_annotator("local", settings), 2, store=store)
    assert (len(report.quadruples), len(report.dropped), report.tries) == (0, 5, 8)
    assert [one.failed for one in report.dropped] == [False] * 5
    assert "the image cannot be decoded" in report.dropped[2].reason
    assert report.dropped[0].reason.startswith("refused 2 times, at last: the reply ")

    asked = []
    monkeypatch.setattr(LocalModel, "_generate", lambda self, *given: asked.append(given))
    assert complete(samples, make_annotator("local", settings), 2, store=store) == report
    assert asked == []


def test_an_unusable_image_fails_alone(tmp_path, checkpoint):
    settings = CompletionSettings(model=checkpoint, max_tokens=2)
    requests = requests_of(tmp_path, settings)
    Path(requests[1].images[0].path).unlink()
    first, second, third = LocalModel(settings).ask_all(requests)
    assert isinstance(second, ImageError)
    assert str(second) == "is missing"
    assert first["completion_tokens"] == third["completion_tokens"] == 2


def test_what_is_no_such_model_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no folder .*nowhere; .*completion\.model"):
        LocalModel(CompletionSettings(model=str(tmp_path / "nowhere")))


def replies(monkeypatch, texts):
    """The model says these in turn, the last one for ever."""
    said = list(texts)

    def generate(self, requests, pictures):
        return [
            {
                "text": said.pop(0) if len(said) > 1 else said[0],
                "finish": "length",
                "refusal": None,
                "id": "",
                "prompt_tokens": 5,
                "completion_tokens": 4,
            }
            for _ in requests
        ]

    monkeypatch.setattr(LocalModel, "_generate", generate)


def test_what_is_no_answer_is_not_stored_and_many_in_a_row_stop_the_build(tmp_path, checkpoint, monkeypatch):
    settings = CompletionSettings(model=checkpoint, concurrency=2)
    store = AnswerStore(tmp_path / "cache" / "answers.jsonl")
    replies(monkeypatch, ["<think>hm, let me see", "", "fine", "not JSON"])
    report = complete(made_samples(tmp_path, 4), make_annotator("local", settings), 1, store=store)
    assert [one.failed for one in report.dropped] == [True, True, False, False]
    assert "gave no reply, because reasoning used up the limit of tokens" in report.dropped[0].reason
    assert (len(store), store.prompt_tokens) == (2, 20)
    replies(monkeypatch, [""])
    with pytest.raises(
        RequestsStopped, match=r"10 requests in a row got no answer, the last because .* gave no reply"
    ):
        complete(made_samples(tmp_path / "more", 40), make_annotator("local", settings), 1, store=store)
    assert len(store) == 2


def test_marks_around_reasoning_are_kept_even_as_special_tokens(tmp_path, checkpoint):
    model = LocalModel(CompletionSettings(model=checkpoint))
    tokenizer = model._processor.tokenizer
    tokenizer.add_special_tokens({"additional_special_tokens": ["[THINK]", "[/THINK]", "<|x|>"]})
    for text, kept in (
        ("[THINK] red [/THINK] blue", "blue"),
        ("[THINK] red", ""),
        ("red <|x|> blue", None),
        ("red", "red"),
    ):
        tokens = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"][0]
        said = model._text(tokens)
        assert "<|x|>" not in said
        if kept is not None:
            assert without_reasoning(said).strip() == kept
