"""HPSv2 compared with open_clip's model and the original's preprocessing and tokenizer.

reference/make_hpsv2_scores.py computed the stored values.
"""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn.functional import interpolate

from pairuni.io.rgb import as_rgb
from pairuni.records import Annotation
from pairuni.rewards.clip import hpsv2, original, scorer
from pairuni.rewards.clip.hpsv2 import HPSv2Reward
from pairuni.rewards.clip.original import clip_from_original, config_of, key_map, read_original
from pairuni.rewards.clip.preprocessing import cropped_resize_weights
from pairuni.rewards.clip.text import load_tokenizer, open_clip_cleaning, token_ids
from reference import tiny_hpsv2

STORED: dict[str, Any] = json.loads(tiny_hpsv2.SCORES.read_text(encoding="utf-8"))
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    made = tiny_hpsv2.weights(tiny_hpsv2.shapes())
    return {name: torch.from_numpy(values) for name, values in made.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, state: dict[str, torch.Tensor]) -> Path:
    """The small HPSv2 as the original's kind of file, and a vocabulary."""
    path = tmp_path_factory.mktemp("hpsv2")
    torch.save({"epoch": 1, "name": "small", "state_dict": state}, path / "small.pt")
    tiny_hpsv2.write_vocabulary(path / "bpe_simple_vocab_16e6.txt.gz")
    return path


@pytest.fixture(scope="module")
def make(folder: Path) -> Callable[..., HPSv2Reward]:
    def reward(checkpoint: Path | str = folder / "small.pt", **settings: Any) -> HPSv2Reward:
        vocabulary = str(folder / "bpe_simple_vocab_16e6.txt.gz")
        return HPSv2Reward(str(checkpoint), tokenizer=vocabulary, device="cpu", **settings)

    return reward


def record(prompt: str) -> Annotation:
    return Annotation.model_construct(image_path="a.png", prompt=prompt, question="q", answer="a", tag="")


def test_synthetic_images_score_as_in_open_clip(make: Callable[..., HPSv2Reward]) -> None:
    images = tiny_hpsv2.synthetic_images()
    prompts = [tiny_hpsv2.PROMPTS[place % len(tiny_hpsv2.PROMPTS)] for place in range(len(images))]
    scores = make()([record(prompt) for prompt in prompts], list(images.values()))
    assert dict(zip(images, scores, strict=True)) == pytest.approx(STORED["drawn"], abs=TOLERANCE)
    assert np.std(list(STORED["drawn"].values())) > 100 * TOLERANCE


def test_prompts_are_cleaned_and_tokenized_as_in_the_original(
    make: Callable[..., HPSv2Reward], folder: Path
) -> None:
    image = tiny_hpsv2.synthetic_images()["wide"]
    scores = make()([record(prompt) for prompt in tiny_hpsv2.PROMPTS], [image] * len(tiny_hpsv2.PROMPTS))
    found = dict(zip(tiny_hpsv2.PROMPTS, scores, strict=True))
    assert found == pytest.approx(STORED["prompts"], abs=TOLERANCE)
    tokenizer = load_tokenizer(str(folder / "bpe_simple_vocab_16e6.txt.gz"))
    rows = token_ids(tokenizer, tiny_hpsv2.PROMPTS, 77, open_clip_cleaning()).tolist()
    assert [row[: row.index(max(row)) + 1] for row in rows] == STORED["tokens"]
    assert max(map(len, STORED["tokens"])) == 77


@pytest.mark.skipif(not tiny_hpsv2.SHARED.is_dir(), reason="the photographs are not here")
def test_photographs_score_as_in_open_clip(make: Callable[..., HPSv2Reward]) -> None:
    photos = tiny_hpsv2.photos()
    assert {name.split()[-1] for name in photos} == {"RGB", "L", "RGBA"}
    scores = make()(
        [record(caption) for _, caption in photos.values()], [image for image, _ in photos.values()]
    )
    assert dict(zip(photos, scores, strict=True)) == pytest.approx(STORED["photos"], abs=TOLERANCE)


