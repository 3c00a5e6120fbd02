"""Leader work on this node: its scripts and its bodies, which begin and end together."""

from collections.abc import Callable
from pathlib import Path

from trioraft.consensus import Core
from trioraft.hooks.bodies import Bodies, OnOverrun
from trioraft.hooks.hooks import HookContext, Hooks
from trioraft.hooks.launcher import end_earlier_scripts
from trioraft.logger import Logger
from trioraft.messages import Instant
from trioraft.node.world import World
from trioraft.settings.settings import NodeSettings


class LeaderWork:
    """The work that this node does only while its lease allows it.

    Parameters
    ----------
    core : Core
        Is told when all leader work has ended, or has failed.
    settings : NodeSettings
        The scripts, and how long they may take to end.
    directory : Path
        The node's directory.
    context : callable
        Returns the facts about the node that scripts are given.
    world : World
        The clock, the watchdog's clock and the launcher.
    on_overrun : {'exit', 'log'}
        The action when a body runs on after it must be over.
    soon : callable
        Requests a turn, once the core was told something.
    log : callable
        Returns the node's log.

    Attributes
    ----------
    hooks : Hooks
        The scripts.
    bodies : Bodies
        The bodies of the program that runs the node.
    """

    def __init__(
        self,
        core: Core,
        settings: NodeSettings,
        directory: Path,
        context: Callable[[], HookContext],
        world: World,
        on_overrun: OnOverrun,
        soon: Callable[[], None],
        log: Callable[[], Logger],
    ) -> None:
        self._core = core
        self._clock = world.clock
        self._settings = settings
        self._directory = directory
        self._launcher = world.launcher
        self._soon = soon
        self._log = log
        self._scripts_run = False
        self.hooks = Hooks(
            settings,
            directory,
            context,
            launcher=world.launcher,
            on_work_ended=self._scripts_ended,
            on_work_failed=self._failed,
            on_earlier_ended=self._earlier_scripts_ended,
        )
        self.bodies = Bodies(world.watchdog_clock, settings.hook_stop_grace, self._ended, on_overrun)

    @property
    def has_script(self) -> bool:
        """Whether there is a leader script."""
        return self.hooks.has_leader_script

    @property
    def deadline(self) -> Instant:
        """The time at which leader work ends unless the lease is extended; before the present while there is none."""
        return self.hooks.deadline

    async def end_earlier_scripts(self) -> None:
        """End what an earlier process may have left where this one has no script, whose supervisor would do that."""
        if not self._settings.script_leader_path and not self._settings.script_follower_path:
            grace = self._settings.hook_stop_grace
            await end_earlier_scripts(self._launcher, self._directory, grace, self._earlier_scripts_ended)

    def become_follower(self) -> None:
        """Run the follower's script."""
        self.hooks.become_follower()

    def start(self, token: int, deadline: Instant) -> None:
        """Start leader work, which must end at a deadline unless that is extended.

        Parameters
        ----------
        token : int
            Its fencing token.
        deadline : float
            The time, in seconds.
        """
        self.hooks.start_work(token, deadline)
        self.bodies.start_work(token, deadline)

    def extend(self, deadline: Instant) -> None:
        """Extend leader work until a later deadline.

        Parameters
        ----------
        deadline : float
            The time, in seconds.
        """
        self.hooks.extend_work(deadline)
        self.bodies.extend_work(deadline)

    def end(self) -> None:
        """Begin to end leader work now."""
        self._scripts_run = True
        self.hooks.end_work()
        self.bodies.end_work()

    def _scripts_ended(self) -> None:
        self._scripts_run = False
        self._ended()

    def _earlier_scripts_ended(self) -> None:
        self._core.scripts_ended(self._clock())
        self._soon()

    def _ended(self) -> None:
        """Report to the core when neither a script nor a body is left."""
        if not self._scripts_run and not self.bodies.running:
            self._core.work_ended(self._clock())
            self._soon()

    def _failed(self, reason: str) -> None:
        self._log().error("leader work failed", reason=reason)
        self._core.work_failed(self._clock())
        self._soon()
