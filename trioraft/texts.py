"""Makes texts that others wrote, such as names of nodes, safe to show: no text may control a terminal."""

import re


def printable(text: str) -> str:
    """Make a text from the network safe to print: characters that could control a terminal become ``?``.

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
    """Make a text of several lines safe to print, as :func:`printable` does, and keep tabulators.

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
    """Escape the characters that cannot be printed, as Python does, so that nothing is lost.

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


def natural(text: str) -> list[tuple[str, int]]:
    """Compute a key that sorts texts with numbers as people do: node-2 before node-10.

    Parameters
    ----------
    text : str
        The text.

    Returns
    -------
    list of tuple of str and int
        The parts of the text, each with the number that follows it.
    """
    return [(part, int(digits or -1)) for part, digits in re.findall(r"(\D*)([0-9]{0,18})", text)]
