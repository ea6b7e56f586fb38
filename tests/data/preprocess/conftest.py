"""Expression of two tissues."""

import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def tissue_data():
    """Make expression and annotations of samples of two tissues."""

    def make(n=120, g=300, seed=0):
        """Two tissues with profiles of their own, noise between samples."""
        rng = np.random.default_rng(seed)
        profile = rng.gamma(2.0, 2.0, (2, g))
        tissue = np.arange(n) % 2
        x = np.maximum(profile[tissue] + rng.normal(0, 0.5, (n, g)), 0).astype(np.float32)
        names = np.array(["liver", "lung"])[tissue]
        obs = pd.DataFrame(
            {"donor": [f"d{i // 2}" for i in range(n)], "tissue": names}, index=[f"s{i}" for i in range(n)]
        )
        return x, obs

    return make
