"""Public releases: address, file name and, where known, sha256 of every file.

The checksums of GTEx v8 come from other projects; the others are recorded in the lock file at the first download.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from gtex_vae.errors import ConfigError

_BUCKET = "https://storage.googleapis.com/adult-gtex"
_XENA = ("https://toil.xenahubs.net/download", "https://toil-xena-hub.s3.us-east-1.amazonaws.com/download")

_SHA256 = {
    "GTEx_Analysis_2017-06-05_v8_RNASeQCv1.1.9_gene_tpm.gct.gz": (
        "ec783825ebebb8ba8525b73cb7ff9577162bc0d2e8a7fdc408283b7639c306fb"
    ),
    "GTEx_Analysis_2017-06-05_v8_RNASeQCv1.1.9_gene_reads.gct.gz": (
        "148ab1c84609608a00772b0e1431a1f87d5bf40b63071997510181d0a684a110"
    ),
    "GTEx_Analysis_v8_Annotations_SampleAttributesDS.txt": (
        "74f6ab4c34ed2648d708a0ae6e6dff324f6c86ea723ae7d1c37d76f5221148f0"
    ),
}


@dataclass(frozen=True)
class RemoteFile:
    """One published file.

    Parameters
    ----------
    kind
        `expression`, `samples` (annotations by sample) or `subjects` (by donor).
    name
        File name here.
    urls
        Addresses of the same file, the preferred one first.
    sha256
        Hex digest, if known.
    """

    kind: str
    name: str
    urls: tuple[str, ...]
    sha256: str | None = None


@dataclass(frozen=True)
class _Portal:
    """File names of one GTEx release: prefix of the whole matrix, and of the files by tissue."""

    version: str
    whole: str
    by_tissue: tuple[str, ...]
    tissues: frozenset[str]


# fmt: off
TISSUES = frozenset((
    "adipose_subcutaneous", "adipose_visceral_omentum", "adrenal_gland", "artery_aorta", "artery_coronary",
    "artery_tibial", "bladder", "brain_amygdala", "brain_anterior_cingulate_cortex_ba24",
    "brain_caudate_basal_ganglia", "brain_cerebellar_hemisphere", "brain_cerebellum", "brain_cortex",
    "brain_frontal_cortex_ba9", "brain_hippocampus", "brain_hypothalamus",
    "brain_nucleus_accumbens_basal_ganglia", "brain_putamen_basal_ganglia",
    "brain_spinal_cord_cervical_c-1", "brain_substantia_nigra", "breast_mammary_tissue",
    "cells_cultured_fibroblasts", "cells_ebv-transformed_lymphocytes", "cervix_ectocervix",
    "cervix_endocervix", "colon_sigmoid", "colon_transverse", "esophagus_gastroesophageal_junction",
    "esophagus_mucosa", "esophagus_muscularis", "fallopian_tube", "heart_atrial_appendage",
    "heart_left_ventricle", "kidney_cortex", "kidney_medulla", "liver", "lung", "minor_salivary_gland",
    "muscle_skeletal", "nerve_tibial", "ovary", "pancreas", "pituitary", "prostate",
    "skin_not_sun_exposed_suprapubic", "skin_sun_exposed_lower_leg", "small_intestine_terminal_ileum",
    "spleen", "stomach", "testis", "thyroid", "uterus", "vagina", "whole_blood",
))
# fmt: on
# Dissected parts of tissues, which v8 does not have.
# fmt: off
DISSECTED = frozenset((
    "colon_transverse_mixed_cell", "colon_transverse_mucosa", "colon_transverse_muscularis",
    "liver_hepatocyte", "liver_mixed_cell", "liver_portal_tract", "pancreas_acini", "pancreas_islets",
    "pancreas_mixed_cell", "small_intestine_terminal_ileum_lymphode_aggregate",
    "small_intestine_terminal_ileum_mixed_cell", "stomach_mixed_cell", "stomach_mucosa",
    "stomach_muscularis",
))
# fmt: on

_PORTAL = {
    "gtex_v8": _Portal("v8", "GTEx_Analysis_2017-06-05_v8_RNASeQCv1.1.9", ("2017-06-05_v8",), TISSUES),
    "gtex_v10": _Portal("v10", "GTEx_Analysis_v10_RNASeQCv2.4.2", ("v10",), TISSUES | DISSECTED),
    # The portal's files by tissue of v11 have two names.
    "gtex_v11": _Portal(
        "v11", "GTEx_Analysis_2025-08-22_v11_RNASeQCv2.4.3", ("adult_gtex_v11", "v11"), TISSUES | DISSECTED
    ),
}
RELEASES = (*_PORTAL, "gtex_xena")


def tissue_slug(tissue: str) -> str:
    """Convert a tissue's SMTSD, or the result itself, to its name in the portal's file names.

    Examples
    --------
    >>> tissue_slug("Brain - Spinal cord (cervical c-1)")
    'brain_spinal_cord_cervical_c-1'
    >>> tissue_slug("brain_spinal_cord_cervical_c-1")
    'brain_spinal_cord_cervical_c-1'
    """
    return re.sub(r"[\s()]+", "_", tissue.strip().lower().replace(" - ", " ")).strip("_")


def release_files(
    release: str, tissues: Sequence[str] | None = None, expression: str = "tpm"
) -> tuple[RemoteFile, ...]:
    """List the expression and annotation files of a release.

    Parameters
    ----------
    release
        `gtex_v8`, `gtex_v10`, `gtex_v11` or `gtex_xena`.
    tissues
        Only these, one file each, by SMTSD (`Brain - Cortex`) or name (`brain_cortex`); all by default.
    expression
        `tpm` or `counts`.

    Returns
    -------
    tuple of RemoteFile
        Expression first, then the annotations.

    Raises
    ------
    ConfigError
        The release, tissue or expression does not exist.

    Examples
    --------
    >>> [file.kind for file in release_files("gtex_v8")]
    ['expression', 'samples', 'subjects']
    >>> release_files("gtex_v10", ["Whole Blood"])[0].name
    'gene_tpm_v10_whole_blood.gct.gz'
    """
    if release not in RELEASES:
        raise ConfigError(
            f"no release {release!r}{_near(release, RELEASES)}: it is one of {', '.join(RELEASES)}"
        )
    if expression not in ("tpm", "counts"):
        raise ConfigError(f"expression={expression!r} of {release}: it is tpm or counts")
    if release == "gtex_xena":
        return _xena_files(tissues, expression)
    portal = _PORTAL[release]
    measure, by_tissue = {"tpm": ("tpm", "tpms-by-tissue"), "counts": ("reads", "counts-by-tissue")}[
        expression
    ]
    folder = f"{_BUCKET}/bulk-gex/{portal.version}/rna-seq"
    if tissues is None:
        matrices = [_file("expression", folder, f"{portal.whole}_gene_{measure}.gct.gz")]
    else:
        if not tissues:
            raise ConfigError(
                f"data.prepare.tissues=[] names no tissue of {release}: name some, or give data.prepare.tissues=null for all"
            )
        slugs = dict.fromkeys(_known_tissue(tissue, release, portal) for tissue in tissues)
        matrices = [_by_tissue(f"{folder}/{by_tissue}", portal, measure, slug) for slug in slugs]
    notes = f"{_BUCKET}/annotations/{portal.version}/metadata-files"
    prefix = f"GTEx_Analysis_{portal.version}_Annotations"
    return (
        *matrices,
        _file("samples", notes, f"{prefix}_SampleAttributesDS.txt"),
        _file("subjects", notes, f"{prefix}_SubjectPhenotypesDS.txt"),
    )


def _file(kind: str, folder: str, name: str) -> RemoteFile:
    return RemoteFile(kind, name, (f"{folder}/{name}",), _SHA256.get(name))


def _by_tissue(folder: str, portal: _Portal, measure: str, slug: str) -> RemoteFile:
    names = [f"gene_{measure}_{middle}_{slug}.gct.gz" for middle in portal.by_tissue]
    return RemoteFile("expression", names[0], tuple(f"{folder}/{name}" for name in names))


def _xena_files(tissues: Sequence[str] | None, expression: str) -> tuple[RemoteFile, ...]:
    """UCSC Xena's Toil recomputation: one matrix in log2(TPM+0.001), one table of phenotypes."""
    if tissues is not None:
        raise ConfigError(
            "gtex_xena has no files by tissue: give data.prepare.tissues=null, or data=gtex_v8, gtex_v10 or gtex_v11"
        )
    if expression != "tpm":
        raise ConfigError("gtex_xena is fetched as tpm: for counts use gtex_v8, gtex_v10 or gtex_v11")
    return tuple(
        RemoteFile(kind, name, tuple(f"{hub}/{name}" for hub in _XENA))
        for kind, name in (
            ("expression", "gtex_RSEM_gene_tpm.gz"),
            ("samples", "TcgaTargetGTEX_phenotype.txt.gz"),
        )
    )


def _known_tissue(tissue: str, release: str, portal: _Portal) -> str:
    slug = tissue_slug(tissue)
    if slug not in portal.tissues:
        raise ConfigError(
            f"{release} has no file for the tissue {tissue!r}{_near(slug, sorted(portal.tissues))}: "
            "use the portal's name, such as 'Whole Blood' or whole_blood"
        )
    return slug


def _near(name: str, names: Sequence[str]) -> str:
    """Suggest similar names, if there are any."""
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f" (did you mean {', '.join(near)}?)" if near else ""
