"""Files of runs, sweeps and searches on disk.

``directory``: status, claim and config of a run directory. ``continuation``: runs that continue with other settings.
``lock``: one process at a time. ``data_paths``: paths of a run's data. ``events``: TensorBoard summaries. ``study``: the
optuna study of a search and its locks. ``submission``: record of what a job was submitted with. ``sweep``: runs of a sweep.
"""
