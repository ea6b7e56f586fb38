"""Alignment of donors with their cell types: a trained encoder, pooling, and a head for each side.

Shapes: ``n`` donors, ``a`` donor samples, ``s`` cell-type profiles, ``c`` cell types, ``g`` genes, ``f`` features,
``d`` latent dimensions, ``p`` dimensions of a projection.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from gtex_vae.errors import ConfigError, RunError
from gtex_vae.functional import contrastive as losses
from gtex_vae.models.vae import VAE
from gtex_vae.nn.head import ProjectionHead
from gtex_vae.nn.pooling import AttentionPool, mean_pool
from gtex_vae.paths import write_beside

Tune = Literal["none", "last", "all"]
Loss = Literal["info_nce", "siglip", "sup_con", "vicreg"]
SIGLIP_BIAS = -10.0  # Zhai et al. (2023), section 3.1: most pairs are negatives
FORMAT = 1


class Aligner(nn.Module):
    """Projects a donor's bulk sample, and the set of its cell-type profiles, to where they meet.

    Parameters
    ----------
    vae
        Trained; stays as it is. What is tuned is a copy.
    cell_types
        Names of the cell types, in the order of ``c``.
    tune
        ``none``: the embedding is the VAE's. ``last``: the linear layers that give the posterior mean are trained, the
        linear path from expression among them. ``all``: the whole encoder.
    head
        Widths of the head of each side, the last one linear; empty: embeddings are compared as they are.
    residual
        The head adds to its input, by nothing at the start. The last width must then be that of the input,
        ``latent_dim + path``.
    path
        Further dimensions that are compared: a trained linear path from expression around the VAE, an orthogonal
        projection at the start, which keeps all angles where there are no more genes than dimensions. What tells donors of one tissue apart is little of what a few dimensions keep of many tissues.
        0: the VAE's embedding alone.
    pooling
        Of a donor's cell types: ``mean`` or ``attention``.
    loss
        ``info_nce`` (both directions), ``siglip``, ``sup_con`` (among all samples of both sides) or ``vicreg``.
    dropout
        Of the features that the trained part sees.
    drop_types
        Fraction of a donor's cell types left out in each step of training.
    temperature
        To start from; its logarithm is learned.

    Attributes
    ----------
    donor_center_d, cell_center_d
        Mean embedding of each side over training donors, which is taken off: the two sides differ in it (bulk has
        other proportions, and other technical effects, than a mean of cell types), the donors do not.
    scale_d
        One standard deviation for all latent dimensions, one for all of the path.
    unit_g
        Units in which linear paths from expression are trained: how much each gene varies among the donors, instead of
        among tissues. Steps of Adam are of one size, so they must mean the same for all genes. `fold_units` turns the
        paths back into such for standardized expression.

    Raises
    ------
    ConfigError
        A value is impossible.

    References
    ----------
    Radford et al. (2021) for two towers with a learned temperature. The published system: ``tune=none``,
    ``head=[128, 64]``, ``path=0``, ``pooling=mean``, with a fixed temperature of 0.2.
    """

    donor_center_d: Tensor
    cell_center_d: Tensor
    scale_d: Tensor
    unit_g: Tensor

    def __init__(
        self,
        vae: VAE,
        cell_types: Sequence[str],
        *,
        tune: Tune = "last",
        head: Sequence[int] = (),
        residual: bool = False,
        path: int = 0,
        pooling: Literal["mean", "attention"] = "mean",
        loss: Loss = "info_nce",
        dropout: float = 0.2,
        drop_types: float = 0.2,
        temperature: float = 0.1,
    ) -> None:
        super().__init__()
        for key, value in (("dropout", dropout), ("drop_types", drop_types)):
            if not 0.0 <= value < 1.0:
                raise ConfigError(f"alignment.model.{key}={value} must lie in [0, 1)")
        if not 1.0 / losses.LARGEST_SCALE <= temperature <= 100.0:
            raise ConfigError(f"alignment.model.temperature={temperature} must lie between 0.01 and 100")
        self.vae, self.cell_types = vae, list(cell_types)
        self.tune, self.loss_name, self.dropout, self.drop_types = tune, loss, dropout, drop_types
        if path < 0:
            raise ConfigError(f"alignment.model.path={path} must not be negative")
        d = vae.latent_dim + path
        self.path = nn.Linear(vae.n_genes, path, bias=False) if path else None
        if self.path is not None:
            nn.init.orthogonal_(self.path.weight)
        self.donor_head, self.cell_head = (ProjectionHead(d, head, residual=residual) for _ in range(2))
        self.attention = AttentionPool(d, len(cell_types)) if pooling == "attention" else None
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))
        self.bias = nn.Parameter(torch.tensor(SIGLIP_BIAS), requires_grad=loss == "siglip")
        for name in ("donor_center_d", "cell_center_d"):
            self.register_buffer(name, torch.zeros(d))
        self.register_buffer("scale_d", torch.ones(d))
        self.register_buffer("unit_g", torch.ones(vae.n_genes))
        vae.requires_grad_(False)
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

    def train(self, mode: bool = True) -> Aligner:
        """Switch heads; the encoder always works as in evaluation, for its batch statistics are those of bulk."""
        super().train(mode)
        self.vae.eval()
        if self.encoders is not None:
            self.encoders.eval()
        return self

    @torch.no_grad()
    def features(self, x_ng: Tensor) -> Tensor:
        """What the part of the encoder that is not trained makes of standardized expression; computed once."""
        if self.tune == "all":
            return x_ng
        if self.tune == "none":
            frozen_nh = self.vae.embed(x_ng)
        else:
            features_nf = self.vae.project(x_ng)
            frozen_nh = torch.cat([encoder.mlp(features_nf) for encoder in self.vae.encoders], -1)
        return torch.cat([frozen_nh, x_ng / self.unit_g], -1) if self._sees_expression else frozen_nh

    @property
    def _sees_expression(self) -> bool:
        """Whether a trained layer starts from expression."""
        return self.path is not None or self.linear is not None

    def embed(self, features_nf: Tensor) -> Tensor:
        """Posterior means, and the path beside them, (n, d) from `features`."""
        if self.encoders is not None:
            features_nf = functional.dropout(features_nf, self.dropout, self.training)
            coordinates_nf = self.vae.project(features_nf)
            mu_nd = torch.stack([encoder(coordinates_nf)[0] for encoder in self.encoders]).mean(0)
            x_ng = features_nf / self.unit_g
        else:
            width = features_nf.shape[-1] - (len(self.unit_g) if self._sees_expression else 0)
            mu_nd, x_ng = features_nf[:, :width], features_nf[:, width:]
            if self._sees_expression:
                x_ng = functional.dropout(x_ng, self.dropout, self.training)
            if self.means is not None:
                hidden_nh = functional.dropout(mu_nd, self.dropout, self.training)
                parts = hidden_nh.tensor_split(len(self.means), -1)
                mu_nd = torch.stack([mean(part) for mean, part in zip(self.means, parts, strict=True)]).mean(
                    0
                )
                mu_nd = mu_nd if self.linear is None else mu_nd + self.linear(x_ng)
        return mu_nd if self.path is None else torch.cat([mu_nd, self.path(x_ng)], -1)

    def pool(self, features_sf: Tensor, owner_s: Tensor, type_s: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """Pool profiles by donor.

        Parameters
        ----------
        features_sf
            Of the profiles.
        owner_s, type_s
            Donor (0 to n - 1) and cell type of each.
        n
            Number of donors.

        Returns
        -------
        pooled_nd, present_nc
            Pooled embeddings, and which types each donor has.
        """
        z_sd = self.embed(features_sf)
        z_ncd = z_sd.new_zeros(n, len(self.cell_types), z_sd.shape[-1]).index_put((owner_s, type_s), z_sd)
        present_nc = torch.zeros(z_ncd.shape[:2], dtype=torch.bool, device=z_sd.device)
        present_nc[owner_s, type_s] = True
        pooled_nd = (
            mean_pool(z_ncd, present_nc) if self.attention is None else self.attention(z_ncd, present_nc)
        )
        return pooled_nd, present_nc

    @torch.no_grad()
    def fit_units(self, x_ng: Tensor) -> None:
        """Take the units of genes from training donors' samples (n, g); to be called before `features`."""
        sd_g = x_ng.std(0, correction=0)
        # a gene that the data does not have is constant
        self.unit_g.copy_(torch.where(sd_g > 1e-6, sd_g, 1.0))
        if self.linear is not None:
            self.linear.weight.mul_(self.unit_g)

    @torch.no_grad()
    def fold_units(self) -> None:
        """Let the linear paths take standardized expression again; `features` have to be computed anew."""
        if self.linear is not None:
            self.linear.weight.div_(self.unit_g)
        if self.path is not None:
            self.path.weight.div_(self.unit_g)
        self.unit_g.fill_(1.0)

    @torch.no_grad()
    def fit_centers(self, features_af: Tensor, pooled_nd: Tensor) -> None:
        """Take the means of both sides, and the scales of latent dimensions and path, from training donors."""
        z_ad = self.embed(features_af)
        self.donor_center_d.copy_(z_ad.mean(0))
        self.cell_center_d.copy_(pooled_nd.mean(0))
        d = self.vae.latent_dim
        for part in (slice(0, d), slice(d, None)):
            self.scale_d[part] = (z_ad - z_ad.mean(0))[:, part].square().mean().sqrt().clamp_min(1e-6)

    def project_donors(self, features_af: Tensor) -> Tensor:
        """Projections (a, p) of donor samples."""
        projected: Tensor = self.donor_head((self.embed(features_af) - self.donor_center_d) / self.scale_d)
        return projected

    def project_cells(self, features_sf: Tensor, owner_s: Tensor, type_s: Tensor, n: int) -> Tensor:
        """Projections (n, p) of donors by their cell types; arguments as for `pool`."""
        if self.training and self.drop_types > 0.0:
            kept_s = torch.rand(len(owner_s), device=owner_s.device) >= self.drop_types
            # every donor keeps what it has one of
            count_n = torch.zeros(n, device=owner_s.device).index_add_(0, owner_s, kept_s.float())
            kept_s |= count_n[owner_s] == 0
            features_sf, owner_s, type_s = features_sf[kept_s], owner_s[kept_s], type_s[kept_s]
        pooled_nd, _ = self.pool(features_sf, owner_s, type_s, n)
        projected: Tensor = self.cell_head((pooled_nd - self.cell_center_d) / self.scale_d)
        return projected

    def loss(self, u_ap: Tensor, v_np: Tensor, owner_a: Tensor) -> Tensor:
        """Evaluate the loss.

        Parameters
        ----------
        u_ap
            Projections of donor samples; several of one donor are all its positives.
        v_np
            Projections of the donors' cell types.
        owner_a
            Donor (row of ``v_np``) of each sample.
        """
        donor_n = torch.arange(len(v_np), device=v_np.device)
        scale = losses.clamped_scale(self.log_scale)
        if self.loss_name == "vicreg":
            return losses.vicreg(u_ap, v_np[owner_a])
        if self.loss_name == "sup_con":
            both, owner = torch.cat([u_ap, v_np]), torch.cat([owner_a, donor_n])
            others = ~torch.eye(len(both), dtype=torch.bool, device=both.device)
            return losses.positive_nll(scale * losses.similarity(both, both), owner[:, None] == owner, others)
        logits_an, positive_an = scale * losses.similarity(u_ap, v_np), owner_a[:, None] == donor_n
        if self.loss_name == "siglip":
            return losses.sigmoid_loss(logits_an, self.bias, positive_an)
        return losses.info_nce(logits_an, positive_an)

    def save(self, folder: Path, arguments: dict[str, Any]) -> None:
        """Write all but the VAE: ``weights.safetensors`` and ``alignment.json``.

        Parameters
        ----------
        folder
            Where to.
        arguments
            The constructor's, plain, without ``vae`` and ``cell_types``.
        """
        from safetensors.torch import save

        own = {k: v.contiguous() for k, v in self.state_dict().items() if not k.startswith("vae.")}
        description = {"format": FORMAT, "cell_types": self.cell_types, "arguments": arguments}
        with write_beside(folder) as temporary:
            temporary.mkdir()
            (temporary / "weights.safetensors").write_bytes(save(own))
            (temporary / "alignment.json").write_text(json.dumps(description, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, vae: VAE) -> Aligner:
        """Read what `save` wrote, for the VAE of the same run.

        Raises
        ------
        RunError
            The folder is missing, incomplete or of another version.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            description = json.loads((folder / "alignment.json").read_text(encoding="utf-8"))
            own = load_file(folder / "weights.safetensors")
        except (OSError, ValueError, SafetensorError) as error:
            raise RunError(f"{folder} holds no readable alignment: {error}") from error
        if description.get("format") != FORMAT:
            raise RunError(
                f"{folder}: format {description.get('format')} is not {FORMAT}, that of this version"
            )
        aligner = cls(vae, description["cell_types"], **description["arguments"])
        aligner.load_state_dict({**aligner.state_dict(), **own})
        return aligner.eval()
