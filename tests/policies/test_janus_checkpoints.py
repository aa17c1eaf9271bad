"""Both layouts load, convert without loss, and say in one sentence what is wrong with them."""

import json
import shutil

import pytest
import torch
from checkpoints import save_original
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor, JanusForConditionalGeneration

from pairuni.policies import load_policy
from pairuni.policies.janus.convert import UNUSED_FILE, convert_checkpoint
from pairuni.policies.janus.loading import read_tensors
from pairuni.policies.policy import ImageSampling
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


def drawn(policy):
    return policy.sample_images(ImageSampling(prompts=["a cat"], guidance=5.0))[0][0].tokens


def test_transformers_layout_loads_as_transformers_does(transformers_folder):
    policy = load_policy(transformers_folder)
    plain = JanusForConditionalGeneration.from_pretrained(transformers_folder)
    assert equal(policy.module.state_dict(), plain.state_dict())
    assert not policy.module.training
    assert policy.name == str(transformers_folder)


@pytest.mark.parametrize("kind", ["bin", "shards", "safetensors"])
def test_original_layout_loads(tmp_path, kind, pictures):
    tensors = save_original(tmp_path / "model", kind=kind)
    policy = load_policy(tmp_path / "model")
    pixels = policy.pixel_values(pictures)
    expected = siglip(tensors, pixels, heads=2, patch=8)
    with torch.no_grad():
        states = policy.module.model.vision_model(pixels).last_hidden_state
    torch.testing.assert_close(states, expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(policy.module.lm_head.weight, tensors["language_model.lm_head.weight"])
    assert policy.module.lm_head.weight is not policy.module.get_input_embeddings().weight
    assert policy.prompts.pad == policy.processor.tokenizer.convert_tokens_to_ids(PAD)
    prompt = policy.processor.tokenizer.decode(policy.prompts.generation("a cat"))
    assert prompt == "<｜begin▁of▁sentence｜><|User|>: a cat\n\n<|Assistant|>:<begin_of_image>"
    assert len(drawn(policy)) == 16


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
    assert torch.equal(drawn(before), drawn(after))
    assert torch.equal(drawn(before), drawn(middle))
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
    assert torch.equal(drawn(load_policy(tmp_path / "model")), drawn(policy))


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
    config = json.loads((copied / "config.json").read_text())
    config["tie_word_embeddings"] = True
    (copied / "config.json").write_text(json.dumps(config))
    policy = load_policy(copied)
    assert torch.equal(policy.module.lm_head.weight, read_tensors(copied)["lm_head.weight"])
    assert not policy.module.config.tie_word_embeddings


# What is wrong is said in one sentence


def refused(folder, *parts):
    with pytest.raises(ValueError) as raised:
        load_policy(folder)
    message = str(raised.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message


def test_missing_folder(tmp_path):
    refused(tmp_path / "nowhere", "There is no folder", "nowhere")
    refused("nowhere", "There is no folder nowhere")


def test_missing_configuration(tmp_path):
    refused(tmp_path, "has no config.json")


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_damaged_configuration(copied, content):
    (copied / "config.json").write_text(content)
    refused(copied, "config.json")


def test_unsupported_model(copied):
    (copied / "config.json").write_text('{"model_type": "llama"}')
    refused(copied, "'llama'", "supported: janus, multi_modality")


def test_missing_tokenizer(copied):
    (copied / "tokenizer.json").unlink()
    refused(copied, "has no tokenizer.json")


def test_damaged_tokenizer(copied):
    (copied / "tokenizer.json").write_text("{")
    refused(copied, "tokenizer.json cannot be read")


def test_missing_weights(copied):
    (copied / "model.safetensors").unlink()
    refused(copied, "has no weights")


def test_damaged_weights(copied):
    (copied / "model.safetensors").write_bytes((copied / "model.safetensors").read_bytes()[:1000])
    refused(copied, "model.safetensors cannot be read")


def test_missing_shard(tmp_path):
    save_original(tmp_path / "model", kind="shards")
    (tmp_path / "model" / "pytorch_model-00002-of-00002.bin").unlink()
    refused(tmp_path / "model", "pytorch_model-00002-of-00002.bin")


def test_pickled_code_is_refused(tmp_path):
    save_original(tmp_path / "model")
    torch.save({"hook": shutil.rmtree}, tmp_path / "model" / "pytorch_model.bin")
    refused(tmp_path / "model", "pytorch_model.bin cannot be read as plain tensors")


def change(folder, edit):
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_missing_tensors(copied):
    change(copied, lambda tensors: [tensors.pop(name) for name in sorted(tensors)[1:6]])
    refused(copied, "5 tensors are missing (model.aligner.fc1.", ", ...)")


def test_unexpected_tensors(copied):
    change(copied, lambda tensors: tensors.update({"model.extra": torch.zeros(1)}))
    refused(copied, "1 tensors are unexpected (model.extra)")


def test_misshaped_tensors(copied):
    change(copied, lambda tensors: tensors.update({"lm_head.weight": torch.zeros(3, 3)}))
    refused(copied, "1 tensors are of another shape than config.json says (lm_head.weight)")


def test_tokenizer_of_another_checkpoint(copied):
    config = json.loads((copied / "config.json").read_text())
    config["image_token_id"] = 9
    (copied / "config.json").write_text(json.dumps(config))
    refused(copied, "the image token is 9, but the tokenizer says 5")


def test_wrong_number_of_image_tokens(copied):
    settings = json.loads((copied / "processor_config.json").read_text())
    settings["num_image_tokens"] = 576
    (copied / "processor_config.json").write_text(json.dumps(settings))
    refused(copied, "expects 576 tokens an image", "have 16")


@pytest.mark.parametrize(("key", "value"), [("dtype", "int4"), ("device", "abacus")])
def test_impossible_device_or_dtype(transformers_folder, key, value):
    with pytest.raises(ValueError, match=value):
        load_policy(transformers_folder, **{key: value})


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


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7"])
def test_cuda_where_there_is_none(transformers_folder, device):
    with pytest.raises(ValueError, match=f"'{device}' was requested, but torch sees no CUDA here"):
        load_policy(transformers_folder, device=device)


@pytest.mark.parametrize("device", ["meta", "mps", "xpu"])
def test_other_devices_that_are_not_here(transformers_folder, device):
    with pytest.raises(ValueError, match=f"The device '{device}' cannot be used here"):
        load_policy(transformers_folder, device=device)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_that_are_no_numbers(copied, value, dtype):
    def spoil(tensors):
        tensors["lm_head.weight"] = tensors["lm_head.weight"].to(dtype)
        tensors["lm_head.weight"][3, 4] = value

    change(copied, spoil)
    refused(copied, "model.safetensors holds NaN or infinite weights (lm_head.weight)")


def test_weights_that_are_no_numbers_in_the_original_layout(tmp_path):
    tensors = save_original(tmp_path / "model", kind="shards")
    name = sorted(tensors)[1]
    file = tmp_path / "model" / "pytorch_model-00002-of-00002.bin"
    shard = torch.load(file, weights_only=True)
    shard[name].view(-1)[0] = float("nan")
    torch.save(shard, file)
    refused(tmp_path / "model", "pytorch_model-00002-of-00002.bin holds NaN", name)
    with pytest.raises(ValueError, match="holds NaN"):
        convert_checkpoint(tmp_path / "model", tmp_path / "new", "transformers")


def test_weights_that_float16_does_not_hold(copied):
    change(copied, lambda tensors: tensors["lm_head.weight"][0, 0].fill_(70_000.0))
    with pytest.raises(ValueError, match=r"exceed float16 \(lm_head.weight\); choose another dtype"):
        load_policy(copied, device="cpu", dtype="float16")
    assert (
        float(load_policy(copied, device="cpu", dtype="bfloat16").module.lm_head.weight.detach().max())
        > 69_000
    )


def test_weights_of_whole_numbers(copied):
    change(copied, lambda tensors: tensors.update({"lm_head.weight": tensors["lm_head.weight"].int()}))
    refused(copied, "1 tensors are not floating-point numbers (lm_head.weight)")
