"""What the cluster of a seed is like, and what it meets: never everything in each (swarm testing)."""

import random
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from tests.simulation.network import Weather
from trioraft.consensus.timing import Timing

# Clocks may differ in rate by one per cent; so each may be half of that off, less what rounding takes.
RATE_MAX: Final = 0.0049


# The fault that no theme draws: every second life has it, whatever its theme is.
ROGUE: Final = "rogue numbers"


class Profile(Struct, frozen=True):
    """One life's circumstances."""

    name: str
    nodes: int
    expect: int
    spares: int  # how many of the nodes only ever join
    wipes: int  # how many disks may be lost before there is a cluster
    timings: tuple[Timing, ...]  # the first is what all start with
    older: float  # how likely a node has older software at first
    weather: Weather
    clock: str  # "exact", "random" or "extreme"
    disk: float  # mean seconds of one write
    late: float  # how late timers fire at most
    ending: str  # how long leader work takes to end: "quick", "random" or "slow"
    rates: dict[str, float]  # how many faults of a kind come in one lower election timeout
    ambush: float  # how likely a node is struck when it has just done something that matters
    silence: float  # how likely a leader is heard no more when it was just elected, or commits an older entry
    events: int
    until_formed: bool
    commands: float  # how many requests come in one lower election timeout
    clients: int  # how many clients have sessions
    batch_bytes: int  # of entries in one message
    snapshot_entries: int  # a snapshot is taken when so many have been applied
    keep: int  # so many entries that a snapshot covers are kept
    reads: float  # which part of the requests are reads
    lease_reads: bool  # whether the settings may say that they go by the lease
    memory: bool  # whether the nodes run with ``DURABILITY=memory``
    store: bool  # whether the state machine is the key-value store
    follows: bool = False  # whether the members follow the service, by the autopilot; nobody else changes them
    dns: dict[str, float] = {}  # how likely an answer of DNS is of a kind; all others are good
    lingers: bool = False  # whether DNS has replicas whose process is down
    leaves: float = 0.0  # how likely a replica asks to leave before it stops for good
    dead_after: float = 0.0  # DEAD_SERVER_MILLIS, in seconds
    min_voters: int = 0
    max_voters: int = 0

    @property
    def unit(self) -> float:
        """The lower election timeout, which all faults are measured by."""
        return self.timings[0].lower


class Theme(Struct, frozen=True):
    """What the lives of one profile have in common.

    Attributes
    ----------
    always : tuple of str
        Faults that each of them has.
    likely : float
        How likely each has any other.
    pace : float
        How many times more often than usual faults come.
    nodes : tuple of int
        Draws the number of nodes.
    most : float
        How likely it is that fewer nodes than all are expected at the formation.
    ambush : float
        How likely a node is struck when it has just done something that matters.
    silence : float
        How likely a leader is heard no more, and crashes, when it was just elected, or commits an older entry.
    loss, slow, delay : tuple of float
        Draw the weather; the delay in lower election timeouts.
    disk, late : tuple of float
        Draw how long a write takes, and how late timers fire, in lower election timeouts.
    clock, ending : tuple of str
        Draw how exact the clocks are, and how long leader work takes to end.
    events : tuple of int
        Draws how many events there are until all faults are over.
    until_formed : bool
        Whether they are over, too, a little after there is a cluster.
    commands : tuple of float
        Draws how many requests of clients come in one lower election timeout.
    batch_bytes, snapshot_entries : tuple of int
        Draw how many bytes of entries are in one message, and after how many a snapshot is taken.
    reads : float
        Which part of the requests are reads.
    lease_reads : float
        How likely the settings let reads go by the lease.
    spares : tuple of int
        Draws how many nodes more there are, that only ever join, where the members change.
    memory : bool
        Whether the nodes run with ``DURABILITY=memory``: each is lost when it ends.
    store : float
        How likely the state machine is the key-value store.
    follows : bool
        Whether the members follow a service whose replicas come and go, by the autopilot, and no operator changes
        them.
    """

    always: tuple[str, ...] = ()
    likely: float = 0.0
    pace: float = 1.0
    nodes: tuple[int, ...] = (1, 2, 3, 3, 3, 3, 3, 4, 5, 5, 5, 7, 9)
    most: float = 0.4
    ambush: float = 0.05
    silence: float = 0.0
    loss: tuple[float, ...] = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3)
    slow: tuple[float, ...] = (0.0, 0.02, 0.1, 0.3)
    delay: tuple[float, ...] = (0.0003, 0.001, 0.01, 0.03)
    disk: tuple[float, ...] = (0.0001, 0.001, 0.01, 0.05)
    late: tuple[float, ...] = (0.0, 0.0, 0.01, 0.05)
    clock: tuple[str, ...] = ("exact", "random", "extreme", "extreme")
    ending: tuple[str, ...] = ("quick", "random", "slow", "slow")
    events: tuple[int, ...] = (1000, 2000, 4000, 8000)
    until_formed: bool = False
    commands: tuple[float, ...] = (0.0, 0.0, 2.0, 10.0)
    batch_bytes: tuple[int, ...] = (50, 1024, 1024)
    snapshot_entries: tuple[int, ...] = (10, 100, 1000)
    reads: float = 0.24
    lease_reads: float = 0.5
    spares: tuple[int, ...] = (0, 0, 1, 2)
    memory: bool = False
    store: float = 0.25
    follows: bool = False


