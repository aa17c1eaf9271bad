"""What a conversion keeps besides weights: tokenizer, special tokens, conversation format, configuration."""

import copy
import json
import shutil

import pytest
from checkpoints import edit_json as edit
from checkpoints import save_original
from transformers import AutoProcessor

from pairuni.policies import load_policy
from pairuni.policies.janus.convert import convert_checkpoint
from pairuni.policies.janus.original_config import config_to_original, config_to_transformers
from pairuni.policies.janus.tokenizer import KEPT_FILE
from reference.original_janus import JANUS_PRO_1B, JANUS_PRO_7B
from tiny_models import BOS, EOS, PAD, save_tiny_janus


@pytest.fixture(scope="module")
def original_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original") / "model"
    save_original(folder)
    # as the files of older libraries have it, and spaced as no library writes it
    tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, indent=7), encoding="utf-8")
    return folder


@pytest.fixture
def original(original_folder, tmp_path):
    return shutil.copytree(original_folder, tmp_path / "original")


def there_and_back(folder, tmp_path):
    convert_checkpoint(folder, tmp_path / "there", "transformers")
    convert_checkpoint(tmp_path / "there", tmp_path / "back", "original")
    return tmp_path / "there", tmp_path / "back"


def read(path):
    return json.loads(path.read_text("utf-8"))


# The tokenizer


@pytest.mark.parametrize("trained", [False, True])
def test_the_tokenizer_comes_back_byte_for_byte(original, tmp_path, trained):
    if trained:
        load_policy(original).save_pretrained(tmp_path / "there")
    else:
        convert_checkpoint(original, tmp_path / "there", "transformers")
    convert_checkpoint(tmp_path / "there", tmp_path / "back", "original")
    assert (tmp_path / "back" / "tokenizer.json").read_bytes() == (original / "tokenizer.json").read_bytes()


def test_a_tokenizer_that_adds_bos_itself_stays_as_it_is(tmp_path):
    folder = save_tiny_janus(tmp_path / "model")
    tokenizer = json.dumps(read(folder / "tokenizer.json"), indent=3).encode()
    (folder / "tokenizer.json").write_bytes(tokenizer)
    load_policy(folder).save_pretrained(tmp_path / "final")
    convert_checkpoint(folder, tmp_path / "original", "original")
    for saved in ("final", "original"):
        assert (tmp_path / saved / "tokenizer.json").read_bytes() == tokenizer
    assert AutoProcessor.from_pretrained(tmp_path / "final").tokenizer("a")["input_ids"][0] == 0


