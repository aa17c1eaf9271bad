"""The app in a real browser that reaches nothing else. Needs pip install pairuni[app,browser], and Chromium."""

from __future__ import annotations

import io
import json
import re
import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from app_server import served
from PIL import Image

from fake_policy import FakePolicy
from fake_run import write_fake_run
from pairuni.digits.edits import held_out_edits
from pairuni.policies import load_policy

pytest.importorskip("gradio")
pytestmark = pytest.mark.slow

TOKEN = "open-sesame-1234"
PATIENCE = 120_000
"""Milliseconds that a model may take on a busy machine."""
UPLOAD = ".uploaded input[type=file] >> nth=0"
"""Where the first tab with images takes them."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_run(tmp_path_factory.mktemp("runs") / "run", steps=40, items=6, pairs=30)


@pytest.fixture(scope="module")
def server(run: Path) -> Iterator[Any]:
    later = run.parent / "later"
    pairs = [run / "pairug" / "pairs.jsonl", run / "none.jsonl"]
    with served(["tiny", "no-such-model"], pairs, [run, later]) as server:
        yield server


@contextmanager
def opened(browser: Any, url: str, width: int = 1300, **settings: Any) -> Iterator[Any]:
    """A page of the app; at the end, its console must show no error and it must have asked no other server."""
    context = browser.new_context(viewport={"width": width, "height": 900}, **settings)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    said, elsewhere = list[str](), list[str]()
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))

    def route(asked: Any) -> None:
        if asked.request.url.startswith((url, "data:", "blob:")):
            asked.continue_()
        else:
            elsewhere.append(asked.request.url)
            asked.abort()

    page.route("**/*", route)
    page.goto(url)
    page.get_by_role("tab", name="Draw").wait_for()
    yield page
    context.close()
    assert (said, elsewhere) == ([], [])


@pytest.mark.parametrize("width", [390, 1300])
def test_every_tab_fits(browser: Any, server: Any, width: int) -> None:
    with opened(browser, server.url, width) as page:
        for name, shown in (
            ("Draw", "Prompt"),
            ("Ask", "Question"),
            ("Pairs", "pair 1 ·"),
            ("Watch", "Gradient norm"),
        ):
            page.get_by_role("tab", name=name).click()
            page.get_by_text(shown).locator("visible=true").first.wait_for()
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_focus_of_the_keyboard_is_seen(browser: Any, server: Any, scheme: str) -> None:
    with opened(browser, server.url, color_scheme=scheme) as page:
        assert page.locator("body.dark").count() == (scheme == "dark")
        seen = set()
        for _ in range(14):
            page.keyboard.press("Tab")
            focus = page.evaluate(
                """() => {
                    const one = document.activeElement;
                    const ring = one.role === "combobox" ? one.closest(".wrap") : one;
                    return [one.tagName, getComputedStyle(ring).outlineStyle];
                }"""
            )
            if focus[0] != "BODY":  # past the last field
                assert focus[1] == "solid"
                seen.add(focus[0])
        assert seen == {"BUTTON", "TEXTAREA", "INPUT"}


def test_two_models_draw_side_by_side(browser: Any) -> None:
    with (
        served(["tiny", str(Path("src/pairuni/assets/tiny-janus").resolve())]) as two,
        opened(browser, two.url) as page,
    ):
        page.get_by_label("Prompt").fill("two <b>sevens</b>")
        page.get_by_label("Seeds").fill("3, 5")
        page.get_by_label("Images per seed").fill("2")
        page.get_by_role("button", name="Draw").click()
        page.get_by_text("The same in a terminal").click()
        commands = page.locator("pre").inner_text()
        assert commands.count("pairuni draw 'two <b>sevens</b>' --model") == 4
        assert len(set(re.findall(r"--out (\S+\.png)$", commands, re.M))) == 4  # none replaces another's file
        sides = page.locator(".panels section")
        assert sides.count() == 2
        sources = [
            [image.get_attribute("src") for image in side.locator("img").all()] for side in sides.all()
        ]
        assert sources[0] == sources[1]  # the same model, prompt and seeds
        assert len(sources[0]) == 4
        assert sides.first.locator("figcaption").nth(2).inner_text() == "seed 5, image 1"
        boxes = [side.bounding_box() for side in sides.all()]
        assert boxes[0]["y"] == boxes[1]["y"]
        image = sides.first.locator("img").nth(1)
        assert image.evaluate("image => image.complete && image.naturalWidth") == 32
        image.click()
        page.locator("dialog.enlarged[open]").wait_for()
        page.keyboard.press("ArrowRight")
        assert page.locator("dialog.enlarged p").inner_text() == "3 of 4: seed 5, image 1"
        page.keyboard.press("Escape")


def test_errors_are_sentences_in_the_page(browser: Any, server: Any) -> None:
    with opened(browser, server.url) as page:
        page.get_by_role("button", name="Draw").click()
        fault = page.get_by_role("alert").locator("visible=true")
        fault.get_by_text("Write a prompt first.").wait_for()
        page.get_by_label("Prompt").fill("a seven")
        page.get_by_label("Guidance").fill("much")
        page.get_by_role("button", name="Draw").click()
        fault.get_by_text("'much' is no guidance").wait_for()
        page.get_by_label("Guidance").fill("")
        page.get_by_role("button", name="Draw").click()  # beside the tiny model, one that does not exist
        fault.get_by_text("There is no folder no-such-model").wait_for()
        assert page.locator(".drawings img").count() == 4
        page.get_by_role("tab", name="Pairs").click()
        page.get_by_label("Pair file").click()
        page.get_by_role("option", name="none.jsonl").click()
        fault.get_by_text("there is no such file yet").wait_for()
        assert "Traceback" not in page.locator("body").inner_text()


def test_an_image_is_asked_about(browser: Any, server: Any, tmp_path: Path) -> None:
    (tmp_path / "page.png").write_text("<!doctype html>")
    Image.new("RGB", (64, 64), (200, 30, 30)).save(tmp_path / "red.tiff")
    with opened(browser, server.url) as page:
        page.get_by_role("tab", name="Ask").click()
        page.get_by_label("Compare with").locator("visible=true").click()
        page.get_by_role("option", name="none", exact=True).click()
        page.locator(UPLOAD).set_input_files(tmp_path / "page.png")
        page.get_by_text("page.png is a web page, not an image").wait_for()
        assert page.locator(".several img").count() == 0
        page.locator(UPLOAD).set_input_files(tmp_path / "red.tiff")
        page.wait_for_function("document.querySelector('.several img')?.naturalWidth === 64")
        page.get_by_text("page.png is a web page").wait_for(state="detached")
        assert page.locator(".several img.crisp").count() == 1
        page.get_by_label("Question").fill("what colour is it?")
        page.get_by_role("button", name="Ask").click()
        page.locator(".reply").wait_for()
        assert page.locator(".reply").inner_text().strip()
        page.get_by_text("The same in a terminal").click()
        assert page.locator("pre").inner_text() == "pairuni answer IMAGE 'what colour is it?' --model tiny"


class Sizes(FakePolicy):
    """Answers with the sizes of a question's images, in order."""

    def answer(self, images: Any, question: str, *, max_new_tokens: int | None = None) -> str:
        return " ".join(str(image.width) for image in images)


