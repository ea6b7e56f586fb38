"""Single cells to pseudobulk, profiles and donors."""
