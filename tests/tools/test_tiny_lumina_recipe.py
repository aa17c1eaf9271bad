"""The recipe of the tiny Lumina-DiMOO."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from pairuni.digits.edit_evaluation import evaluate_edits
from pairuni.digits.edits import Edit, held_out_edits
from pairuni.digits.evaluation import evaluate
from pairuni.digits.language import parse
from pairuni.digits.questions import LETTER_SUFFIX
from pairuni.digits.scenes import Scene, Thing
from pairuni.digits.world import held_out_items
from pairuni.policies import load_policy
from pairuni.policies.lumina_dimoo.model import LuminaDimoo
from tools.pretraining.lessons import Stage
from tools.tiny_lumina.card import write_card
from tools.tiny_lumina.model import CODES, embed_codes, ids_of, make_model, make_vq, texts, train_tokenizer
from tools.tiny_lumina.recipe import Recipe, pretrain
from tools.tiny_lumina.supervised import Example, Teacher, losses, masked
from tools.tiny_lumina.vq import Codebook

DESCRIBING = Stage("describing", steps=1, things=4, describe=1.0, choose=0.0, letter=1.0)
SCENE = Scene((Thing("top left", 7, "red"), Thing("bottom right", 8, "blue")))
CODES_SEEN = torch.arange(16).view(4, 4)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(texts(0))


@pytest.fixture(scope="module")
def teacher(tokenizer):
    return Teacher(tokenizer, ids_of(tokenizer))


def filled(example: Example) -> list[int]:
    ids = example.ids.clone()
    ids[example.places] = example.targets
    return ids.tolist()


def words(teacher: Teacher, ids: list[int]) -> list[str]:
    """Tokens in words; codes as numbers."""
    names = teacher.tokenizer.convert_ids_to_tokens([one for one in ids if one < teacher.ids.codes])
    texts = iter(name.replace("Ġ", "") for name in names)
    return [next(texts) if one < teacher.ids.codes else str(one - teacher.ids.codes) for one in ids]


def test_each_word_and_each_fixed_sentence_is_one_token(teacher):
    ids = teacher.prompts.question(f"which digit is red? A. six B. one {LETTER_SUFFIX}", None).ids
    assert len(ids) == 4 + 5 + 6 + 1 + 1
    assert (
        teacher.tokenizer.decode(teacher.tokenizer("bottom right. C")["input_ids"]).strip()
        == "bottom right. C"
    )


def test_a_description_ends_and_is_padded(teacher):
    example = teacher.text_example(np.random.default_rng(0), SCENE, CODES_SEEN, DESCRIBING)
    canvas = words(teacher, filled(example))[-26:]
    padding = 12 * " <|reserved_1|>"
    said = f"<answer> a red seven top left and a blue eight bottom right <|endoftext|>{padding} </answer>"
    assert " ".join(canvas) == said


def test_masks_cover_only_the_answer(teacher):
    ids = teacher.ids
    for seed in range(20):
        example = teacher.text_example(np.random.default_rng(seed), SCENE, CODES_SEEN, DESCRIBING)
        assert (example.ids == ids.mask).nonzero().squeeze(1).tolist() == sorted(example.places.tolist())
        assert example.places.min() > len(example.ids) - 26
        assert sum(example.counts) == len(example.places)
        assert (example.targets == ids.padding).sum() == example.counts[1]


def test_a_drawing_is_rows_of_codes(teacher):
    request = parse("a red seven")
    found = [teacher.drawing_example(np.random.default_rng(seed), request, CODES_SEEN) for seed in range(60)]
    line = "<|reserved_0|>"
    picture = f"0 1 2 3 {line} 4 5 6 7 {line} 8 9 10 11 {line} 12 13 14 15 {line}"
    seen = [words(teacher, filled(example)) for example in found]
    assert all(" ".join(one[-24:]) == f"<answer> <IMAGE> {picture} </IMAGE> </answer>" for one in seen)
    prompts = {" ".join(one[4:-25]) for one in seen}
    assert prompts == {"a red seven", "<uncondition>"}


def test_an_edit_shows_the_source_in_the_prompt_and_the_target_on_the_canvas(teacher):
    after = Scene((Thing("top left", 7, "green"), Thing("bottom right", 8, "blue")))
    edit = Edit("recolour", SCENE, after, "make the red seven green")
    example = teacher.edit_example(np.random.default_rng(1), edit, CODES_SEEN, CODES_SEEN + 20)
    seen = " ".join(words(teacher, filled(example)))
    line = "<|reserved_0|>"
    source = f"0 1 2 3 {line} 4 5 6 7 {line} 8 9 10 11 {line} 12 13 14 15 {line}"
    target = f"20 21 22 23 {line} 24 25 26 27 {line} 28 29 30 31 {line} 32 33 34 35 {line}"
    assert seen.endswith(
        f"<user> make the red seven green <IMAGE> {source} </IMAGE> </user> "
        f"<answer> <IMAGE> {target} </IMAGE> </answer>"
    )


def test_masked_shares_follow_the_cosine_schedule():
    rng = np.random.default_rng(0)
    drawn = [masked(rng, 100) for _ in range(2000)]
    assert min(map(len, drawn)) >= 1
    assert np.mean([len(one) for one in drawn]) == pytest.approx(100 * 2 / np.pi, abs=2)
    assert len(set(drawn[0].tolist())) == len(drawn[0])
    assert len(masked(rng, 0)) == 0


def test_the_losses_are_those_of_single_rows(teacher):
    torch.manual_seed(0)
    core = LuminaDimoo(make_model(teacher.ids), teacher.ids)
    rng = np.random.default_rng(3)
    texts = [teacher.text_example(rng, SCENE, CODES_SEEN, DESCRIBING) for _ in range(3)]
    pictures = [teacher.drawing_example(rng, parse("a seven"), CODES_SEEN) for _ in range(2)]

    def scores(example: Example, head: torch.Tensor, first: int) -> torch.Tensor:
        states = core.states([example.ids], [example.places])
        return cross_entropy(states @ head.T, example.targets - first, reduction="none")

    with torch.no_grad():
        found = losses(core, texts, pictures)
        everything = core.model.lm_head.weight.clone()
        everything[teacher.ids.mask] = 0
        read = [scores(one, everything, 0) for one in texts]
        drawn = [scores(one, everything[teacher.ids.codes :], teacher.ids.codes) for one in pictures]
    content = torch.cat([one[: text.counts[0]] for one, text in zip(read, texts, strict=True)])
    padding = torch.cat([one[text.counts[0] :] for one, text in zip(read, texts, strict=True)])
    assert found[0].item() == pytest.approx(content.mean().item(), abs=3e-3)
    assert found[1].item() == pytest.approx(padding.mean().item(), abs=3e-3)
    assert found[2].item() == pytest.approx(torch.cat(drawn).mean().item(), abs=1e-4)


def test_codes_with_similar_vectors_begin_alike(teacher):
    torch.manual_seed(0)
    vq, model = make_vq(), make_model(teacher.ids)
    with torch.no_grad():
        vq.quantize.embedding.weight.normal_()
        vq.quantize.embedding.weight[1] = vq.quantize.embedding.weight[0]
        vq.quantize.embedding.weight[2] = -vq.quantize.embedding.weight[0]
    embed_codes(model, teacher.ids, vq)
    rows = model.model.embed_tokens.weight[teacher.ids.codes :]
    assert len(rows) == CODES
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(rows[0], rows[1], dim=0) > 0.3 > -0.3 > cosine(rows[0], rows[2], dim=0)


def test_a_codebook_moves_to_its_vectors_and_revives_dead_codes():
    codebook = Codebook(torch.tensor([[0.0, 0.0], [10.0, 10.0], [90.0, 90.0]]), seed=0)
    vectors = torch.tensor([[1.0, 0.0], [1.0, 0.0], [10.0, 12.0], [10.0, 12.0]])
    ids = codebook.nearest(vectors)
    assert ids.tolist() == [0, 0, 1, 1]
    for _ in range(400):
        codebook.update(vectors, ids, revive=False)
    assert codebook.weight[:2].numpy() == pytest.approx(np.array([[1.0, 0.0], [10.0, 12.0]]), abs=0.01)
    assert codebook.used == pytest.approx(2 / 3)
    codebook.update(vectors, ids, revive=True)
    assert codebook.weight[2].tolist() in vectors.tolist()


@pytest.fixture(scope="module")
def recipe():
    stages = (
        Stage("words", steps=2, things=2, describe=0.7, choose=0.0, letter=1.0),
        Stage("options", steps=2, things=4, describe=0.2, choose=0.6, letter=0.7),
    )
    return Recipe(vq_steps=12, vq_batch=2, bank=24, edit_bank=8, batch=2, edits=1, stages=stages)


def test_a_recipe_makes_a_checkpoint_and_resumes(tmp_path: Path, recipe):
    steps: list[tuple[str, int]] = []

    def report(stage: str, step: int, total: int, figures: dict[str, float]) -> None:
        steps.append((stage, step))

    out = tmp_path / "tiny"
    pretrain(out, recipe, report)
    trained = [("vq", step) for step in range(12)]
    written = [("words", 0), ("words", 1), ("options", 2), ("options", 3)]
    assert steps == [*trained, ("bank", 0), ("edits", 0), *written]
    first = (out / "model.safetensors").read_bytes()
    assert sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) < 16 << 20

    steps.clear()
    (tmp_path / "tiny-stages" / "model.safetensors").unlink()
    (tmp_path / "tiny-stages" / "model-options.safetensors").unlink()
    pretrain(out, recipe, report)
    assert steps == [("bank", 0), ("edits", 0), *written[2:]]

    steps.clear()
    pretrain(out, recipe, report)
    assert steps == []

    policy = load_policy(out, dtype="float32")
    assert (policy.config.image_size, policy.config.answer_length) == (32, 8)
    evaluation = evaluate(policy, held_out_items(0, 3), guidance=2.0, seed=0)
    edits = evaluate_edits(policy, held_out_edits(0, 4), guidance=2.0, image_guidance=1.0, seed=0)
    write_card(out, policy, recipe, evaluation, edits)
    assert "| understanding | 0.0% |" in (out / "README.md").read_text()
    assert len(first) == (out / "model.safetensors").stat().st_size
    assert evaluation.generation[0].image.size == (32, 32)
