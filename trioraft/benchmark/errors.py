class BenchmarkError(Exception):
    """A benchmark cannot go on; the text is one line."""
