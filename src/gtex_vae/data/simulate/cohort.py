"""Donors, tissues and technical annotations of the simulated samples."""

from __future__ import annotations

import numpy as np
import pandas as pd

CODE_LETTERS = np.array(list("0123456789ABCDEFGHJKLMNPQRSTUVWXYZ"))
# cultured cells have no ischemic time and are not mixed with other cell types
CULTURED = ("Cells - Cultured fibroblasts", "Cells - EBV-transformed lymphocytes")

# tissue group (SMTS), detail (SMTSD), relative frequency, sex if only one has it
TISSUES: tuple[tuple[str, str, int, str], ...] = (
    ("Adipose Tissue", "Adipose - Subcutaneous", 66, ""),
    ("Adipose Tissue", "Adipose - Visceral (Omentum)", 54, ""),
    ("Adrenal Gland", "Adrenal Gland", 26, ""),
    ("Blood", "Cells - EBV-transformed lymphocytes", 17, ""),
    ("Blood", "Whole Blood", 75, ""),
    ("Blood Vessel", "Artery - Aorta", 43, ""),
    ("Blood Vessel", "Artery - Coronary", 24, ""),
    ("Blood Vessel", "Artery - Tibial", 66, ""),
    ("Brain", "Brain - Amygdala", 15, ""),
    ("Brain", "Brain - Anterior cingulate cortex (BA24)", 18, ""),
    ("Brain", "Brain - Caudate (basal ganglia)", 25, ""),
    ("Brain", "Brain - Cerebellar Hemisphere", 22, ""),
    ("Brain", "Brain - Cerebellum", 24, ""),
    ("Brain", "Brain - Cortex", 25, ""),
    ("Brain", "Brain - Frontal Cortex (BA9)", 21, ""),
    ("Brain", "Brain - Hippocampus", 20, ""),
    ("Brain", "Brain - Hypothalamus", 20, ""),
    ("Brain", "Brain - Nucleus accumbens (basal ganglia)", 25, ""),
    ("Brain", "Brain - Putamen (basal ganglia)", 21, ""),
    ("Brain", "Brain - Spinal cord (cervical c-1)", 16, ""),
    ("Brain", "Brain - Substantia nigra", 14, ""),
    ("Breast", "Breast - Mammary Tissue", 46, ""),
    ("Colon", "Colon - Sigmoid", 37, ""),
    ("Colon", "Colon - Transverse", 41, ""),
    ("Esophagus", "Esophagus - Gastroesophageal Junction", 38, ""),
    ("Esophagus", "Esophagus - Mucosa", 56, ""),
    ("Esophagus", "Esophagus - Muscularis", 52, ""),
    ("Heart", "Heart - Atrial Appendage", 43, ""),
    ("Heart", "Heart - Left Ventricle", 43, ""),
    ("Kidney", "Kidney - Cortex", 9, ""),
    ("Liver", "Liver", 23, ""),
    ("Lung", "Lung", 58, ""),
    ("Muscle", "Muscle - Skeletal", 80, ""),
    ("Nerve", "Nerve - Tibial", 62, ""),
    ("Ovary", "Ovary", 18, "F"),
    ("Pancreas", "Pancreas", 33, ""),
    ("Pituitary", "Pituitary", 28, ""),
    ("Prostate", "Prostate", 25, "M"),
    ("Salivary Gland", "Minor Salivary Gland", 16, ""),
    ("Skin", "Cells - Cultured fibroblasts", 50, ""),
    ("Skin", "Skin - Not Sun Exposed (Suprapubic)", 60, ""),
    ("Skin", "Skin - Sun Exposed (Lower leg)", 70, ""),
    ("Small Intestine", "Small Intestine - Terminal Ileum", 19, ""),
    ("Spleen", "Spleen", 24, ""),
    ("Stomach", "Stomach", 36, ""),
    ("Testis", "Testis", 36, "M"),
    ("Thyroid", "Thyroid", 65, ""),
    ("Uterus", "Uterus", 14, "F"),
    ("Vagina", "Vagina", 16, "F"),
)
GROUPS = tuple(dict.fromkeys(group for group, *_ in TISSUES))
DETAILS = tuple(detail for _, detail, *_ in TISSUES)
GROUP_OF_DETAIL = np.array([GROUPS.index(group) for group, *_ in TISSUES])
# number of tissues that donors of both sexes have
TISSUES_OF_ANYONE = sum(sex == "" for *_, sex in TISSUES)


