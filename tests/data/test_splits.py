"""Splits: no donor in two of them, every sample in one, tissues as balanced as whole donors permit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gtex_vae.data.simulate.cohort import simulate_cohort
from gtex_vae.data.splits import SPLITS, check_split, read_splits, split_samples
from gtex_vae.errors import SplitError


@st.composite
def cohorts(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    """Donors and tissues of a few dozen samples; a donor may give a tissue twice."""
    donors = draw(st.lists(st.integers(0, 25), min_size=12, max_size=120))
    tissues = draw(st.lists(st.sampled_from("abcdef"), min_size=len(donors), max_size=len(donors)))
    assume(len(set(donors)) >= 8)
    return [f"donor {d}" for d in donors], tissues


def gtex_like(seed: int = 0) -> pd.DataFrame:
    return simulate_cohort(3000, 250, np.random.default_rng(seed))


def imbalance(split: np.ndarray, tissue: pd.Series, test: float) -> float:
    """Root mean square over tissues of the held-out share's distance from its target."""
    share = pd.Series(split == "test").groupby(tissue.to_numpy(), observed=True).mean()
    return float(np.sqrt(((share - test) ** 2).mean()))


@given(cohort=cohorts(), val=st.floats(0.1, 0.3), test=st.floats(0.1, 0.3), seed=st.integers(0, 1000))
def test_no_donor_is_in_two_splits_and_every_sample_is_in_one(
    cohort: tuple[list[str], list[str]], val: float, test: float, seed: int
) -> None:
    donor, tissue = cohort
    try:
        split = split_samples(donor, tissue, val=val, test=test, seed=seed)
    except SplitError:  # a few donors with nearly all samples
        assume(False)
    assert len(split) == len(donor)
    assert set(split) == set(SPLITS)
    assert pd.Series(split).groupby(donor).nunique().max() == 1


@given(cohort=cohorts(), seed=st.integers(0, 1000))
def test_a_sample_too_many_in_a_split_is_never_more_than_one_donor(
    cohort: tuple[list[str], list[str]], seed: int
) -> None:
    """With one tissue, each donor goes where most is missing, so a split ends at most one donor above its target."""
    donor, _ = cohort
    try:
        split = split_samples(donor, ["all"] * len(donor), val=0.2, test=0.2, seed=seed)
    except SplitError:
        assume(False)
    largest = pd.Series(donor).value_counts().max()
    for name, fraction in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
        assert (split == name).sum() <= fraction * len(donor) + largest


@pytest.mark.parametrize(("val", "test"), [(0.1, 0.2), (0.2, 0.1), (0.05, 0.05), (0.3, 0.4)])
def test_fractions_on_a_cohort_like_gtex(val: float, test: float) -> None:
    obs = gtex_like()
    split = split_samples(obs["donor"], obs["tissue"], val=val, test=test)
    assert (split == "val").mean() == pytest.approx(val, abs=0.01)
    assert (split == "test").mean() == pytest.approx(test, abs=0.01)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("n_donors", "n_samples"), [(8, 40), (10, 60), (20, 120), (40, 240)])
def test_few_donors_of_many_tissues_still_fill_every_split(n_donors: int, n_samples: int, seed: int) -> None:
    obs = simulate_cohort(n_samples, n_donors, np.random.default_rng(seed))
    split = split_samples(obs["donor"], obs["tissue"], val=0.1, test=0.2, seed=seed)
    largest = obs["donor"].value_counts().max() / n_samples
    assert 0.05 <= (split == "val").mean() <= 0.1 + largest
    assert 0.1 <= (split == "test").mean() <= 0.2 + largest


