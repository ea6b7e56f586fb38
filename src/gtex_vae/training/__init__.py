"""Lightning: the training module, its callbacks and how both are built from a config."""
