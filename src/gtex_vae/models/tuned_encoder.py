"""A trained encoder of which a part, or all, is trained further, and a linear path from expression beside it.

Shapes: ``n`` samples (or donors), ``a`` donor samples, ``p`` dimensions of the path, ``g`` genes, ``f`` features, ``h`` hidden units, ``d`` latent dimensions.
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
    """Embeds like a VAE's encoder before tuning; what is tuned is a copy, the VAE stays as it is.

    A conditional VAE is told of no covariates. Embedding has two steps, `features`, which is not trained and can be computed once for all samples, and the module
    itself.

    Parameters
    ----------
    vae
        Trained.
    tune
        ``none``: the embedding is the VAE's, moved towards the posterior mode where it does that. ``last``: the linear layers that give the posterior mean are trained, the
        linear path from expression among them. ``all``: the whole encoder.
    path
        Further dimensions: a trained linear path from expression around the VAE. It starts where both sides of the
        training donors agree, see `fit_path`. 0: the VAE's embedding alone.
    dropout
        Of the features that the trained part sees.

    Attributes
    ----------
    out_features
        Latent dimensions and those of the path.
    unit_g
        Units in which linear paths from expression are trained: how much each gene varies among the donors, instead of
        among tissues. Steps of Adam are of one size, so they must mean the same for all genes. `fold_units` turns the
        paths back into such for standardized expression.
    cell_scale_g
        How much more each gene varies among the donors' samples than among the means of their cell types: the path
        takes each side in units of its own.

    Raises
    ------
    ConfigError
        A value is impossible.
    """

    unit_g: Tensor
    cell_scale_g: Tensor

    def __init__(self, vae: VAE, *, tune: Tune, path: int, dropout: float) -> None:
        super().__init__()
        if not 0.0 <= dropout < 1.0:
            raise ConfigError(f"alignment.model.dropout={dropout} must lie in [0, 1)")
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
                encoder.log_var.requires_grad_(False)  # the variances have no part in the embedding
        elif tune == "last":
            self.means = nn.ModuleList(copy.deepcopy(encoder.mu) for encoder in vae.encoders)
            self.means.requires_grad_(True)
            linear_dg = vae.linear_path()
            if linear_dg is not None:
                self.linear = nn.Linear(vae.n_genes, vae.latent_dim, bias=False)
                self.linear.weight = nn.Parameter(linear_dg)

    def train(self, mode: bool = True) -> TunedEncoder:
        """Switch dropout; batch norms always work as in evaluation, for their statistics are those of bulk."""
        super().train(mode)
        self.vae.eval()
        if self.encoders is not None:
            self.encoders.eval()
        return self

    @property
    def _sees_expression(self) -> bool:
        """Whether a trained layer starts from expression."""
        return self.path is not None or self.linear is not None

    @torch.no_grad()
    def features(self, x_ng: Tensor) -> Tensor:
        """What the part that is not trained makes of standardized expression."""
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
        """Posterior means, and the path beside them, (n, d) from `features` of donor samples or of cell types."""
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
        """Posterior means from the hidden units of all members and the linear path."""
        assert self.means is not None
        parts = functional.dropout(hidden_nh, self.dropout, self.training).tensor_split(len(self.means), -1)
        mu_nd = torch.stack([mean(part) for mean, part in zip(self.means, parts, strict=True)]).mean(0)
        return mu_nd if self.linear is None else mu_nd + self.linear(x_ng)

    @torch.no_grad()
    def fit_units(self, x_ng: Tensor) -> None:
        """Take the units of genes from training donors' samples (n, g); to be called before `features`."""
        sd_g = x_ng.std(0, correction=0)
        # a gene that the data does not have is constant
        varies_g = sd_g > 1e-6
        self.unit_g.copy_(torch.where(varies_g, sd_g, 1.0))
        if self.linear is not None:
            self.linear.weight.mul_(self.unit_g)

    @torch.no_grad()
    def fit_path(self, x_ag: Tensor, y_ng: Tensor, owner_a: Tensor, kind_a: Tensor) -> None:
        """Start the path at what both sides of training donors agree on; after `fit_units`.

        Parameters
        ----------
        x_ag
            Standardized expression of donor samples.
        y_ng
            The same of the means of the donors' cell types.
        owner_a, kind_a
            Donor (row of ``y_ng``) of each sample; 0 for the donor's own, 1, 2, ... for its mixtures.

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
        # a gene that the data does not have is constant
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
        """Let the linear paths take standardized expression again; `features` have to be computed anew."""
        if self.linear is not None:
            self.linear.weight.div_(self.unit_g)
        if self.path is not None:
            self.path.weight.div_(self.unit_g)
        self.unit_g.fill_(1.0)
