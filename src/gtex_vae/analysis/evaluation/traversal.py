"""Effect of each latent dimension on expression: decode samples with one dimension changed.

Shapes: ``n`` samples, ``g`` genes, ``d`` latent dimensions, ``s`` steps.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from gtex_vae.inference.trained_model import TrainedModel

STEPS = (-2.0, -1.0, 0.0, 1.0, 2.0)  # in standard deviations of the dimension over samples
ANCHORS, GENES = 64, 10


@torch.inference_mode()
def traversals(
    model: TrainedModel, z_nd: NDArray[np.floating], dimensions: NDArray[np.intp], *, seed: int = 0
) -> pd.DataFrame:
    """Find the genes that change most when a dimension goes from -2 to +2 standard deviations.

    The other dimensions keep the values of real samples. The path is the mean over 64 samples, because in a non-linear
    decoder the effect of a dimension depends on the tissue.

    Parameters
    ----------
    model
        Trained model.
    z_nd
        Embeddings of real samples, shape (n, d).
    dimensions
        Dimensions to change.
    seed
        Seed of the choice of samples.

    Returns
    -------
    DataFrame
        Indexed by ``dimension`` and ``rank`` (1 to 10 for increasing genes, -1 to -10 for decreasing ones):
        ``gene_id``, ``gene_name``, ``change`` from end to end in standard deviations of the gene, ``change_in_unit``
        in the model's unit, and ``at_-2`` ... ``at_2``, the gene's standardized expression along the path.
    """
    from tqdm import tqdm

    device = model.scaler.center_g.device
    random = np.random.default_rng(seed)
    anchors = random.permutation(len(z_nd))[:ANCHORS]
    anchor_nd = torch.as_tensor(np.asarray(z_nd, dtype=np.float32)[anchors], device=device)
    sd_d, mean_d = z_nd.std(axis=0, dtype=np.float64), z_nd.mean(axis=0, dtype=np.float64)
    scale_g = model.scaler.scale_g.cpu().numpy()
    ids, names = np.array(model.gene_ids, dtype=object), np.array(model.gene_names, dtype=object)
    count = min(GENES, len(ids) // 2)
    parts = []
    for dimension in tqdm(dimensions, desc="traversals", unit="dimension", leave=False, disable=None):
        path_sf = []
        for step in STEPS:
            moved_nd = anchor_nd.clone()
            moved_nd[:, dimension] = float(mean_d[dimension] + step * sd_d[dimension])
            path_sf.append(model.vae.decode_features(moved_nd).mean(dim=0))
        # expand is linear, so the mean can be taken first
        path_sg = model.vae.expand(torch.stack(path_sf)).float().cpu().numpy()
        change_g = path_sg[-1] - path_sg[0]
        order = np.argsort(change_g, kind="stable")
        up, down = order[::-1][:count], order[:count]
        chosen = np.concatenate([up, down])
        part = pd.DataFrame(
            {
                "dimension": f"z_{dimension}",
                "rank": np.concatenate([np.arange(1, count + 1), -np.arange(1, count + 1)]),
                "gene_id": ids[chosen],
                "gene_name": names[chosen],
                "change": change_g[chosen],
                "change_in_unit": (change_g * scale_g)[chosen],
            }
        )
        for step, values_g in zip(STEPS, path_sg, strict=True):
            part[f"at_{step:.0f}"] = values_g[chosen]
        parts.append(part)
    return pd.concat(parts, ignore_index=True).set_index(["dimension", "rank"])