PASTE = """side => {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = side;
    return new Promise((done) => canvas.toBlob((blob) => {
        const clipboard = new DataTransfer();
        clipboard.items.add(new File([blob], "image.png", { type: "image/png" }));
        const given = { clipboardData: clipboard, bubbles: true, cancelable: true };
        done(document.activeElement.dispatchEvent(new ClipboardEvent("paste", given)));
    }));
}"""
"""What Ctrl+V does with an image in the clipboard."""


@pytest.mark.parametrize("width", [390, 1300])
def test_several_images_are_asked_about(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    def load(name: str, **settings: Any) -> FakePolicy:
        policy = Sizes()
        policy.name, policy.several_images = name, name == "many"
        return policy

    monkeypatch.setattr("pairuni.runs.models.load_model", load)
    (tmp_path / "page.png").write_text("<!doctype html>")
    Image.new("RGB", (110, 64), (200, 30, 30)).save(tmp_path / "red.tiff")
    Image.new("RGB", (120, 64), (30, 30, 200)).save(tmp_path / "blue.png")
    with served(["many", "one"]) as two, opened(browser, two.url, width) as page:
        shown, reply = page.locator(".several .thumbnail-item"), page.locator(".reply")

        def ask(sizes: str) -> None:
            page.get_by_role("button", name="Ask").click()
            reply.get_by_text(sizes, exact=True).wait_for()

        page.get_by_role("tab", name="Ask").click()
        page.locator(UPLOAD).set_input_files(
            [tmp_path / name for name in ("red.tiff", "page.png", "blue.png")]
        )
        page.get_by_role("alert").get_by_text("page.png is a web page").wait_for()
        page.get_by_label("Question").fill("which is largest?")
        assert shown.count() == 2
        page.wait_for_function("document.querySelector('.several img')?.naturalWidth === 110")
        ask("110 120")
        refused = page.locator(".panels").get_by_role("alert")
        assert "shows 2 images, but the policy one takes one a question." in refused.inner_text()
        page.get_by_text("The same in a terminal").click()
        (command,) = page.locator("pre").inner_text().splitlines()
        assert command == "pairuni answer IMAGE1 IMAGE2 'which is largest?' --model many"

        page.evaluate(PASTE, 130)  # the question has the focus
        page.get_by_label("Thumbnail 3 of 3").wait_for()
        ask("110 120 130")
        for remove in page.get_by_label("Delete image").all():
            assert remove.evaluate("button => getComputedStyle(button).opacity") == "1"
        page.get_by_label("Delete image").first.click()
        page.get_by_label("Thumbnail 1 of 2").wait_for()
        page.locator(UPLOAD).set_input_files(tmp_path / "red.tiff")  # again, now as the last one
        page.get_by_label("Thumbnail 3 of 3").wait_for()
        page.wait_for_function("document.querySelectorAll('.several img')[2]?.naturalWidth === 110")
        ask("120 130 110")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.get_by_label("Clear").locator("visible=true").click()
        page.get_by_role("button", name="Ask").click()
        page.get_by_role("alert").get_by_text("Choose an image first.").wait_for()


@pytest.mark.parametrize("width", [390, 1300])
def test_an_image_is_edited(browser: Any, tmp_path: Path, width: int) -> None:
    (item,) = held_out_edits(0, 1)
    item.image.save(tmp_path / "scene.png")
    (tmp_path / "page.png").write_text("<!doctype html>")
    instruction = item.edit.instruction
    with served(["tiny-lumina"]) as server, opened(browser, server.url, width) as page:
        page.get_by_role("tab", name="Edit").click()
        tab = page.get_by_role("tabpanel")
        upload, edit = tab.locator("input[type=file]"), tab.get_by_role("button", name="Edit", exact=True)

        def refused(text: str) -> None:
            edit.click()
            tab.get_by_role("alert").get_by_text(text).wait_for()

        refused("Choose an image first.")
        upload.set_input_files(tmp_path / "page.png")
        tab.get_by_text("The image is a web page, not an image").wait_for()
        upload.set_input_files(tmp_path / "scene.png")
        tab.locator(".uploaded img.crisp").wait_for()
        assert tab.get_by_text("is a web page").count() == 0
        refused("Write an instruction first.")
        tab.get_by_label("Instruction").fill(instruction)
        tab.get_by_label("Image guidance").fill("0.5")
        refused("Image guidance is at least 1")
        tab.get_by_label("Image guidance").fill("")
        tab.get_by_label("Seeds").fill("0, 7")
        tab.get_by_label("Seeds").press("Enter")
        tab.get_by_text("The same in a terminal").click()
        commands = [shlex.split(line) for line in tab.locator("pre").inner_text().splitlines()]
        assert commands == [
            [
                *("pairuni", "edit", "IMAGE", instruction, "--model", "tiny-lumina"),
                *("--seed", seed, "--out", f"image-seed-{seed}.png"),
            ]
            for seed in ("0", "7")
        ]
        images = tab.locator(".drawings img")
        assert tab.locator(".drawings figcaption").all_inner_texts() == ["seed 0", "seed 7"]
        model = load_policy("tiny-lumina", device="cpu")
        for image, seed in zip(images.all(), (0, 7), strict=True):
            sent = page.request.get(f"{server.url}/{image.get_attribute('src')}").body()
            expected = model.edit_image(item.image, instruction, seed=seed)
            assert Image.open(io.BytesIO(sent)).tobytes() == expected.tobytes()
        images.nth(1).click()
        assert page.locator("dialog.enlarged[open] p").inner_text() == "2 of 2: seed 7"
        page.keyboard.press("Escape")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert "Traceback" not in page.locator("body").inner_text()


class Gated(FakePolicy):
    """Draws and answers when the gate is open; ``seen`` has the seeds and questions, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.seen = threading.Event(), list[Any]()

    def generate_images(self, *given: Any, seed: int = 0, **settings: Any) -> list[Image.Image]:
        self.seen.append(seed)
        if len(self.seen) > 1:
            assert self.gate.wait(PATIENCE / 1000)
        return super().generate_images(*given, seed=seed, **settings)

    def answer(self, images: Any, question: str, *, max_new_tokens: int | None = None) -> str:
        self.seen.append(question)
        assert self.gate.wait(PATIENCE / 1000)
        return question


@pytest.fixture
def gated(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gated]:
    policy = Gated()
    monkeypatch.setattr("pairuni.runs.models.load_model", lambda name, **settings: policy)
    yield policy
    policy.gate.set()


def test_stop_ends_a_request(browser: Any, gated: Gated) -> None:
    from playwright.sync_api import expect

    with served(["one"]) as server, opened(browser, server.url) as page:
        stop, status = page.get_by_role("button", name="Stop"), page.get_by_role("status")
        assert stop.is_disabled()
        page.get_by_label("Prompt").fill("a seven")
        page.get_by_label("Seeds").fill("3-6")
        page.get_by_label("Images per seed").fill("1")
        page.get_by_label("Prompt").press("Enter")
        status.get_by_text("1 of 4 images").wait_for()
        stop.click()
        status.get_by_text("Stopping …").wait_for()
        gated.gate.set()
        status.get_by_text("Stopped.").wait_for()
        expect(stop).to_be_disabled()
        page.get_by_label("Seeds").fill("9")
        page.get_by_role("button", name="Draw").click()
        status.get_by_text("1 image in").wait_for()
        assert gated.seen == [3, 4, 9]  # the model finishes what it has begun, no more
        assert page.locator("figcaption").all_inner_texts() == ["seed 9"]
        expect(stop).to_be_disabled()


def test_a_request_that_waits_for_another_persons_says_so_and_stops(browser: Any, gated: Gated) -> None:
    with (
        served(["one"]) as server,
        opened(browser, server.url) as first,
        opened(browser, server.url) as second,
    ):
        for page, question in ((first, "one?"), (second, "two?")):
            page.get_by_role("tab", name="Ask").click()
            page.locator(UPLOAD).set_input_files(Path("docs/images/app-draw.png"))
            page.get_by_label("Thumbnail 1 of 1").wait_for()
            page.get_by_label("Question").fill(question)
            with page.expect_request("**/queue/data?*"):  # the server has the request
                page.get_by_label("Question").press("Enter")
            said = "one: " if page is first else "Waiting for the model"
            page.get_by_role("status").get_by_text(said).wait_for()
        second.get_by_role("button", name="Stop").click()
        second.get_by_role("status").get_by_text("Stopped.").wait_for()
        gated.gate.set()
        first.locator(".reply").get_by_text("one?").wait_for()
        second.get_by_label("Question").fill("three?")
        second.get_by_role("button", name="Ask").click()
        second.locator(".reply").get_by_text("three?").wait_for()
        assert gated.seen == ["one?", "three?"]


@pytest.mark.parametrize("width", [390, 1300])
def test_ten_models_with_long_names(browser: Any, gated: Gated, width: int) -> None:
    names = [
        f"/scratch/{'a-group-with-a-long-name/' * 5}{'model' * 20}-{number}@best" for number in range(10)
    ]
    gated.gate.set()
    with served(names) as server, opened(browser, server.url, width) as page:
        page.get_by_label("Prompt").fill("a seven" * 40)
        for label in ("Model", "Compare with"):
            choice = page.get_by_label(label, exact=True).locator("visible=true")
            choice.click()
            page.get_by_role("option", name=names[9 if label == "Model" else 8], exact=True).last.click()
        page.get_by_label("Prompt").press("Enter")
        page.get_by_text("The same in a terminal").click()
        assert page.locator(".panels h3").all_inner_texts() == [names[9], names[8]]
        for tab in ("Draw", "Ask"):
            page.get_by_role("tab", name=tab).click()
            assert page.evaluate("document.documentElement.scrollWidth") <= width, tab


def test_pairs_are_searched(browser: Any, server: Any) -> None:
    with opened(browser, server.url) as page:
        page.get_by_role("tab", name="Pairs").click()
        page.get_by_text("30 pairs: 10 aligned, 20 retrieved").wait_for()
        page.get_by_role("button", name="Next").click()
        page.get_by_text("pair 13 ·").wait_for()
        page.get_by_text("retrieved", exact=True).click()
        page.get_by_text("20 of 30 pairs").wait_for()
        page.get_by_label("Search").fill("zebra")
        page.get_by_text("None of the 30 pairs is like that.").wait_for()


def test_a_run_is_followed_from_before_its_start(browser: Any, server: Any, run: Path) -> None:
    later = run.parent / "later"
    rows = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    sample = json.loads((run / "samples" / "samples.jsonl").read_text().splitlines()[0])
    with opened(browser, server.url) as page:
        page.get_by_role("tab", name="Watch").click()
        page.get_by_label("Run", exact=True).click()
        page.get_by_role("option", name="later").click()
        page.get_by_text("There is no such folder yet").wait_for()
        later.mkdir()
        (later / "metrics.jsonl").write_text("".join(rows[:3]))
        page.get_by_text("it stopped at step 3").wait_for()
        curve = page.locator("[data-chart]").first
        assert "step 3:" in curve.get_attribute("aria-valuetext")
        with (later / "metrics.jsonl").open("a") as file:
            file.writelines(rows[3:20])
        (later / "samples").mkdir()
        (later / "samples" / "samples.jsonl").write_text(json.dumps({**sample, "step": 20}) + "\n")
        page.get_by_text("it stopped at step 20").wait_for()
        page.get_by_role("heading", name="Samples of step 20").wait_for()
        curve.focus()
        page.keyboard.press("Home")
        assert re.match("step 1:", curve.get_attribute("aria-valuetext"))
        page.get_by_label("Run", exact=True).click()
        page.get_by_role("option", name=str(run), exact=True).click()
        page.get_by_text("Finished at step 40").wait_for()


def test_a_token_is_asked_for(browser: Any) -> None:
    with served(token=TOKEN) as guarded:
        context = browser.new_context()
        # a headless page has no dialog for credentials
        refused = context.request.get(guarded.url)
        assert refused.status == 401
        assert "asks for its token" in refused.text()
        context.close()
        with opened(browser, guarded.url, http_credentials={"username": "me", "password": TOKEN}) as page:
            page.get_by_label("Prompt").fill("a seven")
            page.get_by_role("button", name="Draw").click()
            page.get_by_text("4 images in").wait_for()
