"""Model folders that are damaged, or made to do harm: one sentence that names the file, or a policy that works."""

import copy
import json
import os
import random
import shutil

import pytest
from checkpoints import save_original
from PIL import Image

from pairuni.policies import load_policy
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
    names = list(load_policy_tensors(weights.with_name("model-00001-of-00001.safetensors")))
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "model-00001-of-00001.safetensors")}
    (root / "original" / "model.safetensors.index.json").write_text(json.dumps(index))
    for layout in FILES:
        load_policy(root / layout)
    return root


def load_policy_tensors(path):
    from safetensors.torch import load_file

    return load_file(path)


def outcome(folder):
    """ "loaded", or the sentence; anything but a ValueError of one line fails the test that asks."""
    try:
        policy = load_policy(folder)
        policy.sample_text(
            [Image.new("RGB", (20, 30))], ["a"], rollouts=1, temperature=1.0, max_new_tokens=2, seed=0
        )
        policy.sample_images(["a"], rollouts=1, temperature=1.0, guidance=5.0, branch="guided", seed=0)
    except ValueError as error:
        said = str(error)
        assert "\n" not in said, said
        assert len(said) < 900, said
        return said
    return "loaded"


def places(content, path=()):
    """Paths of all values in a JSON document; of a long object or list a few."""
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
    """(layout, file, new text) of every value replaced by every other, or removed."""
    for layout, names in FILES.items():
        for name in names:
            if name.endswith(".jinja"):
                continue
            content = json.loads((folders / layout / name).read_text("utf-8"))
            for path in places(content):
                for value in (*VALUES, ...):
                    yield layout, name, json.dumps(replaced(content, path, value), ensure_ascii=False)


def damaged_bytes(folders, source, count):
    """(layout, file, new bytes): bytes changed, cut off, doubled, put somewhere else."""
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
    """Every damaged folder loads or is refused by a sentence about a file of it; returns how many did which."""
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
        if said != "loaded":
            named = (
                "config.json",
                "tokenizer",
                "chat_template",
                "chat template",
                str(tmp_path),
                "context",
                "has",
            )
            assert any(part in said for part in named), (name, said)
        path.unlink()
        os.link(whole, path)
    return counts


def test_values_of_any_kind_in_any_file(folders, tmp_path):
    cases = list(damaged_json(folders))
    assert len(cases) > 3000
    counts = check(folders, tmp_path, random.Random(0).sample(cases, 150))
    assert min(counts.values()) > 10


def test_bytes_of_any_kind_in_any_file(folders, tmp_path):
    counts = check(folders, tmp_path, damaged_bytes(folders, random.Random(0), 100))
    assert min(counts.values()) > 5


@pytest.mark.slow
def test_every_value_in_every_file(folders, tmp_path):
    check(folders, tmp_path, damaged_json(folders))


@pytest.mark.slow
def test_many_damaged_bytes(folders, tmp_path):
    check(folders, tmp_path, damaged_bytes(folders, random.Random(1), 3000))
