"""HTML reports, figures, model cards and TensorBoard summaries."""
