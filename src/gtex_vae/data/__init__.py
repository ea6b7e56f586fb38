"""From a raw matrix to standardized batches, split by donor.

readers/, genes/, units
    Any file to a `RawMatrix`; its columns to genes; its values to log2(TPM+1).
annotations, annotation_table, annotation_columns
    Join of annotation tables to samples; reader of such tables; names and types of their columns.
preprocess/
    `RawMatrix` to processed AnnData: filters, quality control, the processed file and its fingerprint.
download/, single_cell/, simulate/
    Public releases; single cells to pseudobulk; simulated data with known truth.
splits, standardize, covariates, counts
    Split by donor; standardization; design matrix of covariates; size factors.
loading/, rows, expression_file
    Batches from memory or disk; matrices read by rows; files written by rows.
datamodule
    The Lightning DataModule that combines all this.
"""