def test_a_kept_tokenizer_of_another_model_is_refused(original, tmp_path):
    convert_checkpoint(original, tmp_path / "there", "transformers")
    kept = tmp_path / "there" / KEPT_FILE
    kept.write_text(kept.read_text("utf-8").replace("<|User|>", "<|Visitor|>"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"original_tokenizer\.json has another vocabulary"):
        convert_checkpoint(tmp_path / "there", tmp_path / "back", "original")


# Special tokens


def test_special_tokens_survive_a_round_trip(original, tmp_path):
    extra = ["<image_placeholder>", "<|User|>", "<|Assistant|>"]
    edit(original / "special_tokens_map.json", additional_special_tokens=extra)
    there, back = there_and_back(original, tmp_path)
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        found = read(back / name)
        assert found["additional_special_tokens"] == extra
        assert (found["bos_token"], found["eos_token"], found["pad_token"]) == (BOS, EOS, EOS)
    assert read(back / "tokenizer_config.json")["unk_token"] is None
    policy = load_policy(there)
    assert policy.processor.tokenizer.pad_token == EOS
    assert policy.prompts.pad == policy.processor.tokenizer.convert_tokens_to_ids(PAD)
    assert read(there / "generation_config.json")["pad_token_id"] == policy.prompts.pad


@pytest.mark.parametrize("form", ["text", "object"])
def test_special_tokens_named_in_one_file_only(original, tmp_path, form):
    """special_tokens_map.json is read where tokenizer_config.json is silent."""
    tokens = {"bos_token": BOS, "eos_token": EOS, "pad_token": PAD, "unk_token": EOS}
    if form == "object":
        tokens = {role: {"content": token, "lstrip": False} for role, token in tokens.items()}
    (original / "tokenizer_config.json").write_text("{}")
    listed = ["<|User|>", {"content": "<|Assistant|>"}] if form == "object" else ["<|User|>", "<|Assistant|>"]
    edit(original / "special_tokens_map.json", **tokens, additional_special_tokens=listed)
    tokenizer = load_policy(original).processor.tokenizer
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (BOS, EOS, PAD)
    assert tokenizer.unk_token == EOS
    assert [str(token) for token in tokenizer.extra_special_tokens] == ["<|User|>", "<|Assistant|>"]
    _, back = there_and_back(original, tmp_path)
    assert read(back / "tokenizer_config.json")["unk_token"] == EOS


def test_precedence_of_special_tokens(original):
    """special_tokens_map.json is read last, unless tokenizer_config.json lists the added tokens."""
    edit(original / "tokenizer_config.json", pad_token=PAD)
    assert load_policy(original).processor.tokenizer.pad_token == EOS
    edit(original / "tokenizer_config.json", added_tokens_decoder={})
    assert load_policy(original).processor.tokenizer.pad_token == PAD


def test_text_config_has_the_ids_of_the_tokenizer(original, tmp_path):
    convert_checkpoint(original, tmp_path / "there", "transformers")
    text = read(tmp_path / "there" / "config.json")["text_config"]
    assert (text["bos_token_id"], text["eos_token_id"], text["pad_token_id"]) == (0, 1, 2)
    config = load_policy(original).module.config.text_config
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (0, 1, 2)


def test_image_tokens_of_other_names(original, tmp_path):
    for path in (original / "tokenizer.json", original / "processor_config.json"):
        path.write_text(path.read_text("utf-8").replace("<image_placeholder>", "<picture>"), encoding="utf-8")
    text = (original / "tokenizer.json").read_text("utf-8").replace("<begin_of_image>", "<canvas>")
    (original / "tokenizer.json").write_text(text, encoding="utf-8")
    edit(original / "processor_config.json", image_start_tag="<canvas>")
    policy = load_policy(original)
    prompt = policy.processor.tokenizer.decode(policy.prompts.understanding("why?", images=1))
    assert "<|User|>: <canvas>" + "<picture>" * 16 + "<end_of_image>\nwhy?" in prompt
    there, back = there_and_back(original, tmp_path)
    for folder in (there, back):
        again = load_policy(folder).prompts.understanding("why?", images=1)
        assert again.tolist() == policy.prompts.understanding("why?", images=1).tolist()


# The conversation


@pytest.mark.parametrize(
    ("name", "roles"),
    [
        ("deepseek_old", ("User", "Assistant")),
        ("deepseek", ("<|User|>", "<|Assistant|>")),
        (None, ("<|User|>", "<|Assistant|>")),
    ],
)
def test_the_conversation_format_is_read_and_written_back(original, tmp_path, name, roles):
    edit(original / "processor_config.json", sft_format=name)
    there, back = there_and_back(original, tmp_path)
    expected = f"{BOS}{roles[0]}: a cat\n\n{roles[1]}:<begin_of_image>"
    for folder in (original, there, back):
        policy = load_policy(folder)
        assert policy.processor.tokenizer.decode(policy.prompts.generation("a cat")) == expected
    assert read(back / "processor_config.json")["sft_format"] == (name or "deepseek")
    policy.save_pretrained(tmp_path / "final")
    plain = AutoProcessor.from_pretrained(tmp_path / "final")
    message = {"role": "user", "content": [{"type": "text", "text": "a cat"}]}
    text = plain.apply_chat_template([message], add_generation_prompt=True, tokenize=False)
    ids = plain(text=[text], generation_mode="image", return_tensors="pt")["input_ids"][0]
    assert plain.tokenizer.decode(ids) == expected


@pytest.mark.parametrize("name", ["plain", "llava_llama2", "alignment", "chatml"])
def test_other_conversation_formats_are_refused_by_name(original, name):
    edit(original / "processor_config.json", sft_format=name)
    with pytest.raises(ValueError, match=rf"processor_config.json has the sft_format '{name}'; supported"):
        load_policy(original)


def test_a_stray_chat_template_does_not_override_the_format(original):
    """The original code reads no chat template, so one of the language model may have been left there."""
    edit(original / "tokenizer_config.json", chat_template="{{ messages[0]['content'] }} Assistant:")
    edit(original / "processor_config.json", sft_format="deepseek_old")
    policy = load_policy(original)
    assert policy.processor.tokenizer.decode(policy.prompts.generation("a")).startswith(f"{BOS}User: a\n\n")


def test_the_original_layout_cannot_store_another_template(tmp_path):
    folder = save_tiny_janus(tmp_path / "model")
    (folder / "chat_template.jinja").write_text(
        "{% for part in messages[0]['content'] %}"
        "{{ '<image_placeholder>' if part['type'] == 'image' else part['text'] }}{% endfor %}"
    )
    load_policy(folder)
    with pytest.raises(ValueError, match="none of the original's conversation formats"):
        convert_checkpoint(folder, tmp_path / "new", "original")
    assert not (tmp_path / "new").exists()


# config.json


def changed(config, section, **values):
    config = copy.deepcopy(config)
    (config[section] if section == "language_config" else config[section]["params"]).update(values)
    return config


@pytest.mark.parametrize(
    "values", [{"hidden_act": "gelu"}, {"attention_dropout": 0.1}, {"rope_theta": 5e5}, {"head_dim": 64}]
)
def test_settings_of_the_language_model_come_back(values):
    config = changed(JANUS_PRO_1B, "language_config", **values)
    back = config_to_original(config_to_transformers(config, image_token_id=9))
    assert {key: back["language_config"][key] for key in values} == values


@pytest.mark.parametrize(
    ("select", "layers"), [(None, 23), (-2, 23), (-1, 24), (-5, 20), (7, 7), (99, 24), (0, 24)]
)
def test_depth_of_the_vision_tower_is_that_of_the_original(select, layers):
    config = copy.deepcopy(JANUS_PRO_7B)
    if select is None:
        del config["vision_config"]["params"]["select_layer"]
    else:
        config["vision_config"]["params"]["select_layer"] = select
    converted = config_to_transformers(config, image_token_id=9)
    assert converted.vision_config.num_hidden_layers == layers
    back = config_to_original(converted)
    params = back["vision_config"]["params"]
    assert "layers" not in params  # which the original code does not read
    assert params["select_layer"] == layers - 24 - 1
    assert config_to_transformers(back, image_token_id=9).to_dict() == converted.to_dict()


def test_the_original_s_other_defaults():
    config = copy.deepcopy(JANUS_PRO_7B)
    for key in ("image_size", "model_name"):
        del config["vision_config"]["params"][key]
    vision = config_to_transformers(config, image_token_id=9).vision_config
    assert (vision.image_size, vision.hidden_size) == (336, 1024)


@pytest.mark.parametrize(
    "values",
    [
        {"pixel_mean": [0.48, 0.46, 0.41], "pixel_std": [0.27, 0.26, 0.28]},
        {"pixel_mean": [0, 0, 0], "pixel_std": [2, 1, 1]},
        {"ignore_head": False},
        {"select_layer": -30},
    ],
)
def test_towers_that_transformers_does_not_support_are_refused(values):
    config = changed(JANUS_PRO_1B, "vision_config", **values)
    with pytest.raises(ValueError, match=r"^config\.json "):
        config_to_transformers(config, image_token_id=9)


@pytest.mark.parametrize(
    "values",
    [{"pixel_mean": [0.5, 0.5, 0.5]}, {"pixel_mean": [0, 0, 0], "pixel_std": [1, 1, 1]}],
)
def test_pixel_statistics_without_effect_are_accepted(values):
    """The original normalises in the tower only where both are given."""
    plain = config_to_transformers(JANUS_PRO_1B, image_token_id=9)
    config = changed(JANUS_PRO_1B, "vision_config", **values)
    assert config_to_transformers(config, image_token_id=9).to_dict() == plain.to_dict()


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("vision_config", "hidden_act", "gelu_pytorch_tanh"),
        ("vision_config", "use_qk_norm", True),
        ("vision_config", "attention_bias", False),
        ("vision_config", "layer_norm_eps", 1e-5),
        ("vision_config", "num_channels", 4),
        ("vq_config", "hidden_act", "relu"),
        ("vq_config", "double_latent", True),
        ("vq_config", "out_channels", 4),
    ],
)
def test_settings_that_the_original_layout_cannot_store_are_refused(part, key, value):
    config = config_to_transformers(JANUS_PRO_1B, image_token_id=9)
    config_to_original(config)
    setattr(getattr(config, part), key, value)
    with pytest.raises(ValueError, match=rf"cannot store {part}\.{key} = {value!r}"):
        config_to_original(config)


