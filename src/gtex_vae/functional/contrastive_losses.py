"""Contrastive losses: pure functions of similarities and of the pairs that are positive.

NT-Xent and SupCon are one cross-entropy, `positive_nll`, with different positives and candidates. Symmetric InfoNCE is
the same loss in two directions, without competition among the positives of an anchor. Every use needs a learnable
temperature, an average over anchors, and pairs that are neither positive nor negative.

Shapes: ``n`` anchors, ``m`` candidates, ``p`` dimensions of a projection.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

LARGEST_SCALE = 100.0


def similarity(u_np: Tensor, v_mp: Tensor) -> Tensor:
    """Compute the cosine of every pair, shape (n, m), in float32 because a temperature magnifies rounding errors."""
    with torch.autocast(u_np.device.type, enabled=False):
        return functional.normalize(u_np.float(), dim=-1) @ functional.normalize(v_mp.float(), dim=-1).T


def negative_squared_distance(u_np: Tensor, v_mp: Tensor) -> Tensor:
    """Compute minus the squared Euclidean distance of every pair per dimension, shape (n, m), in float32."""
    with torch.autocast(u_np.device.type, enabled=False):
        u_np, v_mp = u_np.float(), v_mp.float()
        lengths_nm = u_np.square().sum(-1)[:, None] + v_mp.square().sum(-1)
        return (2.0 * u_np @ v_mp.T - lengths_nm).clamp_max(0.0) / u_np.shape[-1]


def clamped_scale(log_scale: Tensor) -> Tensor:
    r"""Compute the inverse temperature from its logarithm, at most 100.

    .. math:: 1 / \tau = \min(e^s, 100)

    Learning the logarithm keeps the temperature positive, and the cap keeps the softmax from turning into a hard
    maximum, where gradients end.

    References
    ----------
    Radford et al. (2021), Learning Transferable Visual Models from Natural Language Supervision, section 2.5.

    Examples
    --------
    >>> clamped_scale(torch.tensor([0.0, 9.0])).round()
    tensor([  1., 100.])
    """
    return log_scale.clamp(max=math.log(LARGEST_SCALE)).exp()


def positive_nll(logits_nm: Tensor, positive_nm: Tensor, candidate_nm: Tensor | None = None) -> Tensor:
    r"""Compute the cross-entropy of each anchor's candidates against its positives, averaged over anchors.

    .. math:: -\frac1n \sum_n \frac{1}{|P_n|} \sum_{p \in P_n} \log \frac{e^{s_{np}}}{\sum_{m \in C_n} e^{s_{nm}}}

    Parameters
    ----------
    logits_nm
        Similarities over temperature.
    positive_nm
        True where a candidate is a positive of the anchor. Anchors without one do not count.
    candidate_nm
        True where a pair takes part: positives and negatives; ``None`` for all. Pairs left out neither attract nor
        repel.

    Returns
    -------
    Tensor
        Scalar, nats; ln m when all similarities are equal. 0, with gradient 0, when no anchor has a positive.

    References
    ----------
    Khosla et al. (2020), Supervised Contrastive Learning, eq. 2 (the sum outside of the logarithm).

    Examples
    --------
    >>> logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    >>> nll = positive_nll(logits, torch.eye(2, dtype=torch.bool))
    >>> torch.isclose(nll, torch.nn.functional.cross_entropy(logits, torch.arange(2)))
    tensor(True)
    """
    if candidate_nm is not None:
        positive_nm = positive_nm & candidate_nm
        # a finite number: an anchor that is left without any candidate must not become NaN
        logits_nm = logits_nm.masked_fill(~candidate_nm, torch.finfo(logits_nm.dtype).min)
    log_share_nm = logits_nm.log_softmax(-1).masked_fill(~positive_nm, 0.0)
    count_n = positive_nm.sum(-1)
    nll_n = -log_share_nm.sum(-1) / count_n.clamp_min(1)
    return nll_n.sum() / (count_n > 0).sum().clamp_min(1)


def lone_positive_nll(logits_nm: Tensor, positive_nm: Tensor, candidate_nm: Tensor | None = None) -> Tensor:
    r"""Compute the cross-entropy of `positive_nll` with each positive against the negatives only.

    .. math:: -\frac1n \sum_n \frac{1}{|P_n|} \sum_{p \in P_n}
              \log \frac{e^{s_{np}}}{e^{s_{np}} + \sum_{m \in C_n \setminus P_n} e^{s_{nm}}}

    The other positives of an anchor are no negatives: with several samples of a donor the loss can reach 0, and none of
    them is pushed away for the sake of another. The same as `positive_nll` where anchors have one positive each.

    Parameters
    ----------
    logits_nm, positive_nm, candidate_nm
        As for `positive_nll`.

    References
    ----------
    Feeney and Hughes (2023), SINCERE: Supervised Information Noise-Contrastive Estimation Revisited, eq. 6.

    Examples
    --------
    >>> logits = torch.tensor([[50.0, 40.0, 0.0]])
    >>> abs(float(lone_positive_nll(logits, torch.tensor([[True, True, False]]))))
    0.0
    """
    negative_nm = ~positive_nm if candidate_nm is None else candidate_nm & ~positive_nm
    if candidate_nm is not None:
        positive_nm = positive_nm & candidate_nm
    least = torch.finfo(logits_nm.dtype).min
    negatives_n1 = logits_nm.masked_fill(~negative_nm, least).logsumexp(-1, keepdim=True)
    log_share_nm = (logits_nm - torch.logaddexp(logits_nm, negatives_n1)).masked_fill(~positive_nm, 0.0)
    count_n = positive_nm.sum(-1)
    nll_n = -log_share_nm.sum(-1) / count_n.clamp_min(1)
    return nll_n.sum() / (count_n > 0).sum().clamp_min(1)


def info_nce(logits_nm: Tensor, positive_nm: Tensor, candidate_nm: Tensor | None = None) -> Tensor:
    r"""Symmetric InfoNCE: the mean of the cross-entropies of rows and of columns.

    .. math:: \tfrac12 \big( \mathrm{CE}_\text{rows}(s) + \mathrm{CE}_\text{columns}(s) \big)

    each a softmax over all candidates of its own direction, but for other positives of the anchor
    (`lone_positive_nll`). At chance, with one positive each, it is (ln n + ln m) / 2.

    Parameters
    ----------
    logits_nm, positive_nm, candidate_nm
        As for `positive_nll`; rows are one kind of thing (donors), columns the other (their cell types).

    References
    ----------
    van den Oord et al. (2018), Representation Learning with Contrastive Predictive Coding, eq. 4; Radford et al.
    (2021), figure 3, for both directions.
    """
    turned_mn = None if candidate_nm is None else candidate_nm.T
    rows = lone_positive_nll(logits_nm, positive_nm, candidate_nm)
    return 0.5 * (rows + lone_positive_nll(logits_nm.T, positive_nm.T, turned_mn))


def nt_xent(logits_nn: Tensor) -> Tensor:
    """NT-Xent of two views: rows i and i + n/2 are one sample, all other rows are its negatives.

    Parameters
    ----------
    logits_nn
        Similarities over temperature of both views, one below the other, with themselves; shape (n, n), n even.

    References
    ----------
    Chen et al. (2020), A Simple Framework for Contrastive Learning of Visual Representations, eq. 1.
    """
    n = len(logits_nn)
    itself_nn = torch.eye(n, dtype=torch.bool, device=logits_nn.device)
    return positive_nll(logits_nn, itself_nn.roll(n // 2, dims=1), ~itself_nn)


def label_pairs(label_n: Tensor, donor_n: Tensor) -> tuple[Tensor, Tensor]:
    """Find positive and candidate pairs when labels supervise and donors are a nuisance.

    Positives share the label but not the donor. Pairs of one label and one donor are left out: attracting them would
    reward what tells donors apart. Pairs of one donor with different labels stay, as the hardest negatives.

    Parameters
    ----------
    label_n
        Label of each sample as a number, negative where unknown: such samples are no positives and no candidates.
    donor_n
        Donor of each sample as a number.

    Returns
    -------
    positive_nn, candidate_nn
        For `positive_nll`.

    Examples
    --------
    >>> positive, candidate = label_pairs(torch.tensor([0, 0, 0, 1]), torch.tensor([7, 7, 8, 7]))
    >>> positive[0].tolist(), candidate[0].tolist()
    ([False, False, True, False], [False, False, True, True])
    """
    same_label_nn = label_n[:, None] == label_n
    same_donor_nn = donor_n[:, None] == donor_n
    known_nn = (label_n >= 0)[:, None] & (label_n >= 0)
    return known_nn & same_label_nn & ~same_donor_nn, known_nn & ~(same_label_nn & same_donor_nn)


def sigmoid_loss(
    logits_nm: Tensor, bias: Tensor | float, positive_nm: Tensor, candidate_nm: Tensor | None = None
) -> Tensor:
    r"""SigLIP: every pair is a binary question of its own, with no softmax over the others.

    .. math:: -\frac1n \sum_{nm} \log \sigma\big( y_{nm} (s_{nm} + b) \big), \qquad y = \pm 1

    Parameters
    ----------
    logits_nm
        Similarities over temperature.
    bias
        Learned; at about -ln m it starts from the true share of positives.
    positive_nm, candidate_nm
        As for `positive_nll`.

    References
    ----------
    Zhai et al. (2023), Sigmoid Loss for Language Image Pre-Training, eq. 1.

    Examples
    --------
    >>> sigmoid_loss(torch.zeros(4, 4), 0.0, torch.eye(4, dtype=torch.bool))  # 4 ln 2
    tensor(2.7726)
    """
    signed_nm = torch.where(positive_nm, 1.0, -1.0) * (logits_nm + bias)
    losses_nm = -functional.logsigmoid(signed_nm)
    if candidate_nm is not None:
        losses_nm = losses_nm * candidate_nm
    return losses_nm.sum() / len(logits_nm)


def vicreg(
    u_np: Tensor, v_np: Tensor, *, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0
) -> Tensor:
    r"""Variance, invariance and covariance of two views, with no negatives.

    .. math:: \lambda \frac{1}{np} \lVert U - V \rVert^2
              + \mu \sum_{Z \in \{U, V\}} \frac1p \sum_j \max(0, 1 - \sqrt{\mathrm{Var}(z_j) + \epsilon})
              + \nu \sum_{Z} \frac1p \sum_{i \ne j} \mathrm{Cov}(Z)_{ij}^2

    Parameters
    ----------
    u_np, v_np
        Projections of the two views, row by row the same sample; at least two rows.
    invariance, variance, covariance
        Weights of the three terms.

    References
    ----------
    Bardes, Ponce and LeCun (2022), VICReg, eq. 1-6.
    """
    u_np, v_np = u_np.float(), v_np.float()
    loss = invariance * functional.mse_loss(u_np, v_np)
    n, p = u_np.shape
    for z_np in (u_np - u_np.mean(0), v_np - v_np.mean(0)):
        covariance_pp = z_np.T @ z_np / (n - 1)
        variance_p = covariance_pp.diagonal()
        loss = loss + variance * functional.relu(1.0 - (variance_p + 1e-4).sqrt()).mean()
        loss = loss + covariance * (covariance_pp.square().sum() - variance_p.square().sum()) / p
    return loss
