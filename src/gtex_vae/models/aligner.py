"""Alignment of donors with their cell types: tuned encoder, pooling, and one head per side.

Shapes: ``n`` donors, ``a`` donor samples, ``s`` cell-type profiles, ``c`` cell types, ``g`` genes, ``f`` features,
``d`` latent dimensions, ``p`` dimensions of a projection.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gtex_vae.errors import ConfigError
from gtex_vae.functional import contrastive_losses as losses
from gtex_vae.models.storage import read_part, write_part
from gtex_vae.models.tuned_encoder import Tune, TunedEncoder
from gtex_vae.models.vae import VAE
from gtex_vae.nn.pooling import AttentionPool, mean_pool
from gtex_vae.nn.projection_head import ProjectionHead

Loss = Literal["info_nce", "siglip", "sup_con", "vicreg"]
SIGLIP_BIAS = -10.0  # Zhai et al. (2023), section 3.1: most pairs are negatives
FORMAT, DESCRIPTION = 2, "alignment.json"


class Aligner(nn.Module):
    """Model that projects a donor's bulk sample and its set of cell-type profiles into one space.

    Parameters
    ----------
    vae
        Trained VAE; its weights are not changed.
    cell_types
        Names of the cell types, in the order of ``c``.
    tune, path, dropout
        See `TunedEncoder`. Differences between donors of one tissue are a small part of what a few dimensions keep
        of many tissues, hence the path around the VAE.
    head
        Layer widths of each side's head, the last layer linear; empty: embeddings are compared directly.
    residual
        Add the head's output, initially zero, to its input. The last width must then equal the input's,
        ``latent_dim + path``.
    pooling
        Pooling over a donor's cell types: ``mean`` or ``attention``.
    loss
        ``info_nce`` (both directions), ``siglip``, ``sup_con`` (among all samples of both sides) or ``vicreg``.
    drop_types
        Fraction of a donor's cell types dropped in each training step.
    temperature
        Initial temperature; its logarithm is learned.

    Attributes
    ----------
    donor_center_d, cell_center_d
        Mean embedding of each side over training donors, which is subtracted: it is the difference between the
        sides (bulk and a mean of cell types differ in proportions and technical effects), not between donors.
    scale_d
        Standard deviations: one value for all latent dimensions, one for all dimensions of the path.

    Raises
    ------
    ConfigError
        A value is out of range.

    References
    ----------
    Radford et al. (2021) for two towers with a learned temperature. The published system uses ``tune=none``,
    ``head=[128, 64]``, ``path=0``, ``pooling=mean``, with a fixed temperature of 0.2.
    """

    donor_center_d: Tensor
    cell_center_d: Tensor
    scale_d: Tensor

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
        if not 0.0 <= drop_types < 1.0:
            raise ConfigError(f"alignment.model.drop_types={drop_types} must be in [0, 1)")
        if not 1.0 / losses.LARGEST_SCALE <= temperature <= 100.0:
            raise ConfigError(f"alignment.model.temperature={temperature} must be between 0.01 and 100")
        self.encoder = TunedEncoder(vae, tune=tune, path=path, dropout=dropout)
        self.cell_types, self.loss_name, self.drop_types = list(cell_types), loss, drop_types
        d = self.encoder.out_features
        self.donor_head, self.cell_head = (ProjectionHead(d, head, residual=residual) for _ in range(2))
        self.attention = AttentionPool(d, len(cell_types)) if pooling == "attention" else None
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))
        self.bias = nn.Parameter(torch.tensor(SIGLIP_BIAS), requires_grad=loss == "siglip")
        for name in ("donor_center_d", "cell_center_d"):
            self.register_buffer(name, torch.zeros(d))
        self.register_buffer("scale_d", torch.ones(d))

    @property
    def compares_at_once(self) -> bool:
        """True if no head is random, so that both sides can be compared before training."""
        return all(head.mlp is None or head.residual for head in (self.donor_head, self.cell_head))

    def pool(self, z_sd: Tensor, owner_s: Tensor, type_s: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """Pool embedded profiles by donor, averaging several profiles of one cell type (such as conditions) first.

        Parameters
        ----------
        z_sd
            Embeddings of the profiles.
        owner_s, type_s
            Donor (0 to n - 1) and cell type of each profile.
        n
            Number of donors.

        Returns
        -------
        pooled_nd, present_nc
            Pooled embeddings, and a mask of the cell types of each donor.
        """
        place = owner_s, type_s
        shape = n, len(self.cell_types)
        count_nc = z_sd.new_zeros(shape).index_put(place, z_sd.new_ones(()), accumulate=True)
        total_ncd = z_sd.new_zeros(*shape, z_sd.shape[-1]).index_put(place, z_sd, accumulate=True)
        z_ncd, present_nc = total_ncd / count_nc.clamp_min(1.0)[..., None], count_nc > 0
        pooled_nd = (
            mean_pool(z_ncd, present_nc) if self.attention is None else self.attention(z_ncd, present_nc)
        )
        return pooled_nd, present_nc

    @torch.no_grad()
    def fit_centers(self, z_ad: Tensor, pooled_nd: Tensor) -> None:
        """Set the means of both sides and the scales of latent dimensions and path from training donors."""
        self.donor_center_d.copy_(z_ad.mean(0))
        self.cell_center_d.copy_(pooled_nd.mean(0))
        d = self.encoder.vae.latent_dim
        for part in (slice(0, d), slice(d, None)):
            self.scale_d[part] = (z_ad - z_ad.mean(0))[:, part].square().mean().sqrt().clamp_min(1e-6)

    def project_donors(self, z_ad: Tensor) -> Tensor:
        """Project embedded donor samples to (a, p)."""
        projected: Tensor = self.donor_head((z_ad - self.donor_center_d) / self.scale_d)
        return projected

    def project_cells(self, z_sd: Tensor, owner_s: Tensor, type_s: Tensor, n: int) -> Tensor:
        """Project donors to (n, p) from their cell types; arguments as for `pool`."""
        pooled_nd, _ = self.pool(z_sd, owner_s, type_s, n)
        projected: Tensor = self.cell_head((pooled_nd - self.cell_center_d) / self.scale_d)
        return projected

    def kept_types(self, owner_s: Tensor, n: int) -> Tensor:
        """Draw the profiles of a training step: drop a fraction ``drop_types``, but never all of one donor."""
        kept_s = torch.rand(len(owner_s), device=owner_s.device) >= self.drop_types
        # if all profiles of a donor were dropped, all are kept
        count_n = torch.zeros(n, device=owner_s.device).index_add_(0, owner_s, kept_s.float())
        return kept_s | (count_n[owner_s] == 0)

    def loss(self, u_ap: Tensor, v_np: Tensor, owner_a: Tensor) -> Tensor:
        """Evaluate the loss.

        Parameters
        ----------
        u_ap
            Projections of donor samples; all samples of one donor are its positives, and never each other's negatives.
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
        """Write ``weights.safetensors`` (without the VAE's weights) and ``alignment.json``.

        Parameters
        ----------
        folder
            Folder to write.
        arguments
            Arguments of the constructor as plain values, without ``vae`` and ``cell_types``.
        """
        state = self.state_dict().items()
        own = {name: tensor for name, tensor in state if not name.startswith("encoder.vae.")}
        description = {"format": FORMAT, "cell_types": self.cell_types, "arguments": arguments}
        write_part(folder, DESCRIPTION, description, own)

    @classmethod
    def load(cls, folder: Path, vae: VAE) -> Aligner:
        """Read an aligner written by `save`, for the VAE of the same run.

        Raises
        ------
        RunError
            The folder is missing, incomplete or of another format.
        """
        description, own = read_part(folder, DESCRIPTION, "alignment", FORMAT)
        aligner = cls(vae, description["cell_types"], **description["arguments"])
        aligner.load_state_dict({**aligner.state_dict(), **own})
        return aligner.eval()
