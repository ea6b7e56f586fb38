"""Mixtures of a donor's cell types in new proportions."""

# d donors, c cell types, k mixtures of a donor, g genes

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gtex_vae.data.single_cell.groups import Groups
from gtex_vae.errors import ConfigError

Proportions = Literal["dirichlet", "shared", "measured"] | Mapping[str, float]


def draw_proportions(
    available_dc: np.ndarray,
    cell_types: list[str],
    per_donor: int,
    *,
    proportions: Proportions = "dirichlet",
    concentration: float = 1.0,
    measured_dc: np.ndarray | None = None,
    rng: np.random.Generator,
) -> np.ndarray:
    r"""Draw the shares of the cell types in each mixture.

    .. math:: \pi_{dk} \sim \mathrm{Dirichlet}(\alpha, \ldots, \alpha)

    over the cell types that the donor has.

    Parameters
    ----------
    available_dc
        True for the cell types that a donor has.
    cell_types
        Names of the cell types.
    per_donor
        Number of mixtures per donor.
    proportions
        ``dirichlet``: drawn separately for each mixture. ``shared``: drawn once per k and used for every donor, so
        mixtures of different donors have the same composition (except for missing types). ``measured``: the donor's
        own shares. A mapping of cell types to shares: the same for every donor.
    concentration
        :math:`\alpha`: 1 is uniform over all compositions, smaller values favor single types, larger values even mixtures.
    measured_dc
        Measured shares, for ``measured``.
    rng
        Random number generator.

    Returns
    -------
    numpy.ndarray
        Float64, donors x per_donor x cell types; shares sum to 1, or are all 0 if the donor has none of the types.

    Raises
    ------
    ConfigError
        An argument is out of range, or all mixtures of a donor would be equal.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> draw_proportions(np.ones((1, 2), bool), ["B", "T"], 2, proportions="shared", rng=rng).sum(axis=2)
    array([[1., 1.]])
    """
    n_donors, n_types = available_dc.shape
    if not 0 < concentration < 1e9:
        raise ConfigError(f"concentration={concentration}: give a number above 0")
    out = np.zeros((n_donors, per_donor, n_types))
    if proportions == "dirichlet":
        for d in range(n_donors):
            own = np.flatnonzero(available_dc[d])
            if own.size and per_donor:
                out[d][:, own] = rng.dirichlet(np.full(own.size, concentration), per_donor)
        return out
    if proportions == "shared":
        out += rng.dirichlet(np.full(n_types, concentration), per_donor)
    elif per_donor > 1:
        raise ConfigError(
            f"mixtures_per_donor={per_donor}: with these proportions all mixtures of a donor would be equal; use "
            "mixtures_per_donor=1, proportions=shared or proportions=dirichlet"
        )
    elif proportions == "measured":
        assert measured_dc is not None
        out += measured_dc[:, None, :]
    elif isinstance(proportions, Mapping):
        out += _fixed(proportions, cell_types)
    else:
        raise ConfigError(
            f"proportions={proportions!r}: give dirichlet, shared, measured, or a share of each cell type"
        )
    out *= available_dc[:, None, :]
    total = out.sum(axis=2, keepdims=True)
    return np.divide(out, total, out=np.zeros_like(out), where=total > 0)


def _fixed(proportions: Mapping[str, float], cell_types: list[str]) -> np.ndarray:
    """Return the shares given by the user, in the order of the cell types."""
    unknown = [str(name) for name in proportions if name not in cell_types]
    if unknown:
        raise ConfigError(
            f"proportions: no cell type {', '.join(unknown)}; there are {', '.join(cell_types)}"
        )
    share_c = np.array([float(proportions.get(name, 0.0)) for name in cell_types])
    if not np.isfinite(share_c).all() or (share_c < 0).any() or share_c.sum() <= 0:
        raise ConfigError("proportions: give shares of at least 0, with at least one above 0")
    return share_c


def mix(share_kc: np.ndarray, sum_cg: np.ndarray, n_cells_c: np.ndarray) -> np.ndarray:
    r"""Mix cell types.

    .. math:: x_{kg} = \sum_c \pi_{kc} \frac{S_{cg}}{n_c}

    Shares count cells, so a type with large cells contributes more RNA. The measured shares reproduce the donor's sum
    up to scale.

    Parameters
    ----------
    share_kc
        Shares, mixtures x cell types.
    sum_cg
        Summed counts of the cells of each type.
    n_cells_c
        Number of cells of each type; types without cells must have a share of 0.

    Examples
    --------
    >>> mix(np.array([[0.5, 0.5]]), np.array([[10, 0], [0, 40]]), np.array([10, 20])).tolist()
    [[0.5, 1.0]]
    """
    weight_kc = np.divide(share_kc, n_cells_c, out=np.zeros_like(share_kc), where=n_cells_c > 0)
    used = np.flatnonzero(weight_kc.any(axis=0))
    return weight_kc[:, used] @ sum_cg[used].astype(np.float64)


@dataclass(frozen=True)
class Mixtures:
    """Mixtures of cell types.

    Attributes
    ----------
    kind
        ``mixture``, or ``pooled`` if the cells of all donors are mixed.
    share_kc, donor_k
        Shares of the cell types, and donor.
    x_kg
        Linear expression, up to scale.
    n_cells_k
        Number of cells of the mixed types.
    """

    kind: str
    share_kc: np.ndarray
    donor_k: np.ndarray
    x_kg: np.ndarray
    n_cells_k: np.ndarray


def mix_groups(
    groups: Groups,
    types: list[str],
    min_cells: int,
    per_donor: int,
    proportions: Proportions,
    concentration: float,
    pooled: bool,
    rng: np.random.Generator,
) -> Mixtures:
    """Draw proportions and mix the cell types of each donor, or of all donors together."""
    n_cells_dc, group_dc = groups.table(0)
    n_genes = groups.sum_sg.shape[1]
    if pooled:
        pool_cg = np.zeros((len(types), n_genes))
        for s in np.flatnonzero((groups.half_s == 0) & (groups.type_s < len(types))):
            pool_cg[groups.type_s[s]] += groups.sum_sg[s]
        pool_c = n_cells_dc.sum(axis=0)
        n_cells_dc = np.broadcast_to(pool_c, n_cells_dc.shape)
    shares_dkc = draw_proportions(
        n_cells_dc >= min_cells,
        types,
        per_donor,
        proportions=proportions,
        concentration=concentration,
        measured_dc=groups.measured_shares(),
        rng=rng,
    )
    donor_k, number_k = np.nonzero(shares_dkc.any(axis=2))
    share_kc = shares_dkc[donor_k, number_k]
    x_kg = np.zeros((len(donor_k), n_genes))
    for d in np.unique(donor_k):
        own = donor_k == d
        if pooled:
            x_kg[own] = mix(share_kc[own], pool_cg, pool_c)
            continue
        present = np.flatnonzero(group_dc[d] >= 0)
        x_kg[own] = mix(
            share_kc[own][:, present], groups.sum_sg[group_dc[d, present]], n_cells_dc[d, present]
        )
    n_cells_k = ((share_kc > 0) * n_cells_dc[donor_k]).sum(axis=1)
    return Mixtures("pooled" if pooled else "mixture", share_kc, donor_k, x_kg, n_cells_k)
