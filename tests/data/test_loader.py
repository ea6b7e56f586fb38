"""The loader: every sample once an epoch, in an order of the seed and the epoch alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gtex_vae.data.loader import Batch, BatchLoader


def loader(n: int = 23, batch_size: int = 4, **more: object) -> BatchLoader:
    """Over rows 100, 101, ...; the value of a row is its number."""
    rows = torch.arange(100, 100 + n)
    arguments = {"batch_size": batch_size, "shuffle": True, "seed": 5, **more}
    return BatchLoader(torch.arange(300.0)[:, None], rows, **arguments)  # type: ignore[arg-type]


def at(epochs: int, batches: int) -> Callable[[], tuple[int, int]]:
    """Training stands after so many epochs and batches."""
    return lambda: (epochs, batches)


def epoch(batches: BatchLoader) -> list[int]:
    return [int(row) for batch in batches for row in batch.row_n]


@settings(max_examples=80)
@given(n=st.integers(2, 60), batch_size=st.integers(2, 20), epochs=st.integers(1, 3))
def test_an_epoch_is_a_permutation_without_its_incomplete_batch(n: int, batch_size: int, epochs: int) -> None:
    batches = loader(n, batch_size)
    for _ in range(epochs):
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
        assert torch.equal(batch.x_ng[:, 0], batch.row_n.float())
        assert len(batch.row_n) == 4


def test_epochs_and_seeds_differ_and_the_same_seed_repeats() -> None:
    first, second = (epoch(loader(200, 10, progress=at(e, 0))) for e in (0, 1))
    assert first != second
    assert sorted(first) == sorted(second)
    assert epoch(loader(200, 10, seed=6)) != first
    torch.randn(7)  # whatever else is drawn
    again = loader(200, 10, progress=at(1, 0))
    assert [epoch(again), epoch(again)] == [second, second]


def test_incomplete_batches_leave_out_other_samples_each_epoch() -> None:
    left_out = {
        frozenset(range(100, 123)) - frozenset(epoch(loader(progress=at(e, 0)))) for e in range(6)
    }
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
        if shuffle:
            # as many batches everywhere, or the processes would wait for each other for ever
            assert len({len(list(rank)) for rank in ranks}) == 1
            if n // world_size >= batch_size:
                assert n - len(together) < world_size * batch_size
        else:
            assert sorted(together) == list(range(100, 100 + n))


@settings(max_examples=60)
@given(n=st.integers(4, 40), batch_size=st.integers(2, 4), e=st.integers(0, 5), done=st.integers(0, 20))
def test_from_any_batch_it_gives_the_rest_of_the_epoch(n: int, batch_size: int, e: int, done: int) -> None:
    whole = epoch(loader(n, batch_size, progress=at(e, 0)))
    assert epoch(loader(n, batch_size, progress=at(e, done))) == whole[done * batch_size :]


def test_where_training_stands_is_asked_for_when_the_first_batch_is() -> None:
    """Lightning makes the iterator before it knows which epoch it goes on with."""
    now = [(0, 0)]
    batches = loader(progress=lambda: now[0])
    iterator = iter(batches)
    now[0] = (3, 2)
    rows = [int(row) for batch in iterator for row in batch.row_n]
    assert rows == epoch(loader(progress=at(3, 0)))[8:]


def test_validation_is_whole_whatever_training_does() -> None:
    assert epoch(loader(shuffle=False, progress=at(3, 2))) == list(range(100, 123))