_BASES: Final = (
    Timing(lower=3.0, upper=5.0, heartbeat=0.5, stop_grace=2.0),
    Timing(lower=3.0, upper=5.0, heartbeat=0.5, stop_grace=5.0),
    Timing(lower=1.0, upper=2.0, heartbeat=0.2, stop_grace=0.5),
    Timing(lower=1.5, upper=2.0, heartbeat=0.3, stop_grace=8.0),
    Timing(lower=0.5, upper=1.5, heartbeat=0.1, stop_grace=0.0),
    Timing(lower=2.0, upper=2.2, heartbeat=0.4, stop_grace=1.0),
)

# The mean number of each fault in a lower election timeout, when a seed has it at all. Ambushes come at other times.
_RATES: Final[dict[str, float]] = {
    "isolate": 0.15,
    "split": 0.15,
    "one-way": 0.2,
    "partial": 0.15,
    "flap": 0.05,
    "storm": 0.1,
    "pause": 0.2,
    "crash": 0.2,
    "restart": 0.15,
    "reconfigure": 0.1,
    "restart all": 0.04,
    "rolling restart": 0.04,
    "upgrade": 0.3,
    "transfer": 0.15,
    "change": 0.3,
    "stop": 0.08,
    "work failure": 0.03,
    "disk stall": 0.15,
    "full disk": 0.08,
    "disk error": 0.08,
    "damage": 0.05,
    "rot": 0.2,
    "slow node": 0.1,
    "clock drift": 0.2,
    "clock leap": 0.1,
    "wipe": 0.3,
    "abandon": 0.3,
    "freeze": 0.03,
    "ambush": 1.0,
}
KINDS: Final = tuple(_RATES)
# What befalls a service, and DNS; only where the members follow it.
_SERVICE_RATES: Final[dict[str, float]] = {
    "scale up": 0.15,
    "scale down": 0.1,
    "replace": 0.06,
    "move": 0.1,
    "leave": 0.1,
    "hide": 0.12,
    "dns": 0.1,
    "forsake": 0.25,
}
# What an answer of DNS may be instead of good.
LIES: Final = ("failure", "no such name", "truncated", "stale", "foreign", "mixed")
# What an operator does, or must do then, and what no rule that goes by clocks can bear.
_NOT_FOLLOWED: Final = ("change", "wipe", "abandon", "clock leap")
# No timeout protects leader work from the first, nor what goes by clocks from the second: such lives show less.
_RARE: Final = ("freeze", "clock leap")

# How many volleys of numbers that nobody can mean come in one lower election timeout, where a member has gone wrong.
_ROGUE_RATE: Final = 0.3
# Only themes that name them have these.
_ON_PURPOSE: Final = ("rot",)

