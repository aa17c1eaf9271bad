"""Both layouts load and convert without loss; errors name the file and the fault."""

import json
import shutil

import pytest
import torch
from checkpoints import edit_json, save_original
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor, JanusForConditionalGeneration

from pairuni.policies import load_policy
from pairuni.policies.janus.convert import UNUSED_FILE, convert_checkpoint
from pairuni.policies.janus.loading import read_tensors
from pairuni.policies.requests import ImageSampling
from reference.janus_decoding import siglip
from tiny_models import PAD, save_tiny_janus


@pytest.fixture(scope="module")
def transformers_folder(tmp_path_factory):
    return save_tiny_janus(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def original_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original") / "model"
    save_original(folder)
    return folder


@pytest.fixture
def copied(transformers_folder, tmp_path):
    return shutil.copytree(transformers_folder, tmp_path / "copy")


def equal(one, two):
    assert one.keys() == two.keys()
    return all(one[name].dtype == two[name].dtype and torch.equal(one[name], two[name]) for name in one)


def image_codes(policy):
    return policy.sample_images(ImageSampling(prompts=["a cat"], guidance=5.0))[0][0].tokens


def test_transformers_layout_loads_as_transformers_does(transformers_folder):
    policy = load_policy(transformers_folder)
    plain = JanusForConditionalGeneration.from_pretrained(transformers_folder)
    assert equal(policy.module.state_dict(), plain.state_dict())
    assert not policy.module.training
    assert policy.name == str(transformers_folder)


@pytest.mark.parametrize("kind", ["bin", "shards", "safetensors"])
def test_original_layout_loads(tmp_path, kind, images):
    tensors = save_original(tmp_path / "model", kind=kind)
    policy = load_policy(tmp_path / "model")
    pixels = policy.pixel_values(images)
    expected = siglip(tensors, pixels, heads=2, patch=8)
    with torch.no_grad():
        states = policy.module.model.vision_model(pixels).last_hidden_state
    torch.testing.assert_close(states, expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(policy.module.lm_head.weight, tensors["language_model.lm_head.weight"])
    assert policy.module.lm_head.weight is not policy.module.get_input_embeddings().weight
    assert policy.prompts.pad == policy.processor.tokenizer.convert_tokens_to_ids(PAD)
    prompt = policy.processor.tokenizer.decode(policy.prompts.generation("a cat"))
    assert prompt == "<｜begin▁of▁sentence｜><|User|>: a cat\n\n<|Assistant|>:<begin_of_image>"
    assert len(image_codes(policy)) == 16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_conversion_there_and_back_is_bit_exact(tmp_path, dtype):
    tensors = save_original(tmp_path / "original", dtype=dtype)
    there = convert_checkpoint(tmp_path / "original", tmp_path / "there", "transformers")
    back = convert_checkpoint(tmp_path / "there", tmp_path / "back", "original")
    assert equal(tensors, read_tensors(tmp_path / "back"))
    assert json.loads((tmp_path / "back" / "config.json").read_text()) == json.loads(
        (tmp_path / "original" / "config.json").read_text()
    )
    assert (there.source_layout, there.target_layout) == ("original", "transformers")
    assert any("attn_pool" in name for name in there.unused)
    assert back.unused == there.unused
    assert not back.absent
    assert there.parameters == sum(
        tensor.numel() for name, tensor in tensors.items() if name not in there.unused
    )


def test_conversion_from_transformers_is_bit_exact(transformers_folder, tmp_path):
    report = convert_checkpoint(transformers_folder, tmp_path / "original", "original")
    convert_checkpoint(tmp_path / "original", tmp_path / "back", "transformers")
    assert report.absent
    assert equal(read_tensors(transformers_folder), read_tensors(tmp_path / "back"))
    before, after = load_policy(transformers_folder), load_policy(tmp_path / "back")
    middle = load_policy(tmp_path / "original")
    assert torch.equal(image_codes(before), image_codes(after))
    assert torch.equal(image_codes(before), image_codes(middle))
    assert before.processor.num_image_tokens == after.processor.num_image_tokens
    assert before.processor.use_default_system_prompt == after.processor.use_default_system_prompt
    assert before.processor.chat_template == after.processor.chat_template


def test_converted_checkpoint_draws_in_plain_transformers(original_folder, tmp_path):
    convert_checkpoint(original_folder, tmp_path / "model", "transformers")
    model = JanusForConditionalGeneration.from_pretrained(tmp_path / "model")
    processor = AutoProcessor.from_pretrained(tmp_path / "model")
    assert (tmp_path / "model" / UNUSED_FILE).is_file()
    message = {"role": "user", "content": [{"type": "text", "text": "a cat"}]}
    text = processor.apply_chat_template([message], add_generation_prompt=True)
    inputs = processor(text=[text], generation_mode="image", return_tensors="pt")
    tokens = model.generate(**inputs, generation_mode="image", do_sample=False, guidance_scale=5)
    policy = load_policy(original_folder)
    ours = policy.sample_images(ImageSampling(prompts=["a cat"], temperature=0.0, guidance=5.0))
    assert torch.equal(ours[0][0].tokens, tokens[0])


def test_saved_policy_loads_in_plain_transformers(policy, tmp_path):
    policy.save_pretrained(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    model = JanusForConditionalGeneration.from_pretrained(tmp_path / "model")
    assert equal(policy.module.state_dict(), model.state_dict())
    processor = AutoProcessor.from_pretrained(tmp_path / "model")
    assert processor.chat_template == policy.processor.chat_template
    assert torch.equal(image_codes(load_policy(tmp_path / "model")), image_codes(policy))


def test_saving_again_replaces_weights_and_keeps_other_files(policy, tmp_path):
    folder = tmp_path / "model"
    policy.save_pretrained(folder)
    (folder / "README.md").write_text("kept")
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"stale")
    policy.save_pretrained(folder)
    assert (folder / "README.md").read_text() == "kept"
    assert not (folder / "model-00001-of-00002.safetensors").exists()
    assert equal(load_policy(folder).module.state_dict(), policy.module.state_dict())


def test_config_that_ties_never_replaces_a_stored_head(copied):
    """JanusConfig ties by default; a checkpoint that holds its own lm_head must keep it."""
    edit_json(copied / "config.json", tie_word_embeddings=True)
    policy = load_policy(copied)
    assert torch.equal(policy.module.lm_head.weight, read_tensors(copied)["lm_head.weight"])
    assert not policy.module.config.tie_word_embeddings


# Errors: one sentence that names the file and the fault


def refused(folder, *parts):
    with pytest.raises(ValueError) as raised:
        load_policy(folder)
    message = str(raised.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message


def without(name):
    return lambda folder: (folder / name).unlink()


def text(name, content):
    return lambda folder: (folder / name).write_text(content)


def keys(name, **changes):
    return lambda folder: edit_json(folder / name, **changes)


def tensors(change):
    def damage(folder):
        found = load_file(folder / "model.safetensors")
        change(found)
        save_file(found, folder / "model.safetensors", metadata={"format": "pt"})

    return damage


def cut(folder):
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])


def not_finite(value, dtype):
    def change(found):
        found["lm_head.weight"] = found["lm_head.weight"].to(dtype)
        found["lm_head.weight"][3, 4] = value

    return tensors(change)


@pytest.mark.parametrize(
    ("damage", "parts"),
    [
        (without("config.json"), ["has no config.json"]),
        *((text("config.json", content), ["config.json"]) for content in ("{", "[]", "{}")),
        (text("config.json", '{"model_type": "llama"}'), ["'llama'", "supported: janus, multi_modality"]),
        (without("tokenizer.json"), ["has no tokenizer.json"]),
        (text("tokenizer.json", "{"), ["tokenizer.json cannot be read"]),
        (without("model.safetensors"), ["has no weights"]),
        (cut, ["model.safetensors cannot be read"]),
        (
            tensors(lambda found: [found.pop(name) for name in sorted(found)[1:6]]),
            ["5 tensors are missing (model.aligner.fc1.", ", ...)"],
        ),
        (
            tensors(lambda found: found.update({"model.extra": torch.zeros(1)})),
            ["1 tensors are unexpected (model.extra)"],
        ),
        (
            tensors(lambda found: found.update({"lm_head.weight": torch.zeros(3, 3)})),
            ["1 tensors are different in shape from config.json (lm_head.weight)"],
        ),
        (
            tensors(lambda found: found.update({"lm_head.weight": found["lm_head.weight"].int()})),
            ["1 tensors are not floating-point numbers (lm_head.weight)"],
        ),
        (keys("config.json", image_token_id=9), ["the image token is 9, but the tokenizer says 5"]),
        (keys("processor_config.json", num_image_tokens=576), ["expects 576 tokens an image", "have 16"]),
        *(
            (
                not_finite(value, dtype),
                ["model.safetensors contains NaN or infinite weights (lm_head.weight)"],
            )
            for value, dtype in (
                (float("nan"), torch.float32),
                (float("inf"), torch.bfloat16),
                (-float("inf"), torch.float16),
            )
        ),
    ],
)
def test_damaged_checkpoints_are_refused(copied, damage, parts):
    damage(copied)
    refused(copied, *parts)


def test_missing_folder(tmp_path):
    refused(tmp_path / "nowhere", "There is no folder", "nowhere")
    refused("nowhere", "There is no folder nowhere")


def test_damaged_weights_of_the_original_layout_are_refused(tmp_path):
    folder = tmp_path / "model"
    names = sorted(save_original(folder, kind="shards"))
    file = folder / "pytorch_model-00002-of-00002.bin"
    shard = torch.load(file, weights_only=True)
    shard[names[1]].view(-1)[0] = float("nan")
    torch.save(shard, file)
    refused(folder, f"{file.name} contains NaN", names[1])
    with pytest.raises(ValueError, match="contains NaN"):
        convert_checkpoint(folder, tmp_path / "new", "transformers")
    file.unlink()
    refused(folder, file.name)


@pytest.mark.parametrize(("key", "value"), [("dtype", "int4"), ("device", "abacus")])
def test_impossible_device_or_dtype(transformers_folder, key, value):
    with pytest.raises(ValueError, match=value):
        load_policy(transformers_folder, **{key: value})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
@pytest.mark.parametrize("device", ["cuda", "cuda:7"])
def test_cuda_where_there_is_none(transformers_folder, device):
    with pytest.raises(ValueError, match=f"'{device}' was requested, but torch sees no CUDA here"):
        load_policy(transformers_folder, device=device)


@pytest.mark.parametrize("device", ["meta", "mps", "xpu"])
def test_devices_that_are_not_here(transformers_folder, device):
    with pytest.raises(ValueError, match=f"The device '{device}' cannot be used here"):
        load_policy(transformers_folder, device=device)


def test_conversion_refuses_what_it_should_not_touch(transformers_folder, tmp_path):
    with pytest.raises(ValueError, match="already has the transformers layout"):
        convert_checkpoint(transformers_folder, tmp_path / "new", "transformers")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").write_text("mine")
    with pytest.raises(ValueError, match="not an empty folder"):
        convert_checkpoint(transformers_folder, tmp_path / "full", "original")
    with pytest.raises(ValueError, match="layout 'onnx' is unknown"):
        convert_checkpoint(transformers_folder, tmp_path / "new", "onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


def test_weights_beyond_the_range_of_float16(copied):
    tensors(lambda found: found["lm_head.weight"][0, 0].fill_(70_000.0))(copied)
    with pytest.raises(ValueError, match=r"exceed float16 \(lm_head.weight\); choose another dtype"):
        load_policy(copied, device="cpu", dtype="float16")
    held = load_policy(copied, device="cpu", dtype="bfloat16").module.lm_head.weight.detach()
    assert float(held.max()) > 69_000
