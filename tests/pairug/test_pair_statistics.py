"""Counts of a pair file, on pairs that can be counted by hand."""

from __future__ import annotations

from pairuni.pairug.dataset.statistics import pair_statistics
from pairuni.records import Annotation, UGPair

CHOICE = "which? A. one B. two C. three"


def side(image: str, question: str = "what?", answer: str = "cat", **keys: str) -> Annotation:
    return Annotation(image_path=image, prompt="p", question=question, answer=answer, **keys)


def test_counts_by_hand():
    medoid = side("m.png", CHOICE, "C", tag="math", origin="generation")
    pairs = [
        UGPair(similarity=1.0, generate_ann=medoid, understand_ann=medoid),
        UGPair(
            similarity=0.61,
            generate_ann=side("g1.png", tag="math"),
            understand_ann=side("u1.png", CHOICE, "B"),
        ),
        UGPair(similarity=0.8, generate_ann=side("g2.png"), understand_ann=side("u2.png", "grade?", "A")),
        UGPair(similarity=0.8, generate_ann=side("g3.png"), understand_ann=side("u3.png", CHOICE, "B")),
    ]
    counted = pair_statistics(pairs)
    assert counted["pairs"] == 4
    assert counted["kinds"] == {"retrieved": 3, "aligned": 1}
    assert counted["aligned_origins"] == {"generation": 1}
    assert counted["tags"] == {"generation": {"math": 2, "": 2}, "understanding": {"": 3, "math": 1}}
    assert counted["distinct_images"] == 7
    assert counted["answer_letters"] == {"generation": {"C": 1}, "understanding": {"B": 2, "C": 1}}
    similarity = counted["retrieved_similarity"]
    assert (similarity["quantiles"]["0"], similarity["quantiles"]["0.5"], similarity["mean"]) == (
        0.61,
        0.8,
        0.7367,
    )
    assert [row for row, count in enumerate(similarity["histogram"]) if count] == [12, 16]
    assert (len(similarity["histogram"]), len(similarity["edges"])) == (20, 21)


def test_a_file_without_retrieved_pairs_has_no_quantiles():
    alone = UGPair(similarity=1.0, generate_ann=side("a.png"), understand_ann=side("a.png"))
    similarity = pair_statistics([alone])["retrieved_similarity"]
    assert (similarity["quantiles"], similarity["mean"], sum(similarity["histogram"])) == ({}, None, 0)
    assert pair_statistics([alone])["aligned_origins"] == {"unknown": 1}
