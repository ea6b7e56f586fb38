"""What is varied around the default recipe: a name to settings that `bed.train` reads."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from gtex_vae.functional.elbo import sample_posterior
from gtex_vae.models.vae import VAEOutput
from gtex_vae.nn import mlp
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