THEMES: Final[dict[str, Theme]] = {
    "all": Theme(likely=0.4),
    "everything": Theme(always=tuple(kind for kind in KINDS if kind not in _RARE)),
    "formation": Theme(
        always=("isolate", "one-way", "partial", "pause", "crash", "restart", "wipe", "abandon", "ambush"),
        likely=0.1,
        nodes=(3, 4, 5, 5, 6, 7, 9),
        most=0.8,
        ambush=0.4,
        disk=(0.001, 0.05, 0.3),
        events=(1000, 2000, 4000, 8000),
        until_formed=True,
    ),
    "ambush": Theme(always=("ambush", "transfer", "one-way"), ambush=0.2),
    "election": Theme(
        always=("isolate", "split", "one-way", "pause", "crash", "restart", "transfer", "disk stall"),
        likely=0.1,
    ),
    "lease": Theme(
        always=("isolate", "one-way", "transfer"),
        likely=0.1,
        pace=2.0,
        nodes=(2, 3, 3, 5),
        loss=(0.0, 0.05),
        slow=(0.3, 0.5),
        delay=(0.0003, 0.001),
        commands=(0.0, 2.0),
    ),
    "work": Theme(
        always=("isolate", "one-way", "pause", "crash", "restart", "reconfigure", "transfer", "stop", "work failure"),
        likely=0.1,
        delay=(0.0003, 0.0003, 0.01),
    ),
    "drift": Theme(
        always=("isolate", "pause"),
        pace=0.7,
        nodes=(2, 3, 3, 5),
        loss=(0.0,),
        slow=(0.0,),
        delay=(0.0003,),
        disk=(0.0001,),
        late=(0.0,),
        clock=("extreme",),
        ending=("slow",),
        commands=(0.0,),
        store=0.0,
    ),
    "transfer": Theme(always=("transfer", "stop", "storm", "restart", "pause", "one-way")),
    "restart": Theme(always=("crash", "restart", "restart all", "reconfigure", "disk stall")),
    "log": Theme(
        always=("isolate", "crash", "restart", "restart all", "transfer", "disk stall"),
        likely=0.1,
        commands=(10.0, 30.0, 100.0),
        loss=(0.0, 0.01, 0.1),
        events=(4000, 8000),
    ),
    "divergence": Theme(
        always=("isolate", "one-way", "crash", "restart", "transfer", "disk stall", "ambush"),
        pace=1.5,
        nodes=(3, 5, 5, 5),
        ambush=0.4,
        loss=(0.0, 0.05, 0.2),
        slow=(0.0, 0.1, 0.3),
        delay=(0.001, 0.01, 0.03),
        commands=(3.0, 10.0),
        batch_bytes=(20,),
        snapshot_entries=(10, 1000),
        events=(4000, 8000),
    ),
    "figure 8": Theme(
        always=("isolate", "split", "one-way", "pause", "crash", "disk stall"),
        nodes=(3, 3, 5),
        silence=0.5,
        loss=(0.0, 0.05, 0.3),
        delay=(0.001,),
        disk=(0.0001, 0.001),
        commands=(0.3, 2.0),
        batch_bytes=(20,),
        snapshot_entries=(1000,),
        events=(8000,),
    ),
    "reorder": Theme(
        always=("transfer", "restart"),
        likely=0.1,
        pace=0.5,
        loss=(0.0, 0.02),
        slow=(0.3, 0.5),
        commands=(10.0, 30.0, 100.0),
        batch_bytes=(20, 100),
        events=(4000, 8000),
    ),
    "snapshot": Theme(
        always=("isolate", "crash", "restart", "restart all", "one-way"),
        likely=0.1,
        nodes=(2, 3, 3, 5),
        commands=(10.0, 30.0),
        snapshot_entries=(5, 20),
        events=(4000, 8000),
    ),
    "reads": Theme(
        always=("isolate", "one-way", "pause", "transfer"),
        likely=0.05,
        pace=2.0,
        nodes=(2, 3, 3, 5),
        loss=(0.0, 0.05),
        slow=(0.0, 0.3),
        delay=(0.0003, 0.001),
        disk=(0.0001, 0.001),
        late=(0.0, 0.01),
        clock=("extreme",),
        commands=(30.0, 100.0),
        events=(4000, 8000),
        reads=0.6,
        lease_reads=1.0,
    ),
    "members": Theme(
        always=("change", "isolate", "one-way", "crash", "restart", "transfer", "ambush"),
        likely=0.1,
        nodes=(1, 2, 3, 3, 4, 5),
        spares=(0, 1, 2, 3),
        ambush=0.3,
        commands=(0.0, 2.0, 10.0),
        snapshot_entries=(5, 20, 1000),
        events=(4000, 8000),
    ),
    "churn": Theme(
        always=("change", "ambush"),
        pace=6.0,
        nodes=(1, 2, 3, 3, 4, 5),
        spares=(1, 2, 3),
        ambush=0.4,
        loss=(0.0, 0.05),
        slow=(0.0, 0.1),
        commands=(2.0, 10.0),
        snapshot_entries=(5, 1000),
        events=(4000, 8000),
    ),
    "disks": Theme(
        always=("full disk", "disk error", "damage", "rot", "disk stall", "crash", "restart", "isolate"),
        likely=0.1,
        nodes=(3, 3, 4, 5, 5, 7),
        spares=(0, 1),
        disk=(0.001, 0.01, 0.05),
        commands=(2.0, 10.0, 30.0),
        snapshot_entries=(5, 20, 1000),
        events=(4000, 8000),
    ),
    "rot": Theme(
        always=("rot", "isolate", "crash"),
        pace=2.0,
        nodes=(3, 5, 5),
        loss=(0.0, 0.05),
        slow=(0.0,),
        delay=(0.0003, 0.001),
        disk=(0.0001, 0.001),
        commands=(2.0, 4.0),
        snapshot_entries=(20, 40),
        events=(4000, 8000),
    ),
    "clocks": Theme(
        always=("clock drift", "clock leap", "isolate", "pause", "transfer", "crash"),
        likely=0.1,
        clock=("extreme",),
        commands=(2.0, 10.0),
    ),
    "slow": Theme(
        always=("slow node", "transfer", "restart", "rolling restart", "one-way"),
        likely=0.1,
        pace=1.5,
        commands=(2.0, 10.0, 30.0),
    ),
    "store": Theme(
        always=("isolate", "one-way", "pause", "crash", "restart", "transfer"),
        likely=0.1,
        nodes=(2, 3, 3, 5),
        loss=(0.0, 0.05, 0.2),
        commands=(10.0, 30.0),
        snapshot_entries=(20, 100),
        events=(4000, 8000),
        reads=0.4,
        store=1.0,
    ),
    "memory": Theme(
        always=("isolate", "one-way", "pause", "crash", "restart", "transfer", "disk stall"),
        pace=0.7,
        nodes=(3, 3, 5, 5, 7),
        disk=(0.001, 0.01, 0.05),
        commands=(2.0, 10.0, 30.0),
        snapshot_entries=(5, 20, 1000),
        events=(4000, 8000),
        memory=True,
    ),
    "upgrade": Theme(
        always=("upgrade", "change", "isolate", "one-way", "crash", "transfer", "reconfigure", "ambush"),
        nodes=(2, 3, 3, 4, 5),
        ambush=0.2,
        loss=(0.0, 0.05, 0.2),
        commands=(10.0, 30.0),
        snapshot_entries=(5, 20, 1000),
        events=(4000, 8000),
        lease_reads=1.0,
    ),
    "autopilot": Theme(
        always=("isolate", "one-way", "pause", "crash", "restart", "transfer", "ambush"),
        likely=0.05,
        pace=0.3,
        nodes=(1, 2, 3, 3, 3, 4, 5, 5),
        loss=(0.0, 0.0, 0.05, 0.2),
        disk=(0.0001, 0.001, 0.01),
        commands=(0.0, 2.0, 10.0),
        snapshot_entries=(5, 20, 1000),
        events=(5000, 10000),
        spares=(1, 2, 3, 4),
        follows=True,
    ),
    "calm": Theme(loss=(0.0,), slow=(0.0,), delay=(0.001,)),
}


