"""New mixtures of cell types: a donor's own cells, put together in other proportions."""

# d donors, c cell types, k mixtures of a donor, g genes

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

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

    over the cell types that the donor has. (What is left of a Dirichlet without some of its parts is a Dirichlet of
    the others.)

    Parameters
    ----------
    available_dc
        Which cell types each donor has.
    cell_types
        Their names.
    per_donor
        Mixtures of each donor.
    proportions
        ``dirichlet``: drawn anew for each mixture. ``shared``: drawn once per k and used for every donor, so that
        mixtures of different donors match in composition (but for the types a donor has not). ``measured``: the
        donor's own. A mapping of cell types to shares: these, for every donor.
    concentration
        :math:`\alpha`: 1 is uniform over all compositions, less favours single types, more the even mixture.
    measured_dc
        Shares of the cells, for ``measured``.
    rng
        Source of randomness.

    Returns
    -------
    numpy.ndarray
        Float64, donors x per_donor x cell types; each sums to 1, or is all 0 where the donor has none of the types.

    Raises
    ------
    ConfigError
        An argument is out of range, or the mixtures of a donor would all be the same.

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
            f"mixtures_per_donor={per_donor}: with these proportions all would be the same; give 1, or shared or "
            "dirichlet proportions"
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
    """Shares that the user gave, in the order of the cell types."""
    unknown = [str(name) for name in proportions if name not in cell_types]
    if unknown:
        raise ConfigError(
            f"proportions: no cell type {', '.join(unknown)}; there are {', '.join(cell_types)}"
        )
    share_c = np.array([float(proportions.get(name, 0.0)) for name in cell_types])
    if not np.isfinite(share_c).all() or (share_c < 0).any() or share_c.sum() <= 0:
        raise ConfigError("proportions: give shares of 0 or more, at least one of them above 0")
    return share_c


def mix(share_kc: np.ndarray, sum_cg: np.ndarray, n_cells_c: np.ndarray) -> np.ndarray:
    r"""Put cell types together.

    .. math:: x_{kg} = \sum_c \pi_{kc} \frac{S_{cg}}{n_c}

    The shares are shares of cells, so a type of large cells gives more RNA; the measured shares of all cells give back
    the donor's sum, but for the scale.

    Parameters
    ----------
    share_kc
        Shares, mixtures x cell types.
    sum_cg
        Counts of all cells of each type.
    n_cells_c
        Number of these cells; types without any must have a share of 0.

    Examples
    --------
    >>> mix(np.array([[0.5, 0.5]]), np.array([[10, 0], [0, 40]]), np.array([10, 20])).tolist()
    [[0.5, 1.0]]
    """
    weight_kc = np.divide(share_kc, n_cells_c, out=np.zeros_like(share_kc), where=n_cells_c > 0)
    used = np.flatnonzero(weight_kc.any(axis=0))
    return weight_kc[:, used] @ sum_cg[used].astype(np.float64)
