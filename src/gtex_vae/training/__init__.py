"""Training with Lightning.

- fit: training of a VAE, as a story; start and finish are its first and last part
- warm_start: a start from trained weights instead of a PCA
- module: the LightningModule; loss, validation, optimization, gradients, step_report, cuda_graphs are its parts
- parameter_groups, learning_rate: what the optimizer uses
- build, devices, environment: trainer, processes and precision
- hparams: final metrics and settings in TensorBoard
- alignment_fit, alignment_module: alignment of donors with their cell types
- callbacks: one behaviour of training per file
"""
