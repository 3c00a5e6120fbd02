"""Texts that others made, such as the names of nodes, before they are shown to people: nothing steers a terminal."""


def printable(text: str) -> str:
    """Make a text from the network safe to print: whatever could steer a terminal becomes ``?``.

    Parameters
    ----------
    text : str
        A name, or a message of a node.

    Returns
    -------
    str
        One line that can be printed.
    """
    return text if text.isprintable() else "".join(each if each.isprintable() else "?" for each in text)


def printable_lines(text: str) -> str:
    """Make a text of several lines safe to print, as :func:`printable` does, but for tabulators.

    Parameters
    ----------
    text : str
        The text.

    Returns
    -------
    str
        As many lines.
    """
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))


def escaped(text: str) -> str:
    """Write what cannot be printed in a text as Python does, so that nothing of it is lost.

    Parameters
    ----------
    text : str
        The text.

    Returns
    -------
    str
        One line that can be printed.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
