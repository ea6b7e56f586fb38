"""A trained model applied to any matrix.

- `trained_model`: weights, standardization and genes; `model`: the same with methods for AnnData
- `predictors`: protocols of prediction methods, and prediction in batches
- `model_input`: any matrix in the model's genes and unit; `covariates`: covariates of its samples
- `encoding`: embedding in blocks; `embedding_file`: the files of encode; `projection`: contrastive projections
- `calibration`: out-of-distribution scores (`out_of_distribution`) and predictive intervals (`intervals`)
- `generation`: new profiles; `export`: the encoder as a ``torch.export`` program
"""
