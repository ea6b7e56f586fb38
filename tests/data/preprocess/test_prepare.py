"""Arguments of prepare_matrix that are refused early."""

import pytest

from gtex_vae.data.preprocess.prepare import prepare_matrix
from gtex_vae.errors import ConfigError
from gtex_vae.paths import shared_dir

V6 = shared_dir() / "gtex_v6/gtex_v6.h5ad"
UNIT = "log2(TPM+1)"


@pytest.mark.parametrize("n_genes", [0, -5])
def test_no_top_genes_are_refused_before_the_matrix_is_read(n_genes):
    with pytest.raises(ConfigError, match=rf"data.prepare.top_genes={n_genes} must be at least 1"):
        prepare_matrix("none.tsv", top_genes=n_genes)
