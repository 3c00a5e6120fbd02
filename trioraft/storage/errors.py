"""What can be wrong with the data of a node, and with backups of it."""


class StorageError(Exception):
    """The disk does not hold, or did not take, what it should: what, where, and what to do, in one line."""


class DiskFullError(StorageError):
    """There is no room on the disk for a snapshot."""


class DamagedError(Exception):
    """A row of the database is not what was written; the text tells which."""


class UnknownKindError(Exception):
    """An entry of the log is of a kind that this software does not know; the text tells which."""


class FileError(Exception):
    """A file that people asked for cannot be written; the text is one line."""


class FileIsThereError(FileError):
    """There is something already where such a file was to be written."""


class BackupError(FileError):
    """A backup cannot be made, or restored; the text is one line."""


class RecoveryError(Exception):
    """A cluster cannot be recovered from a node's data; the text is one line."""
