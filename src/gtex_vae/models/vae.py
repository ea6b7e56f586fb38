"""The variational autoencoder of bulk expression.

Shapes: ``n`` samples, ``g`` genes, ``f`` features (genes, or their coordinates in a basis), ``d`` latent dimensions,
``m`` members of an ensemble, ``k`` columns of the covariates' design.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gtex_vae.errors import ConfigError
from gtex_vae.functional.elbo import sample_posterior
from gtex_vae.functional.masking import hide
from gtex_vae.functional.posterior_mode import preconditioner, step_to_mode
from gtex_vae.nn import distributed as processes
from gtex_vae.nn.decoder import Decoder
from gtex_vae.nn.encoder import Encoder
from gtex_vae.nn.likelihood import Likelihood
from gtex_vae.nn.likelihoods import LIKELIHOODS, LikelihoodName
from gtex_vae.nn.mlp import Activation, Norm

REFINEMENTS = 3  # rounds of filling in and encoding again; further ones change R2 in the fourth decimal
NO_MEAN = 1e-3  # standardized units, root mean square over genes: what counts as a mean of 0
QUIET = 0.1  # factor on the MLPs' output layers at the start, where the linear paths are a PCA


@dataclass(frozen=True)
class VAEOutput:
    """What one pass of the model gives.

    Attributes
    ----------
    mu_nd, log_var_nd
        Parameters of the posterior q(z | x), shape (n, d); in training those of each member, one after another:
        (m n, d).
    z_nd
        Where the decoder was evaluated: a posterior sample in training, the mean in evaluation.
    x_hat_nf
        Mean of p(x | z), in standardized units: genes, or coordinates where the model has a basis.
    """

    mu_nd: Tensor
    log_var_nd: Tensor
    z_nd: Tensor
    x_hat_nf: Tensor


class VAE(nn.Module):
    r"""Variational autoencoder: mirrored MLPs, linear paths around them, a PCA to start from.

    .. math:: z \sim N(0, I), \quad x \mid z \sim N(f(z), \sigma^2 I), \quad q(z \mid x) = N(\mu(x), \mathrm{diag}\,\sigma(x)^2)

    Parameters
    ----------
    n_genes
        Number of genes g.
    latent_dim
        Number of latent dimensions d, from 1 to ``n_genes``.
    hidden_dims
        Widths of the encoder's layers; the decoder has them in reverse.
    likelihood
        ``per_sample``: each sample has a variance of its own (multivariate Student t); ``shared``: one variance, optimal
        in closed form (sigma-VAE); ``per_gene``: a learned variance for each gene; ``negative_binomial``: of read counts; ``mse``: variance 1 (the published
        loss together with ``objective.kl_reduction=mean``).
    norm
        ``batch``, ``layer`` or ``none``.
    activation
        ``elu``, ``relu``, ``gelu`` or ``silu``.
    dropout
        In the encoder, in [0, 1).
    decoder_dropout
        In the decoder, in [0, 1). It costs reconstruction; the published set-up has it.
    linear_skip
        Linear paths around encoder and decoder, so that PCA is the special case with nothing in the MLPs.
    n_components
        Encoder and decoder work on coordinates in an orthonormal basis of this many directions (principal components,
        see `start_from_pca`), a fixed first and last layer; ``None``: on the genes themselves.
    n_members
        Encoders and decoders that share one latent space. Each is trained on its own, with another's as partner from
        step to step; the model's mean and reconstruction are the averages over all.
    mode_steps
        Steps from the encoders' mean towards the mode of the posterior, wherever a trained model embeds; see
        `gtex_vae.functional.posterior_mode.step_to_mode`. Training and its validation do without. They need ``linear_skip``.
    n_covariates
        Width k of the covariates' design (`gtex_vae.data.covariates.Covariates`) that encoders and decoders take in
        addition to their input: a conditional VAE. What is unknown, or not given, is guessed from the expression.

    Raises
    ------
    ConfigError
        A value is impossible; the message names its config key.

    References
    ----------
    Kingma and Welling (2014), Auto-Encoding Variational Bayes; Lakshminarayanan, Pritzel and Blundell (2017), Simple and
    Scalable Predictive Uncertainty Estimation using Deep Ensembles, for averages of networks that differ in their start; Sohn, Lee and Yan (2015), Learning Structured Output
    Representation using Deep Conditional Generative Models.

    Examples
    --------
    >>> import torch
    >>> vae = VAE(n_genes=20, latent_dim=3, hidden_dims=[8]).eval()
    >>> vae(torch.zeros(5, 20)).mu_nd.shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        n_genes: int,
        latent_dim: int = 64,
        hidden_dims: Sequence[int] = (2048, 512),
        *,
        likelihood: LikelihoodName = "per_sample",
        norm: Norm = "batch",
        activation: Activation = "elu",
        dropout: float = 0.1,
        decoder_dropout: float = 0.0,
        linear_skip: bool = True,
        n_components: int | None = None,
        n_members: int = 1,
        mode_steps: int = 0,
        n_covariates: int = 0,
    ) -> None:
        super().__init__()
        if n_components is not None and not 1 <= n_components <= n_genes:
            raise ConfigError(
                f"model.n_components={n_components} must lie between 1 and the number of genes, {n_genes}, or be null"
            )
        n_features = n_components or n_genes
        if not 1 <= latent_dim <= n_features:
            of = "genes" if n_components is None else "components"
            raise ConfigError(
                f"model.latent_dim={latent_dim} must lie between 1 and the number of {of}, {n_features}"
            )
        if n_members < 1:
            raise ConfigError(f"model.n_members={n_members} must be at least 1")
        if mode_steps < 0:
            raise ConfigError(f"model.mode_steps={mode_steps} must not be negative")
        if mode_steps and not linear_skip:
            raise ConfigError(f"model.mode_steps={mode_steps} needs model.linear_skip=true")
        if any(width < 1 for width in hidden_dims):
            raise ConfigError(f"model.hidden_dims={list(hidden_dims)} must hold positive widths only")
        for key, value in (("dropout", dropout), ("decoder_dropout", decoder_dropout)):
            if not 0.0 <= value < 1.0:
                raise ConfigError(f"model.{key}={value} must lie in [0, 1)")
        self.n_genes, self.latent_dim, self.mode_steps = n_genes, latent_dim, mode_steps
        shared: dict[str, Any] = {
            "norm": norm, "activation": activation, "linear_skip": linear_skip, "n_covariates": n_covariates,
        }  # fmt: skip
        inwards, outwards = list(hidden_dims), list(hidden_dims)[::-1]
        # a ModuleList does not know the type of what it holds
        self.encoders: Sequence[Encoder] = nn.ModuleList(  # type: ignore[assignment]
            Encoder(n_features, latent_dim, inwards, dropout=dropout, **shared) for _ in range(n_members)
        )
        self.decoders: Sequence[Decoder] = nn.ModuleList(  # type: ignore[assignment]
            Decoder(latent_dim, n_features, outwards, dropout=decoder_dropout, **shared)
            for _ in range(n_members)
        )
        # nats are those of all genes, whatever the basis
        self.likelihood: Likelihood = LIKELIHOODS[likelihood](n_genes)
        if n_components is not None and not self.likelihood.isotropic:
            raise ConfigError(
                f"model.likelihood={likelihood} works on genes alone: set model.n_components=null"
            )
        if mode_steps and not self.likelihood.supports_mode_steps:
            raise ConfigError(
                f"model.mode_steps={mode_steps} needs a Gaussian likelihood: set model.mode_steps=0"
            )
        self.basis_fg: Tensor | None
        self.register_buffer("basis_fg", None if n_components is None else torch.eye(n_components, n_genes))
        self.preconditioner_dd: Tensor | None
        self.register_buffer("preconditioner_dd", None, persistent=False)
        self.unknown_k: Tensor | None
        self.register_buffer("unknown_k", torch.zeros(n_covariates) if n_covariates else None)
        self.flag_k: Tensor
        self.register_buffer("flag_k", torch.arange(n_covariates) if n_covariates else None)
        self.guess_fk: Tensor
        self.register_buffer("guess_fk", torch.zeros(n_features, n_covariates) if n_covariates else None)

    def forward(self, x_nf: Tensor, c_nk: Tensor | None = None, partner: int | None = None) -> VAEOutput:
        """Encode, sample and decode standardized expression (n, f) as `project` gives it, with covariates (n, k).

        In evaluation the mean is taken for the sample, and averages over members; in training ``partner`` says whose
        decoder an encoder gets, see `draw_partner`.
        """
        c_nk = self.complete(c_nk, x_nf)
        if not self.training:
            mu_nd, log_var_nd = self.encode_features(x_nf, c_nk)
            return VAEOutput(mu_nd, log_var_nd, mu_nd, self.decode_features(mu_nd, c_nk))
        posteriors = [encoder(x_nf, c_nk) for encoder in self.encoders]
        z_parts = [sample_posterior(*posterior) for posterior in posteriors]
        partner = self.draw_partner() if partner is None else partner
        x_hat_parts = [self.decoders[m - partner](z_nd, c_nk) for m, z_nd in enumerate(z_parts)]
        mu_nd, log_var_nd = (torch.cat(parts) for parts in zip(*posteriors, strict=True))
        return VAEOutput(mu_nd, log_var_nd, torch.cat(z_parts), torch.cat(x_hat_parts))

    def draw_partner(self) -> int:
        """How many members before an encoder its decoder stands in this step, from the global generator.

        Partners change, so that every decoder understands every encoder and the latent spaces stay one.
        """
        members = len(self.decoders)
        return processes.agree(int(torch.randint(members, ()))) if members > 1 else 0

    def project(self, x_ng: Tensor) -> Tensor:
        """Genes (n, g) as `forward` takes them, (n, f)."""
        return x_ng if self.basis_fg is None else x_ng @ self.basis_fg.T

    @torch.no_grad()
    def linear_path(self) -> Tensor | None:
        """Weights (d, g) of the linear path from genes to the posterior mean, if there is one."""
        weights = [encoder.skip.weight for encoder in self.encoders if encoder.skip is not None]
        return self.expand(torch.stack(weights).mean(0)).clone() if weights else None

    def encode(self, x_ng: Tensor, c_nk: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Posterior mean and log variance, each (n, d), of standardized expression (n, g) and covariates (n, k).

        In evaluation the mean is moved towards the mode by `mode_steps`.
        """
        return self.infer(self.project(x_ng), c_nk)

    def infer(self, x_nf: Tensor, c_nk: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What `encode` gives, from features (n, f) and covariates (n, k)."""
        mu_nd, log_var_nd = self.encode_features(x_nf, c_nk)
        if self.mode_steps and not self.training:
            c_nk = self.complete(c_nk, x_nf)
            mu_nd = step_to_mode(
                lambda z_nd: self._linearized(z_nd, c_nk),
                mu_nd,
                x_nf,
                torch.exp(-self.likelihood.log_var),
                self.mode_preconditioner(),
                steps=self.mode_steps,
            )
        return mu_nd, log_var_nd

    def mode_preconditioner(self) -> Tensor:
        """Compute the metric (d, d) of the steps to the mode from the decoders' linear paths, or return the fixed one."""
        if self.preconditioner_dd is not None:
            return self.preconditioner_dd
        paths = [decoder.skip.weight for decoder in self.decoders if decoder.skip is not None]
        return preconditioner(torch.stack(paths).mean(0), torch.exp(-self.likelihood.log_var))

    def fix_preconditioner(self) -> None:
        """Keep the metric of the steps to the mode as a constant; the model must not be trained afterwards."""
        if self.mode_steps:
            self.preconditioner_dd = self.mode_preconditioner().detach()

    def _linearized(self, z_nd: Tensor, c_nk: Tensor | None) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """What `decode_features` gives, and the product of its transposed Jacobian, (n, f) to (n, d)."""
        parts, pulls = zip(*(decoder.linearized(z_nd, c_nk) for decoder in self.decoders), strict=True)
        return torch.stack(parts).mean(0), lambda slope_nf: torch.stack([p(slope_nf) for p in pulls]).mean(0)

    def complete(self, c_nk: Tensor | None, x_nf: Tensor) -> Tensor | None:
        """Covariates (n, k) as networks take them, None for a model without: what is unknown is guessed from the features.

        That it was unknown stays marked, and completing twice changes nothing.
        """
        if self.unknown_k is None:
            return None
        if c_nk is None:
            c_nk = self.unknown_k.expand(x_nf.shape[0], -1)
        unknown_nk = (c_nk[:, self.flag_k] > 0) & (self.unknown_k == 0)
        return torch.where(unknown_nk, x_nf @ self.guess_fk, c_nk)

    def covariates(self, c_nk: Tensor | None, n: int) -> Tensor | None:
        """Covariates (n, k), all unknown and average where none are given."""
        return self.unknown_k.expand(n, -1) if c_nk is None and self.unknown_k is not None else c_nk

    def expand(self, x_nf: Tensor) -> Tensor:
        """Features (n, f) back to genes (n, g)."""
        return x_nf if self.basis_fg is None else x_nf @ self.basis_fg

    def decode(self, z_nd: Tensor, c_nk: Tensor | None = None) -> Tensor:
        """Expected standardized expression (n, g) at latent positions (n, d), with covariates (n, k)."""
        return self.expand(self.decode_features(z_nd, c_nk))

    def encode_features(self, x_nf: Tensor, c_nk: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Posterior mean and log variance, each (n, d), of features (n, f) and covariates (n, k), as the encoders have it."""
        c_nk = self.complete(c_nk, x_nf)
        parts = [encoder(x_nf, c_nk) for encoder in self.encoders]
        mu_nd, log_var_nd = (torch.stack(part).mean(0) for part in zip(*parts, strict=True))
        return mu_nd, log_var_nd

    def decode_features(self, z_nd: Tensor, c_nk: Tensor | None = None) -> Tensor:
        """Expected features (n, f) at latent positions (n, d), with covariates (n, k)."""
        c_nk = self.covariates(c_nk, z_nd.shape[0])
        return torch.stack([decoder(z_nd, c_nk) for decoder in self.decoders]).mean(0)

    @torch.no_grad()
    def start_from_pca(self, components_dg: Tensor, variance_d: Tensor, mean_g: Tensor) -> None:
        r"""Take the basis from a PCA, set the linear paths to its leading components and quieten the MLPs.

        .. math:: W_s^{enc} = \Lambda^{-1/2} V, \qquad W_s^{dec} = V^\top \Lambda^{1/2}

        Training then starts at the reconstruction of a PCA, with scores distributed as the prior, instead of finding
        it first.

        Parameters
        ----------
        components_dg
            Orthonormal components V of the training samples, the strongest first: at least ``n_components`` of them
            where the model has a basis, else no more than ``latent_dim`` are used.
        variance_d
            Variance of each.
        mean_g
            Mean of the training samples. Where it is not 0 its direction takes the last place of the basis: what a
            decoder adds to every sample has to lie in there.
        """
        if self.basis_fg is not None:
            self.basis_fg.copy_(_orthonormal(components_dg[: len(self.basis_fg)], mean_g))
            components_df = torch.eye(len(self.basis_fg), device=components_dg.device)[: self.latent_dim]
        else:
            components_df = components_dg[: self.latent_dim]
        found = len(components_df)
        self.set_linear_paths(components_df, variance_d[:found])
        for encoder, decoder in zip(self.encoders, self.decoders, strict=True):
            if encoder.skip is not None:
                for layer in (encoder.mu, decoder.out):
                    layer.weight.mul_(QUIET)

    @torch.no_grad()
    def set_linear_paths(self, components_df: Tensor, variance_d: Tensor) -> None:
        """Set the linear paths, where there are any, to leading components of the features, with whitened scores."""
        found = len(components_df)
        sd_d = variance_d.clamp_min(1e-12).sqrt()
        for encoder, decoder in zip(self.encoders, self.decoders, strict=True):
            if encoder.skip is not None and decoder.skip is not None:
                encoder.skip.weight[:found] = components_df / sd_d[:, None]
                decoder.skip.weight[:, :found] = (components_df * sd_d[:, None]).T

    def embed(self, x_ng: Tensor, observed_ng: Tensor | None = None, c_nk: Tensor | None = None) -> Tensor:
        """Posterior mean (n, d), the embedding, of standardized expression (n, g); never a sample."""
        return self.encode(x_ng if observed_ng is None else hide(x_ng, observed_ng), c_nk)[0]

    def reconstruct(
        self, x_ng: Tensor, observed_ng: Tensor | None = None, c_nk: Tensor | None = None
    ) -> Tensor:
        """Decoded posterior mean (n, g), completing hidden entries.

        Entries with ``observed_ng`` 0 are first left out of the input; then, a few times over, they are filled with
        what was predicted for them and the sample is encoded as a whole one, which it resembles ever more. Only the
        last encoding takes steps towards the mode: the ones before would step towards what was filled in.

        References
        ----------
        Rezende, Mohamed and Wierstra (2014), Stochastic Backpropagation, appendix F, here with means for samples.
        """
        if observed_ng is not None:
            seen_ng = observed_ng.bool()
            whole_ng = hide(x_ng, observed_ng)
            for _ in range(REFINEMENTS):
                x_hat_ng = self._through(whole_ng, c_nk, self.encode_features)
                whole_ng = torch.where(seen_ng, x_ng, x_hat_ng)
            x_ng = whole_ng
        return self._through(x_ng, c_nk, self.infer)

    def _through(
        self, x_ng: Tensor, c_nk: Tensor | None, encode: Callable[..., tuple[Tensor, Tensor]]
    ) -> Tensor:
        """Decoded posterior mean (n, g)."""
        x_nf = self.project(x_ng)
        c_nk = self.complete(c_nk, x_nf)
        return self.decode(encode(x_nf, c_nk)[0], c_nk)


def _orthonormal(components_fg: Tensor, mean_g: Tensor) -> Tensor:
    """Rows of a basis that spans the components and the mean, as many as there are components."""
    outside_g = mean_g - (mean_g @ components_fg.T) @ components_fg
    if outside_g.square().mean() > NO_MEAN**2:
        components_fg = torch.cat([components_fg[:-1], mean_g[None]])
    basis_gf, triangle_ff = torch.linalg.qr(components_fg.T)
    return (basis_gf * triangle_ff.diagonal().sign()).T  # QR may turn signs
