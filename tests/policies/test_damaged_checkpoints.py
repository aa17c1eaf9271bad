"""Damaged and malicious model folders: a one-line error that names the file, or a policy that works."""

import copy
import json
import os
import random
import shutil

import pytest
import torch
from checkpoints import edit_json as edit
from checkpoints import save_original
from PIL import Image
from safetensors.torch import load_file

from pairuni.policies import load_policy
from pairuni.policies.janus.convert import convert_checkpoint
from pairuni.policies.requests import ImageSampling, TextSampling
from tiny_models import save_tiny_janus

FILES = {
    "transformers": (
        *("config.json", "generation_config.json", "processor_config.json"),
        *("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
    ),
    "original": (
        *("config.json", "preprocessor_config.json", "processor_config.json"),
        *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
        "model.safetensors.index.json",
    ),
}
VALUES = [
    *(None, True, False, -1, 0, 1, 7, 10**6, 10**30, -0.5, 1e300, float("nan"), float("inf")),
    *("", "x", "../../etc/passwd", "é\u2028\x1b[31m", [], [[]], [1, "a", None], {}, {"a": {"b": 1}}),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("folders")
    save_tiny_janus(root / "transformers")
    save_original(root / "original", kind="safetensors")
    weights = root / "original" / "model.safetensors"
    weights.rename(weights.with_name("model-00001-of-00001.safetensors"))
    names = list(load_file(weights.with_name("model-00001-of-00001.safetensors")))
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "model-00001-of-00001.safetensors")}
    (root / "original" / "model.safetensors.index.json").write_text(json.dumps(index))
    for layout in FILES:
        load_policy(root / layout)
    return root


def outcome(folder):
    """ "loaded", or the error, which must be a ValueError of one line."""
    try:
        policy = load_policy(folder)
        policy.sample_text(
            TextSampling(images=[Image.new("RGB", (20, 30))], questions=["a"], max_new_tokens=2)
        )
        policy.sample_images(ImageSampling(prompts=["a"], guidance=5.0))
    except ValueError as error:
        said = str(error)
        assert "\n" not in said, said
        assert len(said) < 900, said
        return said
    return "loaded"


def places(content, path=()):
    """Paths of the values in a JSON document; of long objects and lists only the first."""
    if path:
        yield path
    inner = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in list(inner)[:40]:
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))
        else:
            yield (*path, key)


def replaced(content, path, value):
    """A copy with another value at a path; ``...`` removes it."""
    content = copy.deepcopy(content)
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return content


def damaged_json(folders):
    """(layout, file, new text): every value replaced by each of ``VALUES``, or removed."""
    for layout, names in FILES.items():
        for name in names:
            if name.endswith(".jinja"):
                continue
            content = json.loads((folders / layout / name).read_text("utf-8"))
            for path in places(content):
                for value in (*VALUES, ...):
                    yield layout, name, json.dumps(replaced(content, path, value), ensure_ascii=False)


def damaged_bytes(folders, source, count):
    """(layout, file, new bytes): bytes changed, truncated, duplicated or replaced."""
    for _ in range(count):
        layout = source.choice(list(FILES))
        name = source.choice(FILES[layout])
        data = bytearray((folders / layout / name).read_bytes())
        place = source.randrange(len(data))
        match source.randrange(4):
            case 0:
                data[place] = source.randrange(256)
            case 1:
                del data[place:]
            case 2:
                data[place:place] = data[place : place + 40]
            case _:
                data[place : place + source.randrange(1, 9)] = source.randbytes(3)
        yield layout, name, bytes(data)


def check(folders, tmp_path, cases):
    """Every damaged folder loads, or is refused with an error that names its file; returns how many did either."""
    copies = {
        layout: shutil.copytree(folders / layout, tmp_path / layout, copy_function=os.link)
        for layout in FILES
    }
    counts = {"loaded": 0, "refused": 0}
    for layout, name, content in cases:
        path, whole = copies[layout] / name, folders / layout / name
        path.unlink()
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        said = outcome(copies[layout])
        counts["loaded" if said == "loaded" else "refused"] += 1
        named = (*FILES[layout], "chat template")
        assert said == "loaded" or any(part in said for part in named), (name, said)
        path.unlink()
        os.link(whole, path)
    return counts


def test_any_value_in_any_file(folders, tmp_path):
    cases = list(damaged_json(folders))
    assert len(cases) > 3000
    counts = check(folders, tmp_path, random.Random(0).sample(cases, 150))
    assert min(counts.values()) > 10


def test_any_bytes_in_any_file(folders, tmp_path):
    counts = check(folders, tmp_path, damaged_bytes(folders, random.Random(0), 100))
    assert min(counts.values()) > 5


@pytest.mark.slow
def test_every_value_in_every_file(folders, tmp_path):
    check(folders, tmp_path, damaged_json(folders))


@pytest.mark.slow
def test_many_damaged_bytes(folders, tmp_path):
    check(folders, tmp_path, damaged_bytes(folders, random.Random(1), 3000))


# Malicious folders


@pytest.fixture
def model(folders, tmp_path):
    return shutil.copytree(folders / "transformers", tmp_path / "model")


@pytest.fixture
def original(folders, tmp_path):
    return shutil.copytree(folders / "original", tmp_path / "model")


@pytest.mark.parametrize(
    "name",
    [
        *("../outside.safetensors", "/tmp/outside.safetensors", "sub/model.safetensors", "..", "."),
        *("..\\outside.safetensors", "model.safetensors\0", "", "pytorch_model.bin", "config.json"),
        *(1, None, ["a"]),
    ],
)
def test_an_index_may_only_name_weights_of_its_folder(original, name):
    shutil.copy(original / "model-00001-of-00001.safetensors", original.parent / "outside.safetensors")
    index = json.loads((original / "model.safetensors.index.json").read_text())
    first = next(iter(index["weight_map"]))
    edit(original / "model.safetensors.index.json", weight_map={**index["weight_map"], first: name})
    assert "model.safetensors.index.json" in outcome(original)