def test_tissues_are_better_balanced_than_by_random_donors() -> None:
    obs = gtex_like()
    donors = obs["donor"].unique()
    rng = np.random.default_rng(0)
    by_chance = []
    for _ in range(20):
        held_out = rng.choice(donors, len(donors) // 5, replace=False)
        random_split = np.where(obs["donor"].isin(held_out), "test", "train")
        by_chance.append(imbalance(random_split, obs["tissue"], 0.2))
    for seed in range(3):
        split = split_samples(obs["donor"], obs["tissue"], val=0.1, test=0.2, seed=seed)
        assert imbalance(split, obs["tissue"], 0.2) < 0.6 * min(by_chance)


def test_the_seed_decides_and_nothing_else() -> None:
    obs = gtex_like()
    np.random.seed(1)  # noqa: NPY002
    first = split_samples(obs["donor"], obs["tissue"], seed=3)
    np.random.seed(2)  # noqa: NPY002
    again = split_samples(list(obs["donor"]), obs["tissue"].astype(str).to_numpy(), seed=3)
    other = split_samples(obs["donor"], obs["tissue"], seed=4)
    assert (first == again).all()
    assert (first != other).mean() > 0.1


def test_names_of_donors_and_tissues_do_not_matter() -> None:
    obs = gtex_like()
    renamed = obs["tissue"].astype(str).map({t: f"t{i}" for i, t in enumerate(obs["tissue"].unique())})
    first = split_samples(obs["donor"], obs["tissue"], seed=3)
    assert (first == split_samples("x" + obs["donor"].astype(str), renamed, seed=3)).all()


def test_missing_tissues_are_a_tissue_of_their_own() -> None:
    donor = [f"d{i // 2}" for i in range(60)]
    tissue = ["lung" if i % 2 else None for i in range(60)]
    split = split_samples(donor, tissue)  # type: ignore[arg-type]
    assert set(split) == set(SPLITS)


def test_by_sample_donors_may_leak_but_only_when_asked_for() -> None:
    obs = gtex_like()
    split = split_samples(obs["donor"], obs["tissue"], by="sample")
    assert pd.Series(split).groupby(obs["donor"].to_numpy()).nunique().max() > 1
    assert imbalance(split, obs["tissue"], 0.2) < 0.05
    with pytest.raises(
        SplitError, match=r"is in more than one split .* move all samples of a donor to one split"
    ):
        check_split(split, obs["donor"], by="donor")
    check_split(split, obs["donor"], by="sample")


def test_by_sample_needs_no_donors() -> None:
    split = split_samples([None] * 30, ["lung"] * 30, by="sample")  # type: ignore[list-item]
    assert set(split) == set(SPLITS)


@pytest.mark.parametrize(
    ("val", "test"), [(0.0, 0.2), (0.2, 0.0), (0.6, 0.4), (-0.1, 0.2), (1.2, 0.2), (float("nan"), 0.2)]
)
def test_impossible_fractions(val: float, test: float) -> None:
    with pytest.raises(SplitError, match=r"data.val=.* and data.test="):
        split_samples(["a", "b", "c", "d"], ["lung"] * 4, val=val, test=test)


def test_too_few_donors_and_missing_donors() -> None:
    with pytest.raises(SplitError, match=r"2 donor\(s\) cannot fill three splits"):
        split_samples(["a", "a", "b"], ["lung"] * 3)
    with pytest.raises(SplitError, match=r"1 samples have no donor.*data.prepare.annotations=") as refused:
        split_samples(["a", None, "b", "c"], ["lung"] * 4)  # type: ignore[list-item]
    assert "split_by" not in str(refused.value)  # the sample may be of donor a
    with pytest.raises(SplitError, match=r"3 samples have no donor.*if every sample.*data.split_by=sample"):
        split_samples([None] * 3, ["lung"] * 3)  # type: ignore[list-item]
    with pytest.raises(SplitError, match=r"the (val|test) split is empty: too few donors"):
        split_samples(["a"] * 50 + ["b"] * 50 + ["c"] * 50, ["lung"] * 150, val=0.01, test=0.01)


# --- a splits.csv of the user's own


def write(path: Path, rows: list[tuple[str, str]], header: str = "sample,split") -> Path:
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    return path


ROWS = [("s1", "train"), ("s2", "val"), ("s3", "test"), ("s4", "train")]


def test_splits_are_read_in_the_order_of_the_samples(tmp_path: Path) -> None:
    path = write(tmp_path / "splits.csv", ROWS)
    assert read_splits(path, ["s3", "s4", "s1", "s2"]).tolist() == ["test", "train", "train", "val"]
    # samples that the matrix does not have are none of its business
    assert read_splits(path, ["s2"]).tolist() == ["val"]


def test_numbers_as_sample_ids_keep_their_zeros(tmp_path: Path) -> None:
    path = write(tmp_path / "splits.csv", [("001", "train"), ("1", "test")])
    assert read_splits(path, ["1", "001"]).tolist() == ["test", "train"]


def test_a_runs_own_splits_csv_is_accepted(tmp_path: Path) -> None:
    rows = [(sample, f"donor of {sample},{split}") for sample, split in ROWS]
    path = write(tmp_path / "splits.csv", rows, header="sample,donor,split")
    assert read_splits(path, ["s1", "s2"]).tolist() == ["train", "val"]


def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path: Path) -> None:
    (tmp_path / "splits.csv").write_text("sample,split\ns1,val\n", encoding="utf-8-sig")
    assert read_splits(tmp_path / "splits.csv", ["s1"]).tolist() == ["val"]


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (ROWS, "id,split", "has no column 'sample', only id, split"),
        (ROWS, "sample,part", "has no column 'split', only sample, part"),
        ([*ROWS, ("s5", "training")], "sample,split", r"split \['training'\] is not one of train, val, test"),
        ([*ROWS, ("s5", "")], "sample,split", "split missing is not one of"),
        ([*ROWS, ("s2", "val")], "sample,split", "lists sample s2 twice"),
        (ROWS[1:], "sample,split", "has no row for 1 samples of the matrix, such as s1"),
        ([*ROWS, ("a", "b,c,d")], "sample,split", "cannot be read: .* line 6, saw 4"),
    ],
)
def test_mistakes_in_splits_csv(
    tmp_path: Path, rows: list[tuple[str, str]], header: str, message: str
) -> None:
    with pytest.raises(SplitError, match=message) as error:
        read_splits(write(tmp_path / "splits.csv", rows, header), ["s1", "s2", "s3", "s4"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00sample", b'sample,split\n"s1,train\n'])
def test_splits_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "splits.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SplitError, match=r"cannot be read|has no column|s1 among them|missing"):
        read_splits(path, ["s1"])


def test_a_users_split_must_be_whole_and_by_donor() -> None:
    donor = ["a", "a", "b", "c"]
    check_split(np.array(["train", "train", "val", "test"]), donor, by="donor")
    with pytest.raises(SplitError, match=r"donor a is in more than one split \(1 such donors\)"):
        check_split(np.array(["train", "val", "val", "test"]), donor, by="donor")
    with pytest.raises(SplitError, match=r"the val split is empty"):
        check_split(np.array(["train", "train", "train", "test"]), donor, by="donor")
