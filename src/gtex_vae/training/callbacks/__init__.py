"""Callbacks, one behaviour of training per file.

- kl_annealing, masking: values that change from step to step
- checkpoints, early_stopping, search: decisions by a validation metric (monitored checks that it exists)
- console, retrieval_lines, figures: reports during training
- resumed_curves, unfinished_hparams: TensorBoard of resumed and unfinished runs
- finite_loss: stop at NaN; stop_now: stop at once
"""
