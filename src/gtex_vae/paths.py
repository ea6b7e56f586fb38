"""Paths of the configs, of test data, and names of expression files."""

from __future__ import annotations

import os
import re
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
# suffixes of expression files
FORMATS = re.compile(r"(?i)(?:\.(?:gct|tsv|csv|txt|tab|bed|parquet|h5ad|zarr))?(?:\.(?:gz|zst|zip))?$")


def conf_dir() -> Path:
    """Find the Hydra configs, in an installed wheel or at the top of a checkout.

    Returns
    -------
    Path
        Absolute path of the folder with ``train.yaml``.

    Raises
    ------
    FileNotFoundError
        The installation is broken: the configs are in neither place.
    """
    for candidate in (PACKAGE / "conf", PACKAGE.parents[1] / "conf"):
        if (candidate / "train.yaml").is_file():
            return candidate
    raise FileNotFoundError(
        f"conf/train.yaml is neither in {PACKAGE} nor in {PACKAGE.parents[1]}: reinstall gtex-vae"
    )


def shared_dir() -> Path:
    """Folder of the real test data: ``GTEX_VAE_SHARED``, else ``../shared/data``."""
    return Path(os.environ.get("GTEX_VAE_SHARED", "../shared/data"))


def matrix_name(path: Path | str) -> str:
    """Name of an expression file without the suffixes of its format; other dots are kept.

    >>> matrix_name("/data/GTEx_v8_RNASeQCv1.1.9_gene_tpm.gct.gz")
    'GTEx_v8_RNASeQCv1.1.9_gene_tpm'
    """
    return FORMATS.sub("", Path(path).name)


def expand_home(argument: str) -> str:
    """Replace ``~`` at the start of a value of an override by the home directory, which the shell does not do there.

    >>> expand_home("data.path=~/a.csv") == f"data.path={Path.home()}/a.csv"
    True
    >>> expand_home("~logger")
    '~logger'
    """
    return re.sub(r"(?<=[=\[,'\"])~(?=/)", lambda _: str(Path.home()), argument)
