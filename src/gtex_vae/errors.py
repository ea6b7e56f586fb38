"""Errors caused by the user's input. Each message says what is wrong, where, and how to fix it."""


class GtexVaeError(ValueError):
    """Base class; shown as one line without a traceback."""


class ConfigError(GtexVaeError):
    """A config key is unknown, or a value is invalid."""


class DataError(GtexVaeError):
    """The content of an input file is wrong; the message names the file and, if known, line and column."""


class SplitError(GtexVaeError):
    """Samples cannot be split into training, validation and test sets as requested."""


class RunError(GtexVaeError):
    """A run directory is missing, unfinished, in use or not of the required kind."""


class MissingDataError(RunError):
    """The data that a run was trained on cannot be read."""


class NonFiniteLossError(GtexVaeError):
    """The training loss is NaN or infinite; the message names step, batch and likely cause."""


class DownloadError(GtexVaeError):
    """A file could not be downloaded or has the wrong checksum; the message says how to place it by hand."""


class PrunedError(GtexVaeError):
    """A search stopped this trial early; not a failure."""
