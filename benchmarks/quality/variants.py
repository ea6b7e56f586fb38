"""Variants of the default recipe: names and settings for `bed.train`."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import nn

from gtex_vae.functional.elbo import kl_standard_normal, sample_posterior
from gtex_vae.functional.posterior_mode import step_to_mode
from gtex_vae.models.vae import QUIET, VAE, VAEOutput
from gtex_vae.nn import mlp
from gtex_vae.nn.likelihood import mean_square
from gtex_vae.nn.mlp import MLP, xavier_linear
from gtex_vae.nn.norms import BatchNorm

VARIANTS: dict[str, dict] = {"default": {}}


def neighbourhood(k: int, share: float, dims: int = 64):
    """Covariance-preserving augmentation: rotate a sample's residual from its neighbourhood mean into a neighbour's."""

    def build(fold):
        y_nf = fold.train_nf
        centred = y_nf - y_nf.mean(0)
        z = centred[:, :dims]
        near = torch.cat(
            [torch.cdist(part, z).topk(k + 1, largest=False).indices[:, 1:] for part in z.split(512)]
        )
        mean_nf = y_nf[near].mean(1) * (k / (k + 1)) + y_nf / (k + 1)

        def augment(rows, progress):
            n = len(rows)
            other = near[rows, torch.randint(k, (n,))]
            angle = torch.rand(n, 1) * (0.5 * torch.pi) * (torch.rand(n, 1) < share)
            mean = mean_nf[rows]
            # both residuals from one mean, so that their covariance is that of the neighbourhood
            return mean + angle.cos() * (y_nf[rows] - mean) + angle.sin() * (y_nf[other] - mean)

        return augment

    return build


VARIANTS["rotate8"] = {"augment": neighbourhood(8, 0.5)}


def refined(start: float, steps: int = 1, rate: float = 0.8, every: int = 20):
    """Semi-amortised: late in training the means are moved towards the posterior mode before they are decoded."""

    def build():
        inverse, calls = {}, [0]

        def refine(decoder, mu_nd, y_nf):
            decoder.eval()
            if decoder not in inverse or calls[0] % every == 0:
                origin, axes = torch.zeros(1, mu_nd.shape[1]), torch.eye(mu_nd.shape[1])
                # bfloat16 would lose the weak directions of the metric
                with torch.no_grad(), torch.autocast("cpu", enabled=False):
                    j_df = torch.func.jvp(decoder, (origin.expand_as(axes).contiguous(),), (axes,))[1].float()
                inverse[decoder] = torch.linalg.inv(j_df @ j_df.T + 0.1 * axes)
            move_nd = 0.0
            z_nd = mu_nd.detach()
            for _ in range(steps):
                y_hat_nf, pull = torch.func.vjp(decoder, z_nd)
                move_nd = (
                    0.5 * move_nd
                    - rate * pull(y_hat_nf - y_nf.to(y_hat_nf.dtype))[0].float() @ inverse[decoder]
                )
                z_nd = z_nd + move_nd
            decoder.train()
            return mu_nd + (z_nd - mu_nd).detach()

        def forward(vae, y_nf, progress):
            if progress < start:
                return vae(y_nf)
            shift = int(torch.randint(len(vae.decoders), ()))
            mus, log_vars, zs, hats = [], [], [], []
            for m, encoder in enumerate(vae.encoders):
                decoder = vae.decoders[m - shift]
                mu_nd, log_var_nd = encoder(y_nf)
                mu_nd = refine(decoder, mu_nd.float(), y_nf)
                z_nd = sample_posterior(mu_nd, log_var_nd.float())
                for part, value in zip(
                    (mus, log_vars, zs, hats), (mu_nd, log_var_nd, z_nd, decoder(z_nd)), strict=True
                ):
                    part.append(value)
            calls[0] += 1
            return VAEOutput(*(torch.cat(part) for part in (mus, log_vars, zs, hats)))

        return forward

    return build


VARIANTS["refined"] = {"forward": refined(0.6)}
VARIANTS["one_layer"] = {"model": {"hidden_dims": [4096]}}
VARIANTS["decay3"] = {"weight_decay": 3.0}
VARIANTS["components512"] = {"components": 512}


class Gated(MLP):
    """Layers whose units are multiplied by gates of their own: twice as wide before the gate."""

    def __init__(self, in_features, hidden_dims, dropout):
        nn.Sequential.__init__(self)
        for width in hidden_dims:
            self.extend([xavier_linear(in_features, 2 * width, bias=False), BatchNorm(2 * width), nn.GLU()])
            if dropout:
                self.append(nn.Dropout(dropout))
            in_features = width
        self.out_features = in_features

    def linearized(self, x_nf):
        pulls = []
        for layer in self:
            pulls.append(partial(self._pull, layer, x_nf))
            x_nf = layer(x_nf)

        def pull(slope_nf):
            for back in reversed(pulls):
                slope_nf = back(slope_nf)
            return slope_nf

        return x_nf, pull

    @staticmethod
    def _pull(layer, x_nf, slope_nf):
        if not isinstance(layer, nn.GLU):
            return mlp._pull(layer, x_nf, slope_nf)
        value, gate = x_nf.chunk(2, -1)
        open_ = gate.sigmoid()
        return torch.cat([slope_nf * open_, slope_nf * value * open_ * (1.0 - open_)], -1)


def gated(hidden_dims, encoders=True):
    """Replace the MLPs of a model by gated ones."""

    def change(vae):
        dims = list(hidden_dims)
        for encoder, decoder in zip(vae.encoders, vae.decoders, strict=True):
            features, latent = encoder.skip.weight.shape[1], encoder.skip.weight.shape[0]
            decoder.mlp = Gated(latent, dims[::-1], 0.0)
            decoder.out = xavier_linear(dims[0], features)
            if encoders:
                encoder.mlp = Gated(features, dims, 0.1)
                encoder.mu, encoder.log_var = xavier_linear(dims[-1], latent), xavier_linear(dims[-1], latent)
                nn.init.zeros_(encoder.log_var.weight)
                nn.init.constant_(encoder.log_var.bias, -3.0)

    return {"change": change}


VARIANTS["gated"] = gated([1024, 512])
VARIANTS["gated_decoders"] = gated([1024, 512], encoders=False)
VARIANTS["gated_decay2"] = gated([1024, 512]) | {"weight_decay": 2.0}

VARIANTS["beta4"], VARIANTS["beta8"] = {"beta": 4.0}, {"beta": 8.0}
VARIANTS["out_decay3"] = {"out_decay": 3.0}  # of the decoders' last layers alone


def noise_floor(sd: float):
    """Posteriors no narrower than this while training."""

    def change(vae):
        for encoder in vae.encoders:
            encoder.register_forward_hook(
                lambda encoder, _, out: (
                    (out[0], out[1].clamp_min(2.0 * math.log(sd))) if encoder.training else out
                )
            )

    return {"change": change}


VARIANTS["noise0.15"], VARIANTS["noise0.3"] = noise_floor(0.15), noise_floor(0.3)


class DropSample(nn.Dropout):
    """Stochastic depth: the whole of what is not linear left out of some samples."""

    def forward(self, x_nf):
        return x_nf * nn.functional.dropout(torch.ones_like(x_nf[:, :1]), self.p, self.training)


def stochastic_depth(p: float):
    """In encoders and decoders."""

    def change(vae):
        for part in (*vae.encoders, *vae.decoders):
            part.mlp.append(DropSample(p))

    return {"change": change}


VARIANTS["depth0.1"] = stochastic_depth(0.1)


class LowRank(nn.Module):
    """A linear layer through a narrow one."""

    def __init__(self, layer, rank):
        super().__init__()
        self.down, self.up = (
            xavier_linear(layer.in_features, rank, bias=False),
            xavier_linear(rank, layer.out_features),
        )
        with torch.no_grad():
            self.up.weight.mul_(QUIET)

    @property
    def weight(self):
        return self.up.weight @ self.down.weight

    def forward(self, x_nf):
        return self.up(self.down(x_nf))


def low_rank(rank: int):
    """The decoders' last layers."""

    def change(vae):
        for decoder in vae.decoders:
            decoder.out = LowRank(decoder.out, rank)

    return {"change": change}


