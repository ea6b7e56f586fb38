"""Figures show the values and labels of their data."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from sklearn.decomposition import PCA

from gtex_vae.analysis.report.plots import latent_map, reconstruction_scatter, tissue_colors, tissue_markers

TISSUES = [f"group {i // 3:02d} - detail {i:02d}" for i in range(53)]
# Machado et al. (2009), severity 1: linear RGB with color vision deficiency
SIGHT = {
    "full": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}  # fmt: skip
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(rgb: np.ndarray, sight: str) -> np.ndarray:
    """Convert sRGB colors to CIELAB, shape (n, 3), for one kind of color vision."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = np.clip(linear @ np.asarray(SIGHT[sight]).T, 0, 1) @ TO_XYZ.T / TO_XYZ.sum(1)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)


@pytest.mark.parametrize("sight", SIGHT)
def test_53_tissues_are_told_apart_by_shape_or_colour(sight):
    colors, markers = tissue_colors(TISSUES), tissue_markers(TISSUES)
    assert len(set(colors.values())) == 53
    seen = lab(np.array([colors[name] for name in TISSUES]), sight)
    shape = np.array([markers[name] for name in TISSUES])
    distance = np.linalg.norm(seen[:, None] - seen[None], axis=2)
    alike = (shape[:, None] == shape[None]) & ~np.eye(53, dtype=bool)
    assert distance[alike].min() > 8.0  # CIE76; 2.3 is just noticeable
    assert np.linalg.norm(seen - [100, 0, 0], axis=1).min() > 20  # no color is close to white


def test_details_of_a_group_are_alike_in_hue_and_differ_in_shape():
    colors, markers = tissue_colors(TISSUES), tissue_markers(TISSUES)
    for one, other in itertools.pairwise(TISSUES):
        assert markers[one] != markers[other]
        assert np.abs(np.subtract(colors[one], colors[other])).max() < 0.15


def test_colours_do_not_depend_on_the_order_or_number_of_samples():
    assert tissue_colors(TISSUES) == tissue_colors(TISSUES[::-1] + TISSUES[:5])
    assert tissue_markers(TISSUES) == tissue_markers(TISSUES[::-1] + TISSUES[:5])


@pytest.mark.parametrize("shape", [(200, 16), (20, 64), (60, 2)])
def test_map_is_sklearns_pca(shape):
    rng = np.random.default_rng(0)
    mu_nd = rng.normal(size=shape) @ rng.normal(size=(shape[1], shape[1])) + 3.0
    tissue = rng.choice(TISSUES[:7], shape[0])
    pca = PCA(2, svd_solver="full").fit(mu_nd)
    expected = pca.transform(mu_nd)
    axes = latent_map(mu_nd, tissue).axes[0]
    drawn = {artist.get_label(): artist.get_offsets() for artist in axes.collections}
    assert set(drawn) == set(tissue)
    for name, xy in drawn.items():
        for k in range(2):  # the sign of a component is arbitrary, but equal for all tissues
            np.testing.assert_allclose(np.abs(xy[:, k]), np.abs(expected[tissue == name, k]), atol=1e-8)
    whole = np.concatenate([drawn[name] for name in sorted(drawn)])
    order = np.concatenate([expected[tissue == name] for name in sorted(drawn)])
    np.testing.assert_allclose(np.abs((whole * order).sum(0)), (order**2).sum(0))
    assert f"{pca.explained_variance_ratio_[0]:.0%}" in axes.get_xlabel()
    assert f"{pca.explained_variance_ratio_[1]:.0%}" in axes.get_ylabel()


def test_legend_names_all_53_tissues_inside_the_figure():
    rng = np.random.default_rng(0)
    names = [name.ljust(41, "x") for name in TISSUES]  # length of the longest name in GTEx
    figure = latent_map(rng.normal(size=(106, 8)), names * 2)
    figure.savefig(io.BytesIO())  # lays out
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == sorted(names)
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= figure.bbox.x1
    assert box.y1 < figure.axes[0].get_window_extent().y0


def test_map_of_one_dimension_and_of_a_collapsed_embedding():
    line = latent_map(np.arange(6.0)[:, None], ["a", "b"] * 3).axes[0]
    assert all((artist.get_offsets()[:, 1] == 0).all() for artist in line.collections)
    collapsed = latent_map(np.ones((6, 4)), ["a"] * 6)
    collapsed.savefig(io.BytesIO())
    assert "0%" in collapsed.axes[0].get_xlabel()


def test_scatter_counts_entries_and_states_r2_over_all_of_them():
    rng = np.random.default_rng(0)
    x_ng = rng.normal(size=(300, 100))
    x_hat_ng = 0.8 * x_ng + 0.1 * rng.normal(size=x_ng.shape)
    r2 = 1 - ((x_ng - x_hat_ng) ** 2).sum() / ((x_ng - x_ng.mean()) ** 2).sum()
    axes = reconstruction_scatter(x_ng, x_hat_ng).axes[0]
    assert f"{r2:.3f}" in axes.get_title()
    counts = axes.collections[0].get_array()
    assert 0.99 * 20_000 < counts.sum() <= 20_000
    assert axes.get_xlim() == axes.get_ylim()
    diagonal = axes.lines[0]
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())


def test_scatter_of_few_entries_and_the_same_ones_for_a_seed():
    rng = np.random.default_rng(0)
    x_ng, x_hat_ng = rng.normal(size=(2, 5, 7))
    figures = [reconstruction_scatter(x_ng, x_hat_ng, seed=seed) for seed in (1, 1, 2)]
    first, again, other = (figure.axes[0].collections[0].get_offsets() for figure in figures)
    np.testing.assert_array_equal(first, again)
    assert first.shape != other.shape or (first != other).any()