# Unsupported models

JANUSFLOW = {
    "model_type": "multi_modality",
    "language_config": {"model_type": "llama"},
    "vision_und_enc_config": {"cls": "CLIPVisionTower", "params": {}},
    "vision_gen_enc_config": {"cls": "ShallowUViTEncoder", "params": {}},
    "vision_gen_dec_config": {"cls": "ShallowUViTDecoder", "params": {}},
}
DEEPSEEK_VL = {
    "model_type": "multi_modality",
    "language_config": {"model_type": "llama"},
    "vision_config": {"cls": "HybridVisionTower", "params": {}},
    "aligner_config": {"cls": "MlpProjector", "params": {}},
}


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (JANUSFLOW, "JanusFlow"),
        (DEEPSEEK_VL, "DeepSeek-VL"),
        ({"model_type": "deepseek_vl"}, "DeepSeek-VL"),
        ({"model_type": "deepseek_vl_hybrid"}, "DeepSeek-VL"),
        ({"model_type": "deepseek_vl_v2"}, "DeepSeek-VL2"),
    ],
)
def test_unsupported_models_are_refused_by_name(tmp_path, config, name):
    (tmp_path / "config.json").write_text(json.dumps(config))
    for use in (load_policy, lambda folder: convert_checkpoint(folder, tmp_path / "new", "transformers")):
        with pytest.raises(ValueError, match=rf"config.json is {name}, which cannot be trained here"):
            use(tmp_path)


@pytest.mark.parametrize(
    ("hub", "name"),
    [
        ("deepseek-ai/JanusFlow-1.3B", "JanusFlow"),
        ("deepseek-ai/deepseek-vl-7b-chat", "DeepSeek-VL"),
        ("deepseek-ai/deepseek-vl2-tiny", "DeepSeek-VL2"),
    ],
)
def test_unsupported_models_are_refused_before_a_download(hub, name):
    with pytest.raises(ValueError, match=rf"{hub} is {name}, which cannot be trained here"):
        load_policy(hub)
