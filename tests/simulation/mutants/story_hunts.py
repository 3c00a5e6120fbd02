"""Stories that look for seeded bugs which lives of the simulator hardly ever meet."""

from tests.simulation.mutants.found import Found
from tests.unit.story import TIMING, Story
from trioraft.consensus.events import StartWork, TooOld
from trioraft.consensus.lease import contact_end
from trioraft.consensus.numbers import TERM_STEP
from trioraft.messages import LeadershipEnded, PreVoteResponse
from trioraft.versions import SPOKEN, Versions


def endings(seed: int, _mutant: str) -> Found | None:
    """Let others than the node that led say that it leads no more; then itself, and restart who heard that."""
    story = Story()
    story.elect(1)
    story.raise_version(1)
    story.live(1)
    story.receive(2, 3, LeadershipEnded(1, work_ended=True))
    if story.state(2).leader != 1 or story.state(2).work_until <= story.now:
        return Found(seed, "n2 believes another node that n1 leads no more")
    story.places[1] = "a copy of the directory"
    story.restart(1)
    if story.waiting(LeadershipEnded):
        return Found(seed, "n1 is started on a copy of its directory, and says what it cannot know")
    story.receive(2, 1, LeadershipEnded(1, work_ended=True))
    story.restart(2)
    if story.state(2).work_until > story.now:
        return Found(seed, "n2 remembers after a restart what it has heard to have ended")
    return None


def standing_leader(seed: int, _mutant: str) -> Found | None:
    """Let a leader stand still, beside its lease, until just after its leader work has ended by itself."""
    story = Story()
    story.elect(1)
    story.live(TIMING.heartbeat / 2)
    story.propose(1, "x")
    story.live(0.01)
    (start,), lease = story.events(1, StartWork), contact_end(story.state(1))
    story.wait((start.deadline + lease) / 2 - story.now)
    story.tick(1)
    if story.roles()[0] != "leader":
        return None
    return Found(seed, "n1 leads on after its leader work has ended by itself")


def impostor(seed: int, _mutant: str) -> Found | None:
    """Let somebody name a far term, in the name of a member that cannot be reached, to one that is cut off."""
    story = Story()
    story.elect(1)
    for _ in range(15):
        story.live(TIMING.upper, cut_off=(2,))
        story.receive(2, 3, PreVoteResponse(2 * TERM_STEP, 1, granted=True))
    if story.cores[2].term < TERM_STEP:
        return None
    return Found(seed, "n2 believes a far term that nobody knows, and hears no leader any more")


def one_liar(seed: int, _mutant: str) -> Found | None:
    """Let one member of three lie when it is asked for its term, while the others can be asked too."""
    story = Story()
    story.receive(2, 3, PreVoteResponse(2 * TERM_STEP, 1, granted=False))
    search = story.state(2).far_terms
    if search is not None:
        story.receive(2, 3, PreVoteResponse(2 * TERM_STEP, search.question, granted=False))
    return Found(seed, "n2 believes a far term that only n3 knows") if story.cores[2].term >= TERM_STEP else None


def older_and_removed(seed: int, _mutant: str) -> Found | None:
    """Remove a member that is older than the others, and raise the version before it has heard of it."""
    story = Story()
    story.elect(1)
    story.live(2)
    story.cores[3].versions = Versions(1, SPOKEN.highest - 1)
    story.change(1, (1, 2))
    story.live(TIMING.upper / 2, without=(3,))
    story.raise_version(1)
    story.live(2)
    return Found(seed, "n3 stops as too old, although it was removed") if story.events(3, TooOld) else None
