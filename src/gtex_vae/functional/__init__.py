"""Pure functions of tensors and floats, without modules, state, input or output.

- elbo, posterior_mode: terms of the objective, and steps to the mode of a posterior
- masking, seeds, schedules: hidden entries, seeds of a step, and values that depend on progress
- contrastive_losses, paired_directions: agreement of two views, as losses and in closed form
- basis, within_groups: coordinates in an orthonormal basis, and linear effects within groups
"""
