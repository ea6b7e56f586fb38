"""Trained encoder, fine-tuned in part or completely, with an additional linear path from expression.

Shapes: ``n`` samples (or donors), ``a`` donor samples, ``p`` dimensions of the path, ``g`` genes, ``f`` features, ``h`` hidden
units, ``d`` latent dimensions.
"""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from gtex_vae.errors import ConfigError
from gtex_vae.functional.paired_directions import paired_directions
from gtex_vae.models.vae import VAE

Tune = Literal["none", "last", "all"]


class TunedEncoder(nn.Module):
    """Encoder that embeds like the VAE's before tuning; tunes a copy, the VAE does not change.

    Covariates are not passed to a conditional VAE; it uses its own estimates. Embedding has two steps: `features`,
    which is not trained and can be computed once for all samples, and the module itself.

    Parameters
    ----------
    vae
        Trained VAE.
    tune
        ``none``: use the VAE's embedding, including its steps towards the posterior mode. ``last``: train the linear
        layers of the posterior mean, including the linear path from expression. ``all``: train the whole encoder.
    path
        Additional dimensions, from a trained linear path from expression around the VAE, initialised by `fit_path`.
        0: the VAE's embedding only.
    dropout
        Dropout of the features that enter the trained layers.

    Attributes
    ----------
    out_features
        Number of latent dimensions plus ``path``.
    unit_g
        Standard deviation of each gene among donors (not tissues), the unit in which linear paths from expression are
        trained: Adam's steps have one size, so genes need one scale. `fold_units` converts the paths back to
        standardized expression.
    cell_scale_g
        Ratio of each gene's standard deviation among donor samples to that among means of their cell types, so that
        the path receives each side in its own units.

    Raises
    ------
    ConfigError
        A value is out of range.
    """

    unit_g: Tensor
    cell_scale_g: Tensor

    def __init__(self, vae: VAE, *, tune: Tune, path: int, dropout: float) -> None:
        super().__init__()
        if not 0.0 <= dropout < 1.0:
            raise ConfigError(f"alignment.model.dropout={dropout} must be in [0, 1)")
        if path < 0:
            raise ConfigError(f"alignment.model.path={path} must not be negative")
        self.vae, self.tune, self.dropout = vae.requires_grad_(False), tune, dropout
        self.out_features = vae.latent_dim + path
        self.path = nn.Linear(vae.n_genes, path, bias=False) if path else None
        if self.path is not None:
            nn.init.orthogonal_(self.path.weight)
        for name in ("unit_g", "cell_scale_g"):
            self.register_buffer(name, torch.ones(vae.n_genes))
        self.encoders: nn.ModuleList | None = None
        self.means: nn.ModuleList | None = None
        self.linear: nn.Linear | None = None
        if tune == "all":
            copies = copy.deepcopy(list(vae.encoders))
            self.encoders = nn.ModuleList(copies).requires_grad_(True)
            for encoder in copies:
                encoder.log_var.requires_grad_(False)  # the embedding does not use the variances
        elif tune == "last":
            self.means = nn.ModuleList(copy.deepcopy(encoder.mu) for encoder in vae.encoders)
            self.means.requires_grad_(True)
            linear_dg = vae.linear_path()
            if linear_dg is not None:
                self.linear = nn.Linear(vae.n_genes, vae.latent_dim, bias=False)
                self.linear.weight = nn.Parameter(linear_dg)

    def train(self, mode: bool = True) -> TunedEncoder:
        """Switch dropout; batch norms stay in evaluation mode, because their statistics are those of bulk."""
        super().train(mode)
        self.vae.eval()
        if self.encoders is not None:
            self.encoders.eval()
        return self

    @property
    def _sees_expression(self) -> bool:
        """True if a trained layer takes expression as input."""
        return self.path is not None or self.linear is not None

    @torch.no_grad()
    def features(self, x_ng: Tensor) -> Tensor:
        """Compute the input of the trained layers from standardized expression (n, g)."""
        if self.tune == "all":
            return x_ng
        if self.tune == "none":
            frozen_nh = self.vae.embed(x_ng)
        else:
            coordinates_nf = self.vae.project(x_ng)
            guessed_nk = self.vae.complete(None, coordinates_nf)
            if guessed_nk is not None:
                coordinates_nf = torch.cat([coordinates_nf, guessed_nk], -1)
            frozen_nh = torch.cat([encoder.mlp(coordinates_nf) for encoder in self.vae.encoders], -1)
        return torch.cat([frozen_nh, x_ng / self.unit_g], -1) if self._sees_expression else frozen_nh

    def forward(self, features_nf: Tensor, *, cells: bool = False) -> Tensor:
        """Compute posterior means and path, (n, out_features), from `features` of donor samples or cell types."""
        if self.encoders is not None:
            features_nf = functional.dropout(features_nf, self.dropout, self.training)
            coordinates_nf = self.vae.project(features_nf)
            guessed_nk = self.vae.complete(None, coordinates_nf)
            parts = [encoder(coordinates_nf, guessed_nk)[0] for encoder in self.encoders]
            mu_nd = torch.stack(parts).mean(0)
            x_ng = features_nf / self.unit_g
        else:
            width = features_nf.shape[-1] - (len(self.unit_g) if self._sees_expression else 0)
            mu_nd, x_ng = features_nf[:, :width], features_nf[:, width:]
            if self._sees_expression:
                x_ng = functional.dropout(x_ng, self.dropout, self.training)
            if self.means is not None:
                mu_nd = self._tuned_means(mu_nd, x_ng)
        if self.path is None:
            return mu_nd
        return torch.cat([mu_nd, self.path(x_ng * self.cell_scale_g if cells else x_ng)], -1)

    def _tuned_means(self, hidden_nh: Tensor, x_ng: Tensor) -> Tensor:
        """Compute posterior means from the hidden units of all members and the linear path."""
        assert self.means is not None
        parts = functional.dropout(hidden_nh, self.dropout, self.training).tensor_split(len(self.means), -1)
        mu_nd = torch.stack([mean(part) for mean, part in zip(self.means, parts, strict=True)]).mean(0)
        return mu_nd if self.linear is None else mu_nd + self.linear(x_ng)

    @torch.no_grad()
    def fit_units(self, x_ng: Tensor) -> None:
        """Set the units of genes from training donors' samples (n, g); call before `features`."""
        sd_g = x_ng.std(0, correction=0)
        # a gene missing from the data is constant
        varies_g = sd_g > 1e-6
        self.unit_g.copy_(torch.where(varies_g, sd_g, 1.0))
        if self.linear is not None:
            self.linear.weight.mul_(self.unit_g)

    @torch.no_grad()
    def fit_path(self, x_ag: Tensor, y_ng: Tensor, owner_a: Tensor, kind_a: Tensor) -> None:
        """Initialise the path with directions that both sides of training donors share; call after `fit_units`.

        Parameters
        ----------
        x_ag
            Standardized expression of donor samples.
        y_ng
            Standardized expression of the means of the donors' cell types.
        owner_a, kind_a
            Donor (row of ``y_ng``) of each sample; kind 0 for the donor's own sample, 1, 2, ... for mixtures.

        See Also
        --------
        gtex_vae.functional.paired_directions.paired_directions
        """
        if self.path is None:
            return
        own_a = kind_a == 0
        sides = []
        for side, reference in ((x_ag, x_ag[own_a]), (y_ng, y_ng)):
            sides.append((side - reference.mean(0), reference.std(0, correction=0)))
        (x_ag, x_sd_g), (y_ng, y_sd_g) = sides
        # a gene missing from the data is constant
        varies_g = (x_sd_g > 1e-6) & (y_sd_g > 1e-6)
        self.cell_scale_g[varies_g] = x_sd_g[varies_g] / y_sd_g[varies_g]
        self.path.weight.zero_()
        self.path.weight[:, varies_g] = paired_directions(
            (x_ag[:, varies_g] / x_sd_g[varies_g]).double(),
            (y_ng[:, varies_g] / y_sd_g[varies_g]).double(),
            owner_a,
            kind_a,
            len(self.path.weight),
        )

    @torch.no_grad()
    def fold_units(self) -> None:
        """Convert the linear paths to standardized expression; `features` must then be computed again."""
        if self.linear is not None:
            self.linear.weight.div_(self.unit_g)
        if self.path is not None:
            self.path.weight.div_(self.unit_g)
        self.unit_g.fill_(1.0)
