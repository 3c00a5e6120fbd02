"""What a node, a client, and a command that a client has proposed can fail with."""


class NodeError(Exception):
    """A node cannot start or go on; the text is one line: what is wrong, where, and what to do."""


class NoAnswerError(Exception):
    """Nobody answered in time, or no leader was found; the text is one line for people."""


class StateKindError(NodeError):
    """A node's state machine is of another kind than the state of its cluster.

    Parameters
    ----------
    kinds : str
        Both kinds, in words.
    """

    def __init__(self, kinds: str) -> None:
        super().__init__(
            f"{kinds}; nothing was changed: run the program that the other nodes run, or give this one an APP_NAME"
            " and a DATA_DIR of its own"
        )
        self.kinds = kinds


class ProposalError(Exception):
    """A command was not carried out, or it is not known whether it was; the text says which."""


class NotLeaderError(ProposalError):
    """The node does not lead: the command was not proposed."""


class BusyError(ProposalError):
    """Too much is not committed yet: the command was not proposed."""


class NotCommittedError(ProposalError):
    """The command was not carried out, and never will be."""


class RefusedError(ProposalError):
    """It was refused, for a reason that the text gives, and was not carried out."""


class LimitError(RefusedError):
    """A client has as many requests under way at a node as it may; the text names the limit."""


class UnknownError(ProposalError):
    """It is not known whether the command was carried out, or will be."""


class SessionEndedError(ProposalError):
    """The client's session ended before the command was answered: it is not known whether it was carried out."""


class BatchError(ProposalError):
    """Some of several commands have no result; the text is about the first one that has none.

    Parameters
    ----------
    text : str
        Which one, and why.
    outcomes : list of bytes or ProposalError
        For each command its result, or why there is none.
    """

    def __init__(self, text: str, outcomes: "list[bytes | ProposalError]") -> None:
        super().__init__(text)
        self.outcomes = outcomes