VARIANTS["rank256"] = low_rank(256)


def gaussian(z_nd, mu_nd, log_var_nd):
    """Log density, without the constant, summed over the last dimension."""
    return -0.5 * (log_var_nd + (z_nd - mu_nd).square() * torch.exp(-log_var_nd)).sum(-1)


def learned_prior(prior):
    """Nats by which the KL to a learned prior exceeds that to the standard normal, at the posterior's sample."""

    def build(vae, fold):
        vae.prior = prior(vae, fold)

        def extra(vae, output, y_nf):
            z_nd = output.z_nd.float()
            return (gaussian(z_nd, 0.0, torch.zeros_like(z_nd)) - vae.prior(vae, z_nd)).mean()

        return extra

    return {"extra": build}


class Mixture(nn.Module):
    """Gaussians with diagonal covariances, at first around training samples."""

    def __init__(self, vae, fold, parts=64):
        super().__init__()
        start = fold.train_nf[torch.randperm(len(fold.train_nf))[:parts]]
        self.mu_kd = nn.Parameter(vae.encoders[0].skip(start).detach())
        self.log_var_kd = nn.Parameter(torch.zeros_like(self.mu_kd))
        self.logit_k = nn.Parameter(torch.zeros(parts))

    def forward(self, vae, z_nd):
        log_nk = gaussian(z_nd[:, None], self.mu_kd, self.log_var_kd)
        return torch.logsumexp(log_nk + self.logit_k.log_softmax(0), 1)


