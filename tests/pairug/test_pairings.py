"""The paper's ablations of pairing: which sides meet, and how many pairs there are."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from pairuni.config import Pairing
from pairuni.pairug.dataset.pairings import (
    apply_pairing,
    least_similar,
    load_pairing,
    sample_held_out,
)
from pairuni.pairug.dataset.store import QUADRUPLES, write_pairs
from pairuni.records import Annotation, Quadruple, UGPair


def quadruple(origin: str, number: int) -> Quadruple:
    name = f"{origin[0]}{number}"
    return Quadruple(
        id=name, origin=origin, image_path=f"{name}.png", prompt=f"p {name}", question="q", answer="a"
    )


U = [quadruple("understanding", number) for number in range(40)]
G = [quadruple("generation", number) for number in range(40)]


def side(of: Quadruple) -> Annotation:
    return Annotation(**of.model_dump())


ALIGNED = [UGPair(similarity=1.0, generate_ann=side(q), understand_ann=side(q)) for q in [*U[:4], *G[:6]]]
RETRIEVED = [
    UGPair(similarity=0.7, generate_ann=side(g), understand_ann=side(u))
    for u, g in zip(U[4:24], G[6:26], strict=True)
]
PAIRS = ALIGNED + RETRIEVED


def images(pairs: list[UGPair], which: str) -> Counter[str]:
    return Counter(getattr(pair, which).image_path for pair in pairs)


def written(folder: Path, pairs: list[UGPair] = PAIRS) -> Path:
    write_pairs(folder / "pairs.jsonl", pairs)
    return folder / "pairs.jsonl"


def test_pairug_aligned_and_retrieved_are_subsets_in_order():
    assert apply_pairing(PAIRS, "pairug", seed=0) == PAIRS
    assert apply_pairing(PAIRS, "aligned", seed=0) == ALIGNED
    assert apply_pairing(PAIRS, "retrieved", seed=0) == RETRIEVED


def test_random_keeps_both_sets_of_sides_and_no_pair():
    made = apply_pairing(PAIRS, "random", seed=1)
    for which in ("generate_ann", "understand_ann"):
        assert images(made, which) == images(PAIRS, which)
    assert not {p.generate_ann.image_path + p.understand_ann.image_path for p in made} & {
        p.generate_ann.image_path + p.understand_ann.image_path for p in PAIRS
    }
    assert {p.similarity for p in made} == {1.0}
    assert made == apply_pairing(PAIRS, "random", seed=1) != apply_pairing(PAIRS, "random", seed=2)


def test_random_needs_two_pairs():
    for pairs, budget in ((PAIRS[:1], None), (PAIRS, 1)):
        with pytest.raises(ValueError, match="'random' needs two pairs or more"):
            apply_pairing(pairs, "random", seed=1, budget=budget)
    first, second = apply_pairing(PAIRS[:2], "random", seed=1)
    assert [first.generate_ann, second.generate_ann] == [PAIRS[1].generate_ann, PAIRS[0].generate_ann]


def test_unpaired_draws_each_task_from_its_own_corpus():
    made = apply_pairing(PAIRS, "unpaired", seed=1, quadruples=[*U, *G])
    assert len(made) == len(PAIRS)
    assert all(p.understand_ann.image_path[0] == "u" and p.generate_ann.image_path[0] == "g" for p in made)
    assert max(images(made, "understand_ann").values()) == max(images(made, "generate_ann").values()) == 1
    assert {p.similarity for p in made} == {1.0}
    alone = apply_pairing(PAIRS, "unpaired", seed=1)
    assert images(alone, "understand_ann") == images(PAIRS, "understand_ann")


@pytest.mark.parametrize("origin", ["understanding", "generation"])
def test_pairs_of_one_corpus_are_self_pairs_of_it(origin):
    made = apply_pairing(PAIRS, f"{origin}-only", seed=1, quadruples=[*U, *G])
    assert len(made) == len(PAIRS)
    assert all(p.generate_ann == p.understand_ann and p.kind == "aligned" for p in made)
    assert {p.generate_ann.image_path[0] for p in made} == {origin[0]}
    assert len(images(made, "generate_ann")) == len(made)


@pytest.mark.parametrize("pairing", get_args(Pairing))
def test_the_budget_is_the_same_for_all_or_an_error(pairing):
    made = apply_pairing(PAIRS, pairing, seed=3, budget=9, quadruples=[*U, *G])
    assert len(made) == 9
    assert made == apply_pairing(PAIRS, pairing, seed=3, budget=9, quadruples=[*U, *G])
    with pytest.raises(ValueError, match=rf"{pairing}' makes \d+ of 30 pairs, but the budget is 500"):
        apply_pairing(PAIRS, pairing, seed=3, budget=500, quadruples=[*U, *G])


def test_a_pairing_that_leaves_nothing_is_an_error():
    with pytest.raises(ValueError, match="'aligned' makes 0 of 20 pairs: none is of its kind"):
        apply_pairing(RETRIEVED, "aligned", seed=0)


def test_quadruples_are_read_from_beside_the_pairs(tmp_path):
    path = written(tmp_path)
    from_sides = load_pairing(path, "understanding-only", seed=0)
    assert images(from_sides, "understand_ann") == images(PAIRS, "understand_ann")
    lines = [q.model_dump_json() for q in U + G]
    (tmp_path / "quadruples.jsonl").write_text("\n".join(lines))
    from_corpus = load_pairing(path, "understanding-only", seed=0)
    assert len(from_corpus) == 30
    assert {p.understand_ann.image_path[0] for p in from_corpus} == {"u"}
    lines[2] = lines[2].replace("u2.png", "../u2.png")
    (tmp_path / "quadruples.jsonl").write_text("\n".join(lines))
    with pytest.raises(
        ValueError, match=r"quadruples\.jsonl, line 3, field image_path: '\.\./u2\.png' lies outside"
    ):
        load_pairing(path, "understanding-only", seed=0)


def test_held_out_pairs_are_the_same_whatever_the_pairing_and_never_trained_on(tmp_path):
    path = written(tmp_path)
    held = sample_held_out(path, 6, seed=4)
    assert held == [pair for pair in PAIRS if pair in held]
    assert len(held) == 6
    assert held != sample_held_out(path, 6, seed=5)
    (tmp_path / QUADRUPLES).write_text("".join(q.model_dump_json() + "\n" for q in [*U, *G]))
    unseen = {image for side in ("understand_ann", "generate_ann") for image in images(held, side)}
    assert len(unseen) > 6
    for pairing in get_args(Pairing):
        made = load_pairing(path, pairing, seed=1, held_out=held)
        assert made
        for side in ("understand_ann", "generate_ann"):
            assert unseen.isdisjoint(images(made, side)), pairing
    assert load_pairing(path, "pairug", seed=1, held_out=held) == [pair for pair in PAIRS if pair not in held]


def test_a_pair_that_repeats_a_held_out_prompt_is_not_trained_on(tmp_path):
    other = PAIRS[5].generate_ann.model_copy(update={"image_path": "another.png"})
    again = UGPair(similarity=1.0, generate_ann=other, understand_ann=other)
    path = written(tmp_path, [*PAIRS, again])
    assert load_pairing(path, "pairug", seed=1, held_out=PAIRS[5:6]) == [*PAIRS[:5], *PAIRS[6:]]


def test_what_a_file_elsewhere_holds_out_is_known_by_its_images_place(tmp_path, caplog):
    path = written(tmp_path / "train")

    def held(index: int, image_path: str) -> UGPair:
        own = PAIRS[index].generate_ann
        other = own.model_copy(update={"image_path": image_path, "prompt": "of its own"})
        return UGPair(similarity=1.0, generate_ann=other, understand_ann=other)

    def kept(pair: UGPair) -> list[UGPair]:
        return load_pairing(path, "pairug", seed=1, held_out=[pair], held_out_folder=tmp_path)

    assert kept(held(5, PAIRS[5].generate_ann.image_path)) == PAIRS, "another image of the same name"
    with caplog.at_level("INFO", logger="pairuni"):
        assert kept(held(5, f"train/{PAIRS[5].generate_ann.image_path}")) == [*PAIRS[:5], *PAIRS[6:]]
    assert "1 of 30 pairs are not trained on" in caplog.text


def test_only_what_trains_is_compared(tmp_path):
    held = RETRIEVED[0]
    unused = [  # the held-out image is not asked about, the held-out prompt not drawn
        UGPair(similarity=0.7, generate_ann=side(G[30]), understand_ann=side(U[30])),
        UGPair(
            similarity=0.7,
            generate_ann=side(G[31]).model_copy(update={"image_path": held.understand_ann.image_path}),
            understand_ann=side(U[31]).model_copy(update={"prompt": held.generate_ann.prompt}),
        ),
        UGPair(similarity=0.7, generate_ann=held.understand_ann, understand_ann=held.generate_ann),
    ]
    asked = UGPair(similarity=0.7, generate_ann=side(G[32]), understand_ann=held.understand_ann)
    drawn = UGPair(similarity=0.7, generate_ann=held.generate_ann, understand_ann=side(U[32]))
    path = written(tmp_path, [held, *unused, asked, drawn])

    def kept(**options):
        return load_pairing(path, "pairug", seed=1, held_out=[held], **options)

    assert kept() == unused
    assert kept(sides=["understanding"]) == [*unused, drawn]
    assert kept(sides=["generation"]) == [*unused, asked]


def test_samples_of_a_corpus_are_compared_where_the_pairing_puts_them(tmp_path):
    path = written(tmp_path)
    held = UGPair(similarity=0.7, generate_ann=side(G[35]), understand_ann=side(U[35]))
    twin = U[36].model_copy(update={"prompt": G[35].prompt})
    lines = [one.model_dump_json() for one in [*U[:36], twin, *U[37:], *G]]
    (tmp_path / QUADRUPLES).write_text("\n".join(lines))

    def asked(pairing):
        made = load_pairing(path, pairing, seed=1, held_out=[held], budget=38)
        return {pair.understand_ann.image_path for pair in made}

    assert "u35.png" not in asked("unpaired")
    assert "u36.png" in asked("unpaired"), "its prompt is not drawn"
    assert "u36.png" not in asked("understanding-only"), "its prompt is drawn"


@pytest.mark.parametrize(("held", "level"), [(3, "INFO"), (4, "WARNING"), (15, "WARNING")])
def test_holding_out_much_is_a_warning(tmp_path, caplog, held, level):
    with caplog.at_level("INFO", logger="pairuni"):
        load_pairing(written(tmp_path), "pairug", seed=1, held_out=PAIRS[:held], most_excluded=0.5)
    (record,) = caplog.records
    assert record.levelname == level
    assert f"{held} of 30 pairs are not trained on" in record.getMessage()


def test_holding_out_most_of_the_data_is_refused_unless_told_and_all_of_it_always(tmp_path):
    path = written(tmp_path)
    told = r"16 of 30 pairs .* 53%, more than evaluation.most_excluded allows \(50%\)"
    with pytest.raises(ValueError, match=told):
        load_pairing(path, "pairug", seed=1, held_out=PAIRS[:16], most_excluded=0.5)
    assert len(load_pairing(path, "pairug", seed=1, held_out=PAIRS[:16], most_excluded=0.6)) == 14
    with pytest.raises(ValueError, match=r"holding out 30 pairs leaves none to train on"):
        load_pairing(path, "pairug", seed=1, held_out=sample_held_out(path, 100, seed=1))


def test_low_similarity_is_the_arrangement_with_the_smallest_sum_of_cosines():
    rng = np.random.default_rng(0)
    pairs = RETRIEVED[:6]
    understanding, generation = (rng.standard_normal((6, 3)).astype(np.float32) for _ in range(2))
    made = least_similar(pairs, 5 * understanding, generation)
    u, g = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (understanding, generation))
    best = min(
        itertools.permutations(range(6)), key=lambda order: sum(u[row] @ g[order[row]] for row in range(6))
    )
    assert [one.understand_ann for one in made] == [one.understand_ann for one in pairs]
    assert [one.generate_ann for one in made] == [pairs[place].generate_ann for place in best]
    assert {one.similarity for one in made} == {1.0}
