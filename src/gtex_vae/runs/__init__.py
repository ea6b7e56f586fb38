"""Files of runs, sweeps and searches on disk.

``directory``: status, claim and config of a run directory. ``data_paths``: paths of a run's data. ``events``: TensorBoard
summaries. ``lock``: one process at a time. ``study``: the optuna study of a search and its locks. ``submission``: record of what a job was submitted with.
``sweep``: runs of a sweep.
"""