def test_scores_do_not_depend_on_the_batch(make: Callable[..., HPSv2Reward]) -> None:
    images = list(tiny_hpsv2.synthetic_images().values())
    records = [record(tiny_hpsv2.PROMPTS[place % 3]) for place in range(len(images))]
    whole = make(batch_size=64)(records, images)
    assert make(batch_size=3)(records, images) == pytest.approx(whole, abs=1e-6)
    alone = [make()([one], [image])[0] for one, image in zip(records, images, strict=True)]
    assert alone == pytest.approx(whole, abs=1e-6)


def test_other_checkpoint_formats_score_the_same(
    make: Callable[..., HPSv2Reward], state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    image, asked = tiny_hpsv2.synthetic_images()["tall"], [record("a cat")]
    expected = make()(asked, [image])
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "small.safetensors")
    torch.save(state, tmp_path / "bare.pt")
    clip_from_original(state).save_pretrained(tmp_path / "clip")
    for form in ("small.safetensors", "bare.pt", "clip"):
        assert make(tmp_path / form)(asked, [image]) == pytest.approx(expected, abs=1e-6)


def test_bfloat16_is_near(make: Callable[..., HPSv2Reward]) -> None:
    images = list(tiny_hpsv2.synthetic_images().values())
    records = [record("a dog")] * len(images)
    assert make(dtype="bfloat16")(records, images) == pytest.approx(make()(records, images), abs=0.03)


def test_all_tensors_of_vit_h_14_are_converted() -> None:
    """Names and shapes are those of open_clip's ViT-H-14, which make_hpsv2_scores.py wrote down."""
    lines = [line.partition(" ") for line in tiny_hpsv2.KEYS.read_text(encoding="utf-8").splitlines()]
    shapes = {name: [int(side) for side in shape.split("x") if side] for name, _, shape in lines}
    state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    assert len(state) == 686
    assert sum(tensor.numel() for tensor in state.values()) == 986_109_441
    model = clip_from_original(state)
    assert sum(parameter.numel() for parameter in model.parameters()) == 986_109_441
    assert key_map(model.config).keys() == state.keys()
    towers = model.config.vision_config, model.config.text_config
    assert [(tower.num_attention_heads, tower.hidden_act) for tower in towers] == [(16, "gelu"), (16, "gelu")]
    assert (towers[0].image_size, towers[0].patch_size, towers[1].eos_token_id) == (224, 14, 49407)


