"""Rights: which messages the holder of each key may send to a node, and which commands it may ask for.

=============  ===================================================================================================
key            what its holder can do
=============  ===================================================================================================
cluster key    everything; only this one makes a node, so only this one can vote, and be sent the log
admin key      what a client can, and change who leads, who is a member, and the settings; make a backup
client key     what a reader can, and change keys, leases and locks, or whatever the state machine takes
reader key     see the status, and read all keys, leases and settings
status key     see the status: the nodes, their addresses and what they are doing
=============  ===================================================================================================

A client key of the first generation (:mod:`trioraft.datagrams.sealing`) is still good for all that an admin key is
good for; the node logs what it is used for that needs an admin key. Without keys everybody may do everything.
"""

from collections.abc import Mapping
from typing import Final, get_args

from trioraft.datagrams.sealing import Domain
from trioraft.messages import (
    AbandonFormation,
    Ask,
    Cancel,
    ChangeMember,
    ChangeSettings,
    ClientMessage,
    ClientRequest,
    ClientRequests,
    ClientResponse,
    ClientResponses,
    Command,
    ConsensusMessage,
    EndBackup,
    EndSession,
    Fragment,
    FragmentsReceived,
    KeepSession,
    OpenSession,
    Propose,
    ProposeBatch,
    Query,
    ReadBackup,
    ReadMessage,
    ReadSettings,
    StartBackup,
    StateDigest,
    Status,
    StatusRequest,
    StepDown,
    Transfer,
    UnknownCommand,
)

# The least key that each command needs.
NEEDED: Final[Mapping[type[Command], Domain]] = {
    Transfer: Domain.ADMIN,
    StepDown: Domain.ADMIN,
    ChangeMember: Domain.ADMIN,
    ChangeSettings: Domain.ADMIN,
    AbandonFormation: Domain.ADMIN,
    # A backup contains the sessions of all clients beside their keys, and takes room on a node's disk and one of the
    # two places it has for backups.
    StartBackup: Domain.ADMIN,
    ReadBackup: Domain.ADMIN,
    EndBackup: Domain.ADMIN,
    # A digest costs the node as much as a snapshot.
    StateDigest: Domain.ADMIN,
    OpenSession: Domain.CLIENT,
    EndSession: Domain.CLIENT,
    KeepSession: Domain.CLIENT,
    Propose: Domain.CLIENT,
    ProposeBatch: Domain.CLIENT,
    # The program around the state machine may do anything when it is asked; it knows which questions only read.
    Ask: Domain.CLIENT,
    Query: Domain.READER,
    ReadSettings: Domain.READER,
    # A cancellation concerns the sender's own requests only.
    Cancel: Domain.READER,
    UnknownCommand: Domain.READER,
}

_ORDER: Final = (Domain.STATUS, Domain.READER, Domain.CLIENT, Domain.ADMIN, Domain.CONSENSUS)
# For one release, a key of the first generation can do what it could do before.
_STANDS_FOR: Final = {Domain.FIRST_CLIENT: Domain.ADMIN, Domain.FIRST_STATUS: Domain.STATUS}

_PARTS: Final = frozenset[type]({Fragment, FragmentsReceived})
_REQUESTS: Final = frozenset({StatusRequest, ClientRequest, ClientRequests}) | _PARTS
_RESPONSES: Final = frozenset({Status, ClientResponse, ClientResponses}) | _PARTS

# The messages that a node accepts, by the domain they come in.
NODE_TAKES: Final[Mapping[Domain, frozenset[type]]] = {
    Domain.CONSENSUS: frozenset(
        {*get_args(ConsensusMessage), *get_args(ReadMessage), *get_args(ClientMessage), StatusRequest, Status}
    )
    | _PARTS,
    Domain.ADMIN: _REQUESTS,
    Domain.CLIENT: _REQUESTS,
    Domain.READER: _REQUESTS,
    Domain.STATUS: frozenset({StatusRequest, FragmentsReceived}),
    Domain.FIRST_CLIENT: _REQUESTS,
    Domain.FIRST_STATUS: frozenset({StatusRequest, FragmentsReceived}),
}

# The messages that a client, reader or monitor accepts, by the domain they come in.
CLIENT_TAKES: Final[Mapping[Domain, frozenset[type]]] = {
    Domain.CONSENSUS: frozenset(),
    Domain.ADMIN: _RESPONSES,
    Domain.CLIENT: _RESPONSES,
    Domain.READER: _RESPONSES,
    Domain.STATUS: frozenset({Status}) | _PARTS,
    Domain.FIRST_CLIENT: _RESPONSES,
    Domain.FIRST_STATUS: frozenset({Status}) | _PARTS,
}


def may(domain: Domain, needed: Domain) -> bool:
    """Check whether a key is good for something.

    Parameters
    ----------
    domain : Domain
        The domain of the key.
    needed : Domain
        The least domain that is good for it.

    Returns
    -------
    bool
        Whether it is.
    """
    return _ORDER.index(_STANDS_FOR.get(domain, domain)) >= _ORDER.index(needed)


def goes_too_far(domain: Domain, needed: Domain) -> bool:
    """Check whether a key of the first generation is used for something that the next release will refuse it.

    Parameters
    ----------
    domain : Domain
        The domain of the key.
    needed : Domain
        The least domain that is good for what it is used for.

    Returns
    -------
    bool
        Whether it is.
    """
    return domain is Domain.FIRST_CLIENT and needed is Domain.ADMIN


def key_needed(what: str, needed: Domain) -> str:
    """Word which key is needed for something.

    Parameters
    ----------
    what : str
        What it is needed for.
    needed : Domain
        The least domain that is good for it.

    Returns
    -------
    str
        One line.
    """
    article = "an" if needed is Domain.ADMIN else "a"
    derive = f"`trioraft keygen --derive {needed.label}` makes one of the cluster key"
    return f"{what} needs {article} {needed.label} key: {derive}"
