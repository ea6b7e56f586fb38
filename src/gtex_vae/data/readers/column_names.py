"""Names of columns that do not hold the expression of a sample or a gene."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from gtex_vae.data.annotation_columns import COLUMN_NAMES

_GENE_ANNOTATION = frozenset(
    [
        "chr",
        "chrom",
        "chromosome",
        "chromosome_name",
        "chromosome_scaffold_name",
        "seqname",
        "seqnames",
        "reference",
        "contig",
        "start",
        "end",
        "stop",
        "strand",
        "width",
        "tss",
        "length",
        "gene_length",
        "exon_length",
        "transcript_length",
        "transcript_length_including_utrs_and_cds",
        "length_bp",
        "eff_length",
        "effective_length",
        "effectivelength",
        "efflength",
        "merged_length",
        "union_length",
        "median_length",
        "mean_length",
        "n_exons",
        "gene_start",
        "gene_end",
        "start_position",
        "end_position",
        "gene_start_bp",
        "gene_end_bp",
        "transcription_start_site_tss",
        "gc",
        "gc_content",
        "gc_percent",
        "percentage_gc_content",
        "percentage_gene_gc_content",
        "gene_gc_content",
        "gene_content",
        "phenotype_id",
        "pid",
        "gid",
        "gene_id",
        "geneid",
        "ensembl_id",
        "ensembl",
        "ensembl_gene_id",
        "gene_stable_id",
        "gene_stable_id_version",
        "id",
        "entrez_id",
        "entrez",
        "entrezid",
        "entrezgene",
        "entrezgene_id",
        "entrez_gene_id",
        "entrez_gene",
        "ncbi_gene_id",
        "ncbi_gene_formerly_entrezgene_id",
        "hgnc_id",
        "hgnc",
        "hgnc_symbol",
        "hugo_symbol",
        "hugo",
        "name",
        "description",
        "gene_name",
        "genename",
        "gene_symbol",
        "genesymbol",
        "symbol",
        "gene",
        "external_gene_name",
        "associated_gene_name",
        "biotype",
        "gene_type",
        "genetype",
        "gene_biotype",
        "transcript_id",
        "transcript_ids_s",
        "basemean",
        "base_mean",
        "log2foldchange",
        "log2fc",
        "logfc",
        "lfcse",
        "stat",
        "pvalue",
        "p_value",
        "pval",
        "padj",
        "adj_p_val",
        "p_adj",
        "fdr",
        "qvalue",
        "aveexpr",
        "level",
        "tag",
        "havana_gene",
        "source",
        "version",
        "gene_version",
        "loc_id",
        "tracking_id",
        "locus",
        "class_code",
    ]
)
_COVARIATES = frozenset(name for names in COLUMN_NAMES.values() for name in names)
#: Columns of quantification files of one sample, best first: counts, then TPM, then RPKM or FPKM.
_QUANTIFICATION = (
    *("unstranded", "expected_count", "numreads", "est_counts", "pme_expected_count"),
    *("tpm_unstranded", "tpm", "pme_tpm", "fpkm_unstranded", "fpkm", "rpkm", "pme_fpkm"),
    *("stranded_first", "stranded_second", "fpkm_uq_unstranded", "coverage", "isopct", "posterior_mean_count"),
    *("posterior_standard_deviation_of_count", "pme_isopct", "tpm_ci_lower_bound", "tpm_ci_upper_bound"),
    *("fpkm_ci_lower_bound", "fpkm_ci_upper_bound", "isopct_from_pme_tpm", "tpm_coefficient_of_quartile_variation"),
    *("fpkm_coefficient_of_quartile_variation", "fpkm_conf_lo", "fpkm_conf_hi"),
)  # fmt: skip
# names of files that pipelines give to every sample; the folder has the sample's name then
_SAME_FOR_ALL = {"quant", "abundance", "rna_seq", "rsem", "stringtie", "genes", "t_data", "ReadsPerGene"}


def spelling(name: str) -> str:
    """Spell a column name in lower case with underscores.

    >>> spelling("Gene start (bp)"), spelling("#Chr"), spelling("Entrez.Gene.Id")
    ('gene_start_bp', 'chr', 'entrez_gene_id')
    """
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def describes_genes(name: str) -> bool:
    """Check whether a column describes genes and is not a sample.

    >>> describes_genes("Entrez_Gene_Id"), describes_genes("GTEX-1117F")
    (True, False)
    """
    return spelling(name) in _GENE_ANNOTATION


def describes_samples(name: str) -> bool:
    """Check whether a column describes samples and is not a gene.

    >>> describes_samples("sex"), describes_samples("TP53")
    (True, False)
    """
    return spelling(name) in _COVARIATES


def choose_quantification(names: Sequence[str]) -> str | None:
    """Choose the column to read if all columns are measures of one sample; None otherwise.

    >>> choose_quantification(["Coverage", "FPKM", "TPM"]), choose_quantification(["S1", "S2"])
    ('TPM', None)
    """
    by_spelling = {spelling(name): name for name in names}
    if len(names) < 2 or not set(by_spelling) <= set(_QUANTIFICATION):
        return None
    return next(by_spelling[name] for name in _QUANTIFICATION if name in by_spelling)


def sample_of(path: Path) -> str:
    """Name the sample of a quantification file: the file's name up to the first point, or else its folder.

    >>> sample_of(Path("S01.gene_abund.tab.gz")), sample_of(Path("quants/S01/quant.genes.sf"))
    ('S01', 'S01')
    """
    stem = path.name.split(".")[0]
    return path.resolve().parent.name if stem in _SAME_FOR_ALL else stem