def test_the_checkpoint_is_loaded_once(
    folder: Path, make: Callable[..., HPSv2Reward], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    monkeypatch.setattr(hpsv2, "read_original", lambda path: reads.append(path) or read_original(path))
    hpsv2._load.cache_clear()
    first, second = make(), make(version="2.0", batch_size=2)
    for reward in (first, second, first):
        reward([record("a"), record("b")], [tiny_hpsv2.synthetic_images()["wide"]] * 2)
    assert reads == [folder / "small.pt"]


def test_text_features_are_cached_up_to_a_limit(
    make: Callable[..., HPSv2Reward], monkeypatch: pytest.MonkeyPatch
) -> None:
    hpsv2._load.cache_clear()
    asked: list[list[str]] = []

    def counting(tokenizer: Any, prompts: list[str], *rest: Any) -> torch.Tensor:
        asked.append(list(prompts))
        return token_ids(tokenizer, prompts, *rest)

    monkeypatch.setattr(scorer, "token_ids", counting)
    monkeypatch.setattr(scorer, "TEXTS_KEPT", 2)
    reward, image = make(), tiny_hpsv2.synthetic_images()["one-pixel"]
    for prompts in (["a", "a", "b"], ["b", "a"], ["c"], ["a", "b"]):
        reward([record(prompt) for prompt in prompts], [image] * len(prompts))
    assert asked == [["a", "b"], ["c"], ["b"]]  # c drove out b, which was used longest ago
    many = reward([record(str(place)) for place in range(5)], [image] * 5)
    assert len(set(many)) > 1


@pytest.mark.parametrize(
    ("length", "shortest"), [(300, 300), (640, 300), (61, 50), (50, 50), (224, 224), (1, 1)]
)
def test_resizing_is_torchs_antialiased_bicubic(length: int, shortest: int) -> None:
    size = 224
    signal = torch.rand(1, 3, length, 2, generator=torch.Generator().manual_seed(3))
    resized = size if length == shortest else int(size * length / shortest)
    whole = interpolate(signal, (resized, 2), mode="bicubic", antialias=True)[0]
    first = round((resized - size) / 2)
    ours = cropped_resize_weights(length, size, shortest=shortest) @ signal[0]
    torch.testing.assert_close(ours, whole[:, first : first + size], atol=2e-6, rtol=0)


def test_a_long_strip_costs_no_more_than_a_square(make: Callable[..., HPSv2Reward]) -> None:
    strip = Image.fromarray(np.full((20_000, 1, 3), 90, np.uint8))
    square = Image.fromarray(np.full((8, 8, 3), 90, np.uint8))
    scores = make()([record("grey")] * 2, [strip, square])
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


def test_16_bit_grey_is_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    assert np.asarray(as_rgb(Image.fromarray(ramp)))[..., 0].ravel().tolist() == list(range(256))


def test_records_and_images_must_match_in_number(make: Callable[..., HPSv2Reward]) -> None:
    with pytest.raises(ValueError, match="1 records but 2 images"):
        make()([record("a")], [tiny_hpsv2.synthetic_images()["wide"]] * 2)
    assert make()([], []) == []


def test_a_missing_checkpoint_is_reported(make: Callable[..., HPSv2Reward]) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere/HPS_v2.1_compressed.pt: no such file or folder"):
        make("nowhere/HPS_v2.1_compressed.pt")


def test_an_unavailable_published_checkpoint_says_what_to_do(
    make: Callable[..., HPSv2Reward], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = []

    def offline(repository: str, *, allow_patterns: list[str], **_: object) -> str:
        wanted.append((repository, *allow_patterns))
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    for version in ("2.0", "2.1"):
        with pytest.raises(FileNotFoundError, match=r"set reward\.hpsv2\.checkpoint to its path"):
            make(hpsv2.HUB, version=version)
    assert wanted == [("xswu/HPSv2", "HPS_v2_compressed.pt"), ("xswu/HPSv2", "HPS_v2.1_compressed.pt")]


def test_the_other_versions_file_is_refused(make: Callable[..., HPSv2Reward], tmp_path: Path) -> None:
    (tmp_path / "HPS_v2_compressed.pt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"is HPSv2\.0, but reward\.hpsv2\.version is '2\.1'"):
        make(tmp_path / "HPS_v2_compressed.pt", version="2.1")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("visual.ln_pre.bias"), "has no visual.ln_pre.bias"),
        (lambda state: state.pop("visual.proj"), "not a checkpoint of open_clip's CLIP: visual.proj missing"),
        (
            lambda state: state.update(head=torch.zeros(1)),
            "contains head, which a CLIP model",
        ),
        (lambda state: state.update({"ln_final.bias": torch.zeros(3)}), r"ln_final.bias has the shape \[3\]"),
        (
            lambda state: state.update({"visual.conv1.weight": torch.zeros(768, 3, 32, 32)}),
            "unlike those of ViT-H-14",
        ),
    ],
)
def test_another_models_file_is_refused_by_name(
    change: Callable[[dict[str, torch.Tensor]], Any],
    said: str,
    state: dict[str, torch.Tensor],
    make: Callable[..., HPSv2Reward],
    tmp_path: Path,
) -> None:
    other = dict(state)
    change(other)
    torch.save({"state_dict": other}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=f"other.pt is not HPSv2: .*{said}"):
        make(tmp_path / "other.pt")


