"""Special ids and the vocabulary."""

from pathlib import Path

import pytest

from pairuni.policies.lumina_dimoo.ids import NAMES, TokenIds, token_ids

HERE = Path("tokenizer.json")


def vocabulary(ids: TokenIds) -> dict[str, int]:
    return {token: getattr(ids, role) for role, token in NAMES.items()}


def test_the_released_vocabulary_ends_with_the_codes():
    ids = TokenIds()
    assert ids.vocabulary == 134_548
    ids.check_vocabulary(134_548, HERE)
    ids.check_tokenizer(vocabulary(ids), HERE)
    assert token_ids({}, HERE) == ids
    assert ids.declared() == {}


@pytest.mark.parametrize("size", [134_656, 126_464])
def test_another_vocabulary_is_refused(size):
    with pytest.raises(ValueError, match=r"134,548"):
        TokenIds().check_vocabulary(size, HERE)


def test_a_tokenizer_with_other_ids_is_refused():
    ids = TokenIds()
    with pytest.raises(ValueError, match=r"<answer> the id 5 instead of 126,354"):
        ids.check_tokenizer({**vocabulary(ids), "<answer>": 5}, HERE)
    with pytest.raises(ValueError, match=r"no token <uncondition>"):
        ids.check_tokenizer({}, HERE)


def test_other_ids_are_declared_in_the_configuration():
    ids = TokenIds(
        mask=0,
        newline=1,
        end=2,
        padding=3,
        image_start=4,
        image_end=5,
        uncondition=6,
        answer_start=7,
        answer_end=8,
        codes=12,
        codebook=4,
    )
    assert token_ids({"token_ids": ids.declared()}, HERE) == ids
    assert ids.vocabulary == 16


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (["mask"], "names and numbers"),
        ({"mask": "x"}, "names and numbers"),
        ({"masks": 1}, "unknown names"),
        ({"mask": 126084}, "differ from each other"),
        ({"mask": 126356}, "below the picture codes"),
        ({"codebook": 0}, "at least 1"),
    ],
)
def test_a_bad_section_is_refused(section, message):
    with pytest.raises(ValueError, match=message):
        token_ids({"token_ids": section}, HERE)