class Vamp(nn.Module):
    """The posteriors of learned pseudo-samples, at first training samples, in equal parts."""

    def __init__(self, vae, fold, parts=64):
        super().__init__()
        self.y_kf = nn.Parameter(fold.train_nf[torch.randperm(len(fold.train_nf))[:parts]].clone())

    def forward(self, vae, z_nd):
        for encoder in vae.encoders:
            encoder.eval()
        mu_kd, log_var_kd = vae.encode_features(self.y_kf)
        for encoder in vae.encoders:
            encoder.train()
        return torch.logsumexp(gaussian(z_nd[:, None], mu_kd, log_var_kd), 1) - math.log(len(mu_kd))


class Level(nn.Module):
    """A second level of 16 dimensions above the latent: a lower bound of its density."""

    def __init__(self, vae, fold, dims=16, width=256):
        super().__init__()
        d = vae.latent_dim
        self.up = nn.Sequential(nn.Linear(d, width), nn.ELU(), nn.Linear(width, 2 * dims))
        self.down = nn.Sequential(nn.Linear(dims, width), nn.ELU(), nn.Linear(width, 2 * d))
        for net in (self.up, self.down):
            nn.init.zeros_(net[2].weight)

    def forward(self, vae, z_nd):
        posterior = self.up(z_nd).chunk(2, -1)
        mu_nd, log_var_nd = self.down(sample_posterior(*posterior)).chunk(2, -1)
        return gaussian(z_nd, mu_nd, log_var_nd) - kl_standard_normal(*posterior).sum(-1)


VARIANTS["mixture"], VARIANTS["vamp"], VARIANTS["hierarchy"] = (
    learned_prior(prior) for prior in (Mixture, Vamp, Level)
)


def importance_weighted(k: int):
    """The bound of k samples of each posterior."""

    def forward(vae, y_nf, progress):
        posteriors = [encoder(y_nf) for encoder in vae.encoders]
        mu_nd, log_var_nd = (torch.cat([part] * k) for part in map(torch.cat, zip(*posteriors, strict=True)))
        z_nd = sample_posterior(mu_nd, log_var_nd)
        shift = int(torch.randint(len(vae.decoders), ()))
        # draws outermost, then members, as in `loss`
        parts = z_nd.unflatten(0, (k, len(vae.encoders), len(y_nf)))
        hats = [vae.decoders[m - shift](parts[:, m].flatten(0, 1)) for m in range(len(vae.encoders))]
        x_hat_nf = torch.stack([hat.unflatten(0, (k, len(y_nf))) for hat in hats], 1).flatten(0, 2)
        return VAEOutput(mu_nd, log_var_nd, z_nd, x_hat_nf)

    def loss(likelihood, output, y_nf, outside_n, beta):
        mse_n = mean_square((output.x_hat_nf.float() - y_nf).square(), None, outside_n, likelihood.n_genes)
        likelihood.nats(mse_n.detach())  # its running moments
        a, b = likelihood._inverse_gamma()
        half = 0.5 * likelihood.n_genes
        mu_nd, log_var_nd, z_nd = output.mu_nd.float(), output.log_var_nd.float(), output.z_nd.float()
        ratio_n = gaussian(z_nd, 0.0, torch.zeros_like(z_nd)) - gaussian(z_nd, mu_nd, log_var_nd)
        weight_n = beta * ratio_n - (a + half) * torch.log(b + half * mse_n)
        return -torch.logsumexp(weight_n.unflatten(0, (k, -1)), 0).mean() / likelihood.n_genes

    return {"forward": lambda: forward, "loss": loss}