# What a mixed run is made of; the members follow either the operator or the service.
_MIX: Final = (
    *("all", "all", "all", "everything"),
    *(name for name, theme in THEMES.items() if name not in {"all", "rot", "calm"} and not theme.follows),
)
NAMES: Final = ("mixed", *THEMES)


def draw(random_source: random.Random, name: str, nodes: int) -> Profile:
    """Draw the circumstances of one life; 0 nodes leave the number to chance."""
    chance = random_source.random
    choice = random_source.choice
    name = choice(_MIX) if name == "mixed" else name
    theme = THEMES[name]
    rates = {
        kind: rate * (1 if kind == "ambush" else theme.pace) * choice((0.3, 1.0, 1.0, 2.0))
        for kind, rate in _RATES.items()
        if kind in theme.always
        or (kind not in _ON_PURPOSE and chance() < theme.likely * (0.25 if kind in _RARE else 1))
    }
    base = choice(_BASES)
    unit = base.lower
    number = nodes or choice(theme.nodes)
    expect = random_source.randint(number // 2 + 1, number) if chance() < theme.most else number
    spares = choice(theme.spares) if ("change" in rates or theme.follows) and not nodes else 0
    drawn = Profile(
        name=name,
        nodes=number + spares,
        expect=expect,
        spares=spares,
        # a lost disk comes back as one more node, and those that are expected must be most of all there ever were
        wipes=max(0, min(2, 2 * expect - number - 1, (number - 1) // 2)),
        timings=tuple(_neighbours(base, random_source)),
        older=choice((0.3, 0.7, 1.0)) if "upgrade" in rates else 0.0,
        weather=Weather(
            loss=choice(theme.loss),
            duplicate=0.0 if name == "calm" else choice((0.0, 0.02, 0.1)),
            slow=choice(theme.slow),
            delay=unit * choice(theme.delay),
            held_up=unit * choice((0.05, 0.3, 1.0)),
        ),
        clock=choice(theme.clock),
        disk=unit * choice(theme.disk),
        late=unit * choice(theme.late),
        ending=choice(theme.ending),
        rates=rates,
        ambush=theme.ambush * rates.pop("ambush", 0.0),
        silence=theme.silence,
        events=choice(theme.events),
        until_formed=theme.until_formed,
        commands=choice(theme.commands),
        clients=choice((0, 1, 2, 5)),
        batch_bytes=choice(theme.batch_bytes),
        snapshot_entries=choice(theme.snapshot_entries),
        keep=choice((0, 0, 3, 50)),
        reads=theme.reads,
        lease_reads=chance() < theme.lease_reads and "clock leap" not in rates,
        memory=theme.memory,
        store=chance() < theme.store,
    )
    # Nobody can be elected within a timeout that is hardly longer than a write.
    possible = tuple(timing if timing.lower >= 3 * drawn.disk else base for timing in drawn.timings)
    drawn = replace(drawn, timings=possible)
    return _followed(drawn, random_source) if theme.follows else drawn


def with_rogue(drawn: Profile, chance: random.Random) -> Profile:
    """Let a member go wrong; all else stays as it was drawn."""
    return replace(drawn, rates={**drawn.rates, ROGUE: _ROGUE_RATE * chance.choice((0.3, 1.0, 1.0, 2.0))})


def _followed(drawn: Profile, random_source: random.Random) -> Profile:
    """Draw what a service does, what DNS says of it, and by which rules the members follow."""
    choice = random_source.choice
    rates = {kind: rate for kind, rate in drawn.rates.items() if kind not in _NOT_FOLLOWED}
    rates |= {
        kind: rate * choice((0.3, 1.0, 1.0, 2.0))
        for kind, rate in _SERVICE_RATES.items()
        if random_source.random() < 0.7
    }
    return replace(
        drawn,
        rates=rates,
        wipes=0,
        follows=True,
        dns={lie: choice((0.02, 0.1, 0.3)) for lie in LIES if random_source.random() < 0.3},
        lingers=random_source.random() < 0.5,
        leaves=choice((0.0, 0.5, 1.0)),
        dead_after=drawn.unit * choice((2.5, 4.0, 6.0)),
        min_voters=choice((1, 2, 3, 3, 3, 4, 5)),
        max_voters=choice((1, 3, 3, 4, 5, 7, 7)),
    )


def _neighbours(base: Timing, random_source: random.Random) -> list[Timing]:
    """List what a rolling change of the configuration may lead to."""
    timings = [base]
    for _ in range(3):
        lower = base.lower * random_source.choice((0.25, 1.0, 1.5, 2.0))
        timings.append(
            Timing(
                lower=lower,
                upper=lower * random_source.choice((1.3, 2.0)),
                heartbeat=min(base.heartbeat * random_source.choice((0.5, 1.0, 1.2)), lower / 3),
                stop_grace=random_source.choice((base.stop_grace, 0.5, 2.0, 6.0)),
            )
        )
    return timings
