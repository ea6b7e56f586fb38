"""Contrastive terms added to the ELBO: two views of one sample, or samples of one label from different donors.

Shapes: ``n`` samples, ``g`` genes, ``d`` latent dimensions, ``p`` dimensions of a projection.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from gtex_vae.errors import ConfigError, DataError
from gtex_vae.functional import contrastive_losses as losses
from gtex_vae.functional.masking import draw_observed, hide
from gtex_vae.models.storage import read_part, write_part
from gtex_vae.nn.projection_head import ProjectionHead

if TYPE_CHECKING:
    import pandas as pd

    from gtex_vae.models.vae import VAE

HEAD_FORMAT, HEAD = 1, "projection.json"


class ContrastiveTerm(nn.Module):
    """Base class of contrastive terms: weights, projection head and temperature.

    Parameters
    ----------
    latent_dim
        Dimensions d of the embedding.
    weight, elbo_weight
        The loss is ``elbo_weight`` times the negative ELBO per gene plus ``weight`` times this term in nats. With
        ``elbo_weight=0`` the term trains the encoder alone, and the decoder learns nothing.
    projection
        Layer widths of the head between embedding and loss, the last layer linear; empty: no head.
    temperature
        Initial temperature.
    learn_temperature
        Train the logarithm of the temperature.

    Attributes
    ----------
    views
        True if the term makes further views of the samples' genes.

    Raises
    ------
    ConfigError
        A value is out of range.
    """

    views = False

    def __init__(
        self,
        latent_dim: int,
        *,
        weight: float,
        elbo_weight: float,
        projection: Sequence[int],
        temperature: float,
        learn_temperature: bool,
    ) -> None:
        super().__init__()
        for key, value in (("weight", weight), ("elbo_weight", elbo_weight)):
            if value < 0.0:
                raise ConfigError(f"contrastive.{key}={value} must not be negative")
        if not 1.0 / losses.LARGEST_SCALE <= temperature <= 100.0:
            raise ConfigError(f"contrastive.temperature={temperature} must be between 0.01 and 100")
        self.weight, self.elbo_weight = weight, elbo_weight
        self.latent_dim, self.projection = latent_dim, list(projection)
        self.head = ProjectionHead(latent_dim, projection)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)), requires_grad=learn_temperature)

    def look_up(self, obs: pd.DataFrame) -> None:
        """Read what the term needs from the annotations of all samples; does nothing by default."""

    def save_head(self, folder: Path) -> None:
        """Write the head if there is one; see `load_head`."""
        if self.projection:
            description = {
                "format": HEAD_FORMAT,
                "latent_dim": self.latent_dim,
                "projection": self.projection,
            }
            write_part(folder, HEAD, description, self.head.state_dict())

    def forward(self, vae: VAE, x_ng: Tensor, mu_nd: Tensor, row_n: Tensor) -> Tensor:
        """Evaluate the term on one batch, with randomness from the global generator.

        Parameters
        ----------
        vae
            VAE that encodes further views.
        x_ng
            Standardized expression without masking; used only by terms with ``views``.
        mu_nd
            Posterior means of the batch from the masked input, as in the ELBO.
        row_n
            Row of each sample in the full matrix.

        Returns
        -------
        Tensor
            Scalar, nats.
        """
        raise NotImplementedError


class ViewContrast(ContrastiveTerm):
    """Contrastive term in which two views of a sample attract each other.

    The first view is the pass of the ELBO, masked by ``callbacks.masking``; the second has its own mask and added
    noise. Only the first updates the running statistics of batch norms, so that the term does not change how whole
    samples are normalized in evaluation.

    Parameters
    ----------
    loss
        ``nt_xent``: other samples of the batch are negatives. ``vicreg``: no negatives; variance and covariance keep
        the embedding from collapsing.
    hidden
        Fraction of entries hidden in the second view.
    noise
        Standard deviation of the second view's noise, standardized units.
    latent_dim, weight, elbo_weight, projection, temperature, learn_temperature
        See `ContrastiveTerm`.

    References
    ----------
    Chen et al. (2020), SimCLR; Bardes, Ponce and LeCun (2022), VICReg.
    """

    views = True

    def __init__(
        self,
        latent_dim: int,
        *,
        loss: Literal["nt_xent", "vicreg"] = "nt_xent",
        hidden: float = 0.2,
        noise: float = 0.1,
        weight: float = 0.05,
        elbo_weight: float = 1.0,
        projection: Sequence[int] = (128, 64),
        temperature: float = 0.2,
        learn_temperature: bool = False,
    ) -> None:
        super().__init__(
            latent_dim,
            weight=weight,
            elbo_weight=elbo_weight,
            projection=projection,
            temperature=temperature,
            learn_temperature=learn_temperature,
        )
        if not 0.0 <= hidden < 1.0 or noise < 0.0:
            raise ConfigError(
                f"contrastive: hidden={hidden} must be in [0, 1) and noise={noise} must not be negative"
            )
        self.loss, self.hidden, self.noise = loss, hidden, noise

    def forward(self, vae: VAE, x_ng: Tensor, mu_nd: Tensor, row_n: Tensor) -> Tensor:
        """See `ContrastiveTerm.forward`."""
        view_ng = hide(x_ng + self.noise * torch.randn_like(x_ng), draw_observed(x_ng, self.hidden))
        with frozen_running_statistics(vae):
            view_nd = vae.encode_features(vae.project(view_ng))[0]
        u_np, v_np = self.head(mu_nd), self.head(view_nd)
        if self.loss == "vicreg":
            return losses.vicreg(u_np, v_np)
        both_np = torch.cat([u_np, v_np])
        return losses.nt_xent(losses.clamped_scale(self.log_scale) * losses.similarity(both_np, both_np))


class LabelContrast(ContrastiveTerm):
    """Contrastive term in which samples of one label from different donors attract each other.

    Parameters
    ----------
    label
        Column of the annotations.
    geometry
        ``cosine``: compare directions of embeddings, as in SupCon. ``euclidean``: compare squared distances, which
        makes the term the likelihood of a neighbours' vote in the embedding.
    latent_dim, weight, elbo_weight, projection, temperature, learn_temperature
        See `ContrastiveTerm`.

    References
    ----------
    Khosla et al. (2020), Supervised Contrastive Learning; Goldberger et al. (2004), Neighbourhood Components
    Analysis, for the Euclidean form. Pairs: `gtex_vae.functional.contrastive_losses.label_pairs`.
    """

    label_n: Tensor
    donor_n: Tensor

    def __init__(
        self,
        latent_dim: int,
        *,
        label: str = "tissue",
        geometry: Literal["cosine", "euclidean"] = "cosine",
        weight: float = 0.2,
        elbo_weight: float = 1.0,
        projection: Sequence[int] = (),
        temperature: float = 0.1,
        learn_temperature: bool = False,
    ) -> None:
        super().__init__(
            latent_dim,
            weight=weight,
            elbo_weight=elbo_weight,
            projection=projection,
            temperature=temperature,
            learn_temperature=learn_temperature,
        )
        self.label, self.geometry = label, geometry

    def look_up(self, obs: pd.DataFrame) -> None:
        """Number the labels and donors of all samples.

        Raises
        ------
        DataError
            The column does not exist, or the term would be constant with its labels.
        """
        import pandas as pd

        if self.label not in obs:
            raise DataError(
                f"contrastive.label={self.label} is not a column of the samples; columns: {', '.join(map(str, obs))}"
            )
        donors_of_label = obs.groupby(self.label, observed=True)["donor"].nunique()
        if len(donors_of_label) < 2 or donors_of_label.max() < 2:
            raise DataError(
                f"contrastive.label={self.label}: needs at least two labels, one of them shared by two donors; "
                f"there are {len(donors_of_label)} labels"
            )
        for name, column in (("label_n", self.label), ("donor_n", "donor")):
            codes = torch.from_numpy(pd.factorize(obs[column])[0].astype("int64"))
            self.register_buffer(name, codes, persistent=False)

    def forward(self, vae: VAE, x_ng: Tensor, mu_nd: Tensor, row_n: Tensor) -> Tensor:
        """See `ContrastiveTerm.forward`."""
        positive_nn, candidate_nn = losses.label_pairs(self.label_n[row_n], self.donor_n[row_n])
        u_np = self.head(mu_nd)
        compare = losses.similarity if self.geometry == "cosine" else losses.negative_squared_distance
        logits_nn = losses.clamped_scale(self.log_scale) * compare(u_np, u_np)
        return losses.positive_nll(logits_nn, positive_nn, candidate_nn)


def load_head(folder: Path) -> ProjectionHead:
    """Read a head written by `ContrastiveTerm.save_head`.

    Raises
    ------
    RunError
        The folder is incomplete or of another format.
    """
    description, weights = read_part(folder, HEAD, "projection head", HEAD_FORMAT)
    head = ProjectionHead(description["latent_dim"], description["projection"])
    head.load_state_dict(weights)
    return head.eval()


@contextmanager
def frozen_running_statistics(module: nn.Module) -> Iterator[None]:
    """Normalize by batch statistics, as in training, without updating running means and variances."""
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm1d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
