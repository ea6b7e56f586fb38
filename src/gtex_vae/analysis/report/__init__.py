"""HTML reports, figures, model cards and TensorBoard summaries.

- ``report_data``: reads and computes what the report shows.
- ``page``, ``evaluated_tables``, ``gene_tables``, ``map_columns``: the report's page.
- ``figures``, ``latent_figures``, ``plots``, ``projections``: its figures and maps.
- ``comparisons``: model and baselines in words.
- ``alignment_page``, ``alignment_figures``: report of an alignment.
- ``sweep_summary``, ``sweep_page``: table and page of a sweep.
- ``model_card``: ``model/README.md``.
- ``tensorboard``: metrics and figures for TensorBoard.
- ``html``: templates and tables shared by the pages.
"""
