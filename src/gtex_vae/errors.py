"""Errors that a user can cause, and so can mend: each message says what, where and the way out."""


class GtexVaeError(ValueError):
    """Base class: shown to the user as one line, without a traceback."""


class ConfigError(GtexVaeError):
    """A config key or value is unknown, of the wrong type or impossible."""


class DataError(GtexVaeError):
    """The content of an input file is wrong; the message names file, line and column where there is one."""


class SplitError(GtexVaeError):
    """Samples cannot be divided into training, validation and test sets as asked."""


class RunError(GtexVaeError):
    """A run directory is missing, incomplete, unfinished or not what the stage needs."""


class NonFiniteLossError(GtexVaeError):
    """Training met a NaN or infinite loss; the message names step, batch and likely cause."""


class DownloadError(GtexVaeError):
    """A file could not be fetched or is not the right one; the message says how to put it there by hand."""


class PrunedError(GtexVaeError):
    """A search has given this trial up; nothing is wrong with it."""