@pytest.mark.parametrize("places", [[], "x", None, {}, 3])
def test_an_index_without_a_map(original, places):
    edit(original / "model.safetensors.index.json", weight_map=places)
    assert "model.safetensors.index.json" in outcome(original)


class _Runs:
    """A pickle that makes a folder when it is read."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_pickles_do_not_run(original, tmp_path):
    (original / "model.safetensors.index.json").unlink()
    runs = _Runs(tmp_path / "was-run")
    for content in ({"a": runs}, runs, {"a": torch.zeros(1), "b": runs}):
        torch.save(content, original / "pytorch_model.bin")
        assert "pytorch_model.bin cannot be read as plain tensors" in outcome(original)
        assert not runs.folder.exists()


def test_no_code_is_fetched_or_run(model):
    """Keys that name code are ignored: a class in the folder, a kernel on the hub."""
    config = json.loads((model / "config.json").read_text())
    (model / "evil.py").write_text("raise SystemExit('was run')")
    chosen = {"AutoModel": "evil.Model", "AutoConfig": "evil.Config"}
    config |= {"auto_map": chosen, "attn_implementation": "somebody/kernel", "_attn_implementation": "x/y"}
    config["text_config"] |= {"attn_implementation": "somebody/kernel", "auto_map": chosen}
    (model / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer_config.json", "processor_config.json", "generation_config.json"):
        edit(model / name, auto_map={"AutoTokenizer": ["evil.T", "evil.T"], "AutoProcessor": "evil.P"})
    edit(model / "generation_config.json", custom_generate="somebody/generate")
    assert outcome(model) == "loaded"
    assert "kernel" not in str(load_policy(model).module.config._attn_implementation)


def test_files_elsewhere_are_not_read(model, tmp_path):
    (tmp_path / "outside.json").write_text("no tokenizer at all")
    outside = str(tmp_path / "outside.json")
    edit(model / "tokenizer_config.json", tokenizer_file=outside, vocab_file=outside, name_or_path=outside)
    assert outcome(model) == "loaded"


def test_quantised_weights_are_refused(model):
    edit(model / "config.json", quantization_config={"quant_method": "bitsandbytes"})
    assert "config.json describes quantised weights" in outcome(model)


@pytest.mark.parametrize("name", FILES["transformers"])
@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"a": ' * 100_000, '{"a": ' + "9" * 10_000 + "}", "\0", ""]
)
def test_text_that_breaks_parsers(model, name, content):
    (model / name).write_text(content)
    said = outcome(model)
    if name == "chat_template.jinja":
        # an empty template is replaced by the default
        assert said == "loaded" if not content else "chat template" in said
    else:
        assert name in said


def test_named_pipes_do_not_block(model):
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (model / name).rename(model / "kept")
        os.mkfifo(model / name)
        assert "has no" in outcome(model)
        (model / name).unlink()
        (model / "kept").rename(model / name)
    for name in FILES["transformers"]:
        (model / name).unlink()
        os.mkfifo(model / name)
    assert "has no" in outcome(model)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("text_config", "num_hidden_layers", 10**9),
        ("text_config", "num_hidden_layers", 1000),
        ("text_config", "hidden_size", 2**30),
        ("text_config", "max_position_embeddings", 0),
        ("text_config", "hidden_act", "gelu"),
        ("text_config", "model_type", "qwen2"),
        ("vision_config", "num_hidden_layers", 10**6),
        ("vision_config", "image_size", 48),
        ("vision_config", "patch_size", 0),
        ("vq_config", "channel_multiplier", [1] * 10**4),
        ("vq_config", "num_res_blocks", 10**7),
        ("text_config", "vocab_size", 100),
    ],
)
def test_impossible_sizes(model, section, key, value):
    edit(model / "config.json", section, **{key: value})
    assert "config.json" in outcome(model)


@pytest.mark.parametrize(
    "changes",
    [
        {"size": {"height": 32, "width": 48}},
        {"size": {"height": 64, "width": 64}},
        {"min_size": 10**9},
        {"min_size": 0},
        {"image_std": [0.5, 0, 0.5]},
        {"image_std": [0.5]},
        {"image_mean": "0.5"},
        {"image_mean": [0.5, float("nan"), 0.5]},
        {"rescale_factor": 0},
        {"rescale_factor": "x"},
        {"do_normalize": "yes"},
        {"do_resize": False},
        {"resample": 77},
    ],
)
def test_impossible_preprocessing(model, changes):
    edit(model / "processor_config.json", "image_processor", **changes)
    assert "processor_config.json" in outcome(model)


def test_conversion_of_a_damaged_folder_writes_nothing(folders, tmp_path):
    source = random.Random(3)
    copies = {
        layout: shutil.copytree(folders / layout, tmp_path / layout, copy_function=os.link)
        for layout in FILES
    }
    other = {"original": "transformers", "transformers": "original"}
    refused = []
    for layout, name, content in damaged_bytes(folders, source, 40):
        path, target = copies[layout] / name, tmp_path / "target"
        path.unlink()
        path.write_bytes(content)
        try:
            convert_checkpoint(copies[layout], target, other[layout])
            shutil.rmtree(target)
        except ValueError as error:
            refused.append(str(error))
        assert sorted(one.name for one in tmp_path.iterdir()) == ["original", "transformers"]
        path.unlink()
        os.link(folders / layout / name, path)
    assert len(refused) > 5
    assert not any("\n" in said for said in refused)