class Harm:
    """A Python object in a checkpoint."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("the pickle ran",))


def test_a_pickle_is_not_executed(make: Callable[..., HPSv2Reward], tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "harm": Harm()}, tmp_path / "harm.pt")
    with pytest.raises(ValueError, match="only weights are read"):
        make(tmp_path / "harm.pt")


@pytest.mark.parametrize("name", ["junk.pt", "junk.safetensors", "empty.pt", "cut.pt", "zip.pt"])
def test_an_invalid_file_is_reported(
    name: str, make: Callable[..., HPSv2Reward], folder: Path, tmp_path: Path
) -> None:
    kinds = {
        "empty": b"",
        "cut": (folder / "small.pt").read_bytes()[:100_000],
        "junk": b"this is no checkpoint",
    }
    if name == "zip.pt":
        with zipfile.ZipFile(tmp_path / name, "w") as file:
            file.writestr("a.txt", "a")
    else:
        (tmp_path / name).write_bytes(kinds[name.partition(".")[0]])
    with pytest.raises(ValueError, match=name):
        make(tmp_path / name)


def test_the_tokenizer_of_another_model_is_refused(
    folder: Path, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    smaller = dict(state)
    smaller["token_embedding.weight"] = state["token_embedding.weight"][:600]
    torch.save(smaller, tmp_path / "smaller.pt")
    with pytest.raises(ValueError, match="do not belong together"):
        HPSv2Reward(
            str(tmp_path / "smaller.pt"), tokenizer=str(folder / "bpe_simple_vocab_16e6.txt.gz"), device="cpu"
        )
    with pytest.raises(ValueError, match="cannot load CLIP's tokenizer"):
        HPSv2Reward(str(folder / "small.pt"), tokenizer="./no/such/tokenizer", device="cpu")
    (tmp_path / "vocabulary.txt.gz").write_bytes(b"not gzip")
    with pytest.raises(ValueError, match="is not a vocabulary of CLIP"):
        load_tokenizer(str(tmp_path / "vocabulary.txt.gz"))


def test_missing_ftfy_is_reported_with_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ftfy", None)
    with pytest.raises(ImportError, match=r"pip install 'pairuni\[clip\]'"):
        open_clip_cleaning()


def test_an_unavailable_device_is_reported(folder: Path) -> None:
    for name, said in (("cuda:99", "device 'cuda:99'"), ("abacus", "device 'abacus' is unknown")):
        with pytest.raises(ValueError, match=said):
            HPSv2Reward(str(folder / "small.pt"), device=name)


@pytest.mark.gpu
def test_a_gpu_scores_the_same(folder: Path) -> None:
    images = tiny_hpsv2.synthetic_images()
    prompts = [tiny_hpsv2.PROMPTS[place % len(tiny_hpsv2.PROMPTS)] for place in range(len(images))]
    vocabulary = str(folder / "bpe_simple_vocab_16e6.txt.gz")
    for dtype, tolerance in (("float32", 1e-3), ("bfloat16", 0.03)):
        reward = HPSv2Reward(str(folder / "small.pt"), tokenizer=vocabulary, device="cuda", dtype=dtype)
        scores = reward([record(prompt) for prompt in prompts], list(images.values()))
        assert dict(zip(images, scores, strict=True)) == pytest.approx(STORED["drawn"], abs=tolerance)


def test_sizes_follow_from_the_tensors(state: dict[str, torch.Tensor]) -> None:
    config = config_of(state)
    assert config.vision_config.num_attention_heads * original.VISION_HEAD == tiny_hpsv2.VISION["width"]
    assert config.text_config.num_attention_heads == tiny_hpsv2.TEXT["heads"]
