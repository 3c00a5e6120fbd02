"""The job of a node as people see it: what the leader script is doing in this term, in words and numbers."""

from dataclasses import dataclass
from typing import Literal

from trioraft.messages import Instant, JobStatus, Seconds

_State = Literal["none", "waits", "starts", "runs", "again", "ends", "over", "failed", "given-up"]


@dataclass(slots=True, eq=False)
class Job:
    """The job that a leader script is.

    Attributes
    ----------
    state : str
        The state, as in :class:`~trioraft.messages.JobStatus`.
    token : int
        The fencing token of the term.
    at : float
        When the script was started, or when it runs again, in seconds.
    starts : int
        How often it was started in this term.
    exit_status : int or None
        How its last run ended.
    how : str
        The same in words.
    failed : bool
        Whether that was a failure.
    waits_for : str
        The reason why it does not start, in words.
    """

    state: _State = "none"
    token: int = 0
    at: Instant = 0.0
    starts: int = 0
    exit_status: int | None = None
    how: str = ""
    failed: bool = False
    waits_for: str = ""

    def begin(self, token: int, waits_for: str) -> None:
        """Note that leader work of another term may start."""
        self.state, self.token, self.waits_for = "waits", token, waits_for
        self.starts, self.exit_status, self.how, self.failed = 0, None, "", False

    def start(self) -> None:
        """Note that the script is being started."""
        self.state = "starts"
        self.starts += 1

    def started(self, now: Instant) -> None:
        """Note that the script runs, unless it was told to end meanwhile."""
        if self.state == "starts":
            self.state, self.at = "runs", now

    def ended(self, state: Literal["again", "over", "failed", "given-up"], pause_ends: Instant) -> None:
        """Note that nothing of the script's last run is left, and when it runs again."""
        self.state, self.at = state, pause_ends

    def status(self, now: Instant) -> JobStatus:
        """Describe the job.

        Parameters
        ----------
        now : float
            The time in seconds.

        Returns
        -------
        JobStatus
            The description.
        """
        pause = max(0.0, self.at - now) if self.state == "again" else None
        return JobStatus(
            state=self.state,
            text=self._text(now, pause),
            token=self.token if self.state != "none" else 0,
            runs_seconds=now - self.at if self.state == "runs" else None,
            starts_in_seconds=pause,
            exit_status=self.exit_status,
            starts=self.starts,
        )

    def _text(self, now: Instant, pause: Seconds | None) -> str:
        match self.state:
            case "waits":
                return f"waits for {self.waits_for}"
            case "runs":
                again = f", start {self.starts}" if self.starts > 1 else ""
                return f"{runs_for(now - self.at)}, token {self.token}{again}"
            case "again":
                return f"{self.outcome()}, again in {pause:.1f} s"
            case "over" | "failed":
                return self.outcome()
            case "given-up":
                return f"{self.outcome()}, given up after {self.starts} starts"
            case "starts" | "ends":
                return self.state
            case "none":
                return ""

    def outcome(self) -> str:
        """Describe how the last run ended."""
        return f"{'failed' if self.failed else 'over'} ({self.how})"


def runs_for(seconds: Seconds) -> str:
    """Say how long work has run.

    Parameters
    ----------
    seconds : float
        The time.

    Returns
    -------
    str
        The words.
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"runs for {hours}:{minutes:02}:{rest:02}" if hours or minutes else f"runs for {rest} s"
