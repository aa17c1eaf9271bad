import torch

from pairuni.training.seeding import derive_seed, random_state, set_random_state, shuffled_indices


def test_each_epoch_meets_every_item_once_in_a_new_order() -> None:
    stream = shuffled_indices(10, start=0, number=30, seed=4)
    epochs = [stream[start : start + 10] for start in (0, 10, 20)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert stream != shuffled_indices(10, start=0, number=30, seed=5)


def test_any_window_is_the_same_stream() -> None:
    stream = shuffled_indices(7, start=0, number=60, seed=1)
    for start, number in ((0, 1), (6, 2), (5, 30), (14, 7), (59, 1)):
        assert shuffled_indices(7, start=start, number=number, seed=1) == stream[start : start + number]


def test_derived_seeds_differ() -> None:
    seeds = {derive_seed(a, b, c) for a in range(5) for b in range(20) for c in range(3)}
    assert len(seeds) == 5 * 20 * 3


def test_random_state_round_trip() -> None:
    state = random_state()
    first = torch.rand(3)
    set_random_state(state)
    assert torch.equal(torch.rand(3), first)
