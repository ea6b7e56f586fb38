"""Loader of a matrix in memory: every sample once per epoch, in an order that depends only on seed and epoch."""

from __future__ import annotations

import itertools

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gtex_vae.data.loading.memory import Batch, BatchLoader


def loader(n: int = 23, batch_size: int = 4, **more: object) -> BatchLoader:
    """Over rows 100, 101, ...; the value of a row is its number."""
    rows = torch.arange(100, 100 + n)
    arguments = {"batch_size": batch_size, "shuffle": True, "seed": 5, **more}
    return BatchLoader(torch.arange(300.0)[:, None], rows, **arguments)  # type: ignore[arg-type]


class Training:
    """What a trainer would say of itself: epochs over, and batches of the present one."""

    def __init__(self, epochs: int = 0, batches: int = 0) -> None:
        self.epochs, self.batches = epochs, batches

    def __call__(self) -> tuple[int, int]:
        return self.epochs, self.batches

    def run(self, batches: BatchLoader, steps: int) -> list[list[int]]:
        """Rows of each of the next steps."""
        seen: list[list[int]] = []
        while len(seen) < steps:
            for batch in batches:
                seen.append(batch.row_n.tolist())
                self.batches += 1
                if len(seen) == steps:
                    break
            if self.batches == len(batches):
                self.epochs, self.batches = self.epochs + 1, 0
        return seen


def epoch(batches: BatchLoader) -> list[int]:
    return [int(row) for batch in batches for row in batch.row_n]


@settings(max_examples=80)
@given(n=st.integers(2, 60), batch_size=st.integers(2, 20), epochs=st.integers(1, 3))
def test_an_epoch_is_a_permutation_without_its_incomplete_batch(n: int, batch_size: int, epochs: int) -> None:
    for number in range(epochs):
        batches = loader(n, batch_size, progress=Training(number))
        seen = epoch(batches)
        assert len(set(seen)) == len(seen)
        assert set(seen) <= set(range(100, 100 + n))
        if n >= batch_size:
            assert len(seen) == n - n % batch_size
            assert len(batches) == n // batch_size


@settings(max_examples=80)
@given(n=st.integers(1, 60), batch_size=st.integers(1, 20))
def test_without_shuffling_all_rows_come_in_order_every_time(n: int, batch_size: int) -> None:
    batches = loader(n, batch_size, shuffle=False)
    for _ in range(2):
        assert epoch(batches) == list(range(100, 100 + n))
    assert len(list(batches)) == len(batches)


def test_batches_hold_the_rows_that_they_name() -> None:
    for batch in loader():
        assert isinstance(batch, Batch)
        assert torch.equal(batch.x_nf[:, 0], batch.row_n.float())
        assert len(batch.row_n) == 4


def of_epoch(number: int, n: int = 200, batch_size: int = 10, **more: object) -> list[int]:
    return epoch(loader(n, batch_size, progress=Training(number), **more))


def test_epochs_and_seeds_differ_and_the_same_seed_repeats() -> None:
    first, second = of_epoch(0), of_epoch(1)
    assert first != second
    assert sorted(first) == sorted(second)
    assert of_epoch(0, seed=6) != first
    torch.randn(7)  # whatever else is drawn
    assert [of_epoch(1), of_epoch(0)] == [second, first]


def test_incomplete_batches_leave_out_other_samples_each_epoch() -> None:
    left_out = {frozenset(range(100, 123)) - frozenset(of_epoch(e, 23, 4)) for e in range(6)}
    assert len(left_out) > 3


@settings(max_examples=80)
@given(
    n=st.integers(8, 60), batch_size=st.integers(2, 4), world_size=st.integers(1, 4), shuffle=st.booleans()
)
def test_ranks_are_disjoint_and_cover(n: int, batch_size: int, world_size: int, shuffle: bool) -> None:
    ranks = [loader(n, batch_size, shuffle=shuffle, rank=r, world_size=world_size) for r in range(world_size)]
    for _ in range(2):
        seen = [epoch(rank) for rank in ranks]
        together = list(itertools.chain(*seen))
        assert len(set(together)) == len(together)
        # as many batches everywhere, or the processes would wait for each other for ever; and none without samples
        assert len({len(list(rank)) for rank in ranks}) == 1
        assert all(len(batch.row_n) for rank in ranks for batch in rank)
        if shuffle:
            if n // world_size >= batch_size:
                assert n - len(together) < world_size * batch_size
        else:
            assert sorted(together) == list(range(100, 100 + n))


@settings(max_examples=60)
@given(n=st.integers(4, 40), batch_size=st.integers(2, 6), steps=st.integers(0, 30))
def test_restored_at_any_batch_it_goes_on_as_if_never_interrupted(
    n: int, batch_size: int, steps: int
) -> None:
    uninterrupted = Training()
    expected = uninterrupted.run(loader(n, batch_size, progress=uninterrupted), steps + 25)
    killed = Training()
    assert killed.run(loader(n, batch_size, progress=killed), steps) == expected[:steps]
    # a new process: nothing is left but what the trainer's checkpoint says of itself
    restored = Training(*killed())
    assert restored.run(loader(n, batch_size, progress=restored), 25) == expected[steps:]


def test_at_the_end_of_an_epoch_the_next_one_begins() -> None:
    training = Training()
    batches = loader(progress=training)
    training.run(batches, len(batches))
    assert training() == (1, 0)
    second = epoch(batches)
    assert len(second) == 20
    assert second == of_epoch(1, 23, 4)


def test_in_the_middle_only_the_rest_of_the_epoch_comes() -> None:
    assert epoch(loader(progress=Training(2, 3))) == of_epoch(2, 23, 4)[12:]


def test_without_shuffling_progress_does_not_matter() -> None:
    assert epoch(loader(shuffle=False, progress=Training(2, 3))) == list(range(100, 123))