def simulate_cohort(n_samples: int, n_donors: int, rng: np.random.Generator) -> pd.DataFrame:
    """Draw donors, their tissues and the technical annotations of every sample.

    Parameters
    ----------
    n_samples
        Number of samples; each is a different pair of donor and tissue.
    n_donors
        Number of donors; each has at least one sample.
    rng
        Random number generator.

    Returns
    -------
    pandas.DataFrame
        One row per sample, index the sample id. ``donor``, ``tissue``, ``tissue_group``, ``sex``,
        ``age`` (bracket), ``hardy`` (DTHHRDY, 0-4, some missing), ``ischemic_time`` (SMTSISCH, minutes),
        ``rin`` (SMRIN), ``batch`` (SMGEBTCH), ``truth_age`` (years, exact).
    """
    donors = _draw_donors(n_donors, rng)
    donor_of, tissue_of = _draw_tissues(n_samples, donors["sex"].to_numpy(), rng)
    obs = donors.iloc[donor_of].reset_index(drop=True)
    obs["tissue"] = pd.Categorical(np.array(DETAILS)[tissue_of])
    obs["tissue_group"] = pd.Categorical(np.array(GROUPS)[GROUP_OF_DETAIL[tissue_of]])

    tissue_delay = rng.normal(0.0, 0.25, len(DETAILS))[tissue_of]
    minutes = obs.pop("delay") * np.exp(tissue_delay + rng.normal(0.0, 0.15, n_samples))
    cultured = obs["tissue"].isin(CULTURED).to_numpy()
    obs["ischemic_time"] = np.where(cultured, 0.0, np.round(minutes))
    tissue_rin = rng.normal(7.2, 0.5, len(DETAILS))[tissue_of]
    lost = 0.9 * obs["ischemic_time"] / 1000.0 + 0.2 * (obs["hardy"] == 4)
    rin = np.where(cultured, 9.3, tissue_rin - lost) + rng.normal(0.0, 0.5, n_samples)
    obs["rin"] = np.round(np.clip(rin, 5.0, 10.0), 1)

    # plates follow the order of enrolment; some samples are delayed to a later plate
    order = np.argsort(donor_of + rng.exponential(0.05 * n_donors, n_samples))
    plate = np.empty(n_samples, dtype=int)
    plate[order] = np.arange(n_samples) // 96
    plates = 1000 + np.sort(rng.choice(9000, plate.max() + 1, replace=False))
    obs["batch"] = pd.Categorical([f"LCSET-{number}" for number in plates[plate]])

    slot = obs.groupby("donor", observed=True).cumcount() + 1
    aliquots = _codes(n_samples, 5, rng)
    donor = obs["donor"].astype(str)
    obs.index = pd.Index(
        [f"{who}-{site:02d}26-SM-{code}" for who, site, code in zip(donor, slot, aliquots, strict=True)],
        name="sample",
    )
    first = ["donor", "tissue", "tissue_group", "sex", "age", "hardy", "ischemic_time", "rin", "batch"]
    # as in GTEx, DTHHRDY is missing for a few donors; its value still affects RIN above
    unknown = donor.isin(rng.choice(donor.unique(), max(1, n_donors // 60), replace=False))
    obs.loc[unknown.to_numpy(), "hardy"] = np.nan
    return obs[[*first, "truth_age"]]


def _draw_donors(n_donors: int, rng: np.random.Generator) -> pd.DataFrame:
    """Draw sex, age, type of death and typical ischemic delay of each donor."""
    age = np.clip(70.5 - rng.gamma(2.2, 7.5, n_donors), 20.0, 70.9)
    decade = (age // 10 * 10).astype(int)
    hardy = rng.choice(5, n_donors, p=[0.52, 0.05, 0.24, 0.06, 0.13])
    # ventilator cases (0) have short delays, the others wait for a coroner
    delay = np.where(hardy == 0, rng.lognormal(4.6, 0.6, n_donors), rng.lognormal(6.4, 0.4, n_donors))
    return pd.DataFrame(
        {
            "donor": pd.Categorical([f"GTEX-{code}" for code in _codes(n_donors, 5, rng)]),
            "sex": pd.Categorical(rng.choice(["F", "M"], n_donors, p=[0.34, 0.66]), categories=["F", "M"]),
            "age": pd.Categorical([f"{start}-{start + 9}" for start in decade]),
            "hardy": hardy.astype(float),
            "delay": np.clip(delay, 10.0, 1700.0),
            "truth_age": age,
        }
    )


def _draw_tissues(n_samples: int, sex: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw donor and tissue of every sample: the pairs with the largest Gumbel scores."""
    weight = np.log([frequency for *_, frequency, _ in TISSUES])
    generosity = rng.normal(0.0, 0.5, len(sex))
    score = weight[None, :] + generosity[:, None] + rng.gumbel(size=(len(sex), len(TISSUES)))
    only = np.array([sex_only for *_, sex_only in TISSUES])
    score[(only[None, :] != "") & (only[None, :] != sex[:, None])] = -np.inf
    # every donor has at least the tissue with the best score
    score[np.arange(len(sex)), score.argmax(axis=1)] = np.inf
    chosen = np.sort(np.argsort(-score, axis=None, kind="stable")[:n_samples])
    donor_of, tissue_of = np.divmod(chosen, len(TISSUES))
    return donor_of, tissue_of


def _codes(n: int, length: int, rng: np.random.Generator) -> list[str]:
    """Draw ``n`` unique codes such as ``1A7KX``."""
    numbers = rng.choice(len(CODE_LETTERS) ** length, n, replace=False, shuffle=True)
    digits = numbers[:, None] // len(CODE_LETTERS) ** np.arange(length) % len(CODE_LETTERS)
    return ["".join(row) for row in CODE_LETTERS[digits]]