VARIANTS["iwae5"] = importance_weighted(5)


def consistent(vae, output, y_nf):
    """Squared deviation of members' means from their average, scaled by the posterior widths, in nats."""
    mu_mnd, log_var_mnd = (
        part.float().unflatten(0, (len(vae.encoders), -1)) for part in (output.mu_nd, output.log_var_nd)
    )
    return -gaussian(mu_mnd, mu_mnd.mean(0), log_var_mnd.detach()).mean()


VARIANTS["consistent"] = {"extra": lambda vae, fold: consistent}


def distilled(vae, fold, members=4):
    """One network drawn to the means and reconstructions of four, trained before: ``default`` saved with 4 members."""
    teacher = VAE(vae.n_genes, vae.latent_dim, n_components=fold.train_nf.shape[1], n_members=members)
    teacher.load_state_dict(fold.weights("default"))
    teacher.eval()

    def extra(vae, output, y_nf):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            mu_nd, _ = teacher.encode_features(y_nf)
            x_hat_nf = teacher.decode_features(mu_nd).float()
        off_n = (output.x_hat_nf.float() - x_hat_nf).square().sum(1) * torch.exp(-vae.likelihood.log_var)
        off_nd = (output.mu_nd.float() - mu_nd.float()).square() * torch.exp(
            -output.log_var_nd.detach().float()
        )
        return 0.5 * (off_n + off_nd.sum(1)).mean()

    return extra


VARIANTS["distilled"] = {"extra": distilled, "model": {"n_members": 1}}


def semi_amortised(vae, fold):
    """Decoders learn at the posterior's mode too, while the encoder keeps the gradient of its own mean."""

    def extra(vae, output, y_nf):
        n = len(y_nf) // len(vae.encoders)
        mu_nd = output.mu_nd.float().unflatten(0, (-1, n)).mean(0)
        precision = torch.exp(-vae.likelihood.log_var)
        with torch.no_grad():
            for decoder in vae.decoders:
                decoder.eval()
            z_nd = step_to_mode(
                lambda z_nd: vae._linearized(z_nd, None),
                mu_nd,
                y_nf[:n],
                precision,
                vae.mode_preconditioner(),
                steps=1,
            )
            for decoder in vae.decoders:
                decoder.train()
        with torch.autocast("cpu", torch.bfloat16):
            hats = [decoder(z_nd) for decoder in vae.decoders]
        return sum(0.5 * precision * (hat.float() - y_nf[:n]).square().sum(1).mean() for hat in hats) / len(
            hats
        )

    return extra


VARIANTS["semi_amortised"] = {"extra": semi_amortised}


def hidden_blocks(share: float, blocks: int = 64):
    """Blocks of co-expressed genes are hidden from the encoders: those whose strongest loading is on one component."""

    def build():
        block_g = None

        def forward(vae, y_nf, progress):
            nonlocal block_g
            if block_g is None:
                block_g = vae.basis_fg[:blocks].abs().argmax(0)
            hidden_fg = vae.basis_fg[:, (torch.rand(blocks) < share)[block_g]]
            return vae(y_nf - (y_nf @ hidden_fg) @ hidden_fg.T)

        return forward

    return {"forward": build}


VARIANTS["blocks"] = hidden_blocks(0.1)

VARIANTS |= {
    f"batch256_lr{lr}_decay{decay}": {"batch_size": 256, "lr": lr, "weight_decay": decay}
    for lr, decay in ((0.002, 1.0), (0.003, 1.0), (0.003, 1.4), (0.004, 1.0))
}
