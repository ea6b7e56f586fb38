"""Pure functions of tensors and floats: no modules, no state, no input or output."""
