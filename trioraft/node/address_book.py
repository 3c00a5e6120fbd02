"""The addresses at which nodes may be, and the alerts that somebody should look at.

An address is not an identity. Addresses come from DNS, from static peers, and from nodes that greet this one. A
handshake tells which node is behind an address (:mod:`trioraft.datagrams.endpoint`). It is repeated, so that a
changed address, a restarted process or a second process with the same id is noticed.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from trioraft.address import Address
from trioraft.clock import LONG_AGO
from trioraft.datagrams.endpoint import Domain
from trioraft.dns.addresses import Addresses, Place
from trioraft.dns.discovery import Answer
from trioraft.messages import Instant, Seconds
from trioraft.standstill import Standstill

# A confirmed address is greeted again after this long, in seconds; the endpoint trusts it for 60. Up to so many more
# are drawn each time: nodes that start together would else greet all others at the same moment, again and again. And
# of two nodes the first to greet spares the other one its greeting.
_RENEW_AFTER: Final = 20.0
_RENEW_SPREAD: Final = 10.0
# An address at which nothing has answered for this long is reported.
_SILENT_AFTER: Final = 10.0
# The node looks about once a second; when a look comes this late, in seconds, the node itself stood still.
_STOOD_STILL: Final = 5.0
# An address that discovery does not name, and from which nothing is heard, is forgotten after this long.
_FORGET_AFTER: Final = 60.0
# An alert is shown for this long after its cause was last seen.
_ALERT_LASTS: Final = 60.0
_ALERTS_MAX: Final = 8
# The most causes that are remembered; an attacker of an unsealed node can make up any number of them.
_CAUSES_MAX: Final = 512


@dataclass(slots=True)
class _Known(Place):
    """An address, and what is known of it."""

    greeted_at: Instant = LONG_AGO
    renew_after: Seconds = _RENEW_AFTER
    answered_at: Instant = LONG_AGO
    service: str | None = None  # of a node of another service
    has_old_name: bool = False  # whether it was greeted with a name that this node does not have any more


class _Alert(NamedTuple):
    minor: bool
    at: Instant
    text: str


class Alerts:
    """Alerts, at which somebody should look: one for each cause, for as long as it lasts and a minute more.

    Parameters
    ----------
    report : callable
        Called with the text, and whether it is minor, when a cause is new.
    """

    def __init__(self, report: Callable[[str, bool], None]) -> None:
        self._report = report
        self._seen: dict[str, _Alert] = {}

    def raise_alert(self, cause: str, text: str, now: Instant, *, minor: bool = False) -> None:
        """Raise an alert, or keep it up.

        Parameters
        ----------
        cause : str
            The cause; two alerts of the same cause are the same.
        text : str
            The text that is shown: what is wrong, where, and what to do.
        now : float
            The time in seconds.
        minor : bool
            Whether it may mean nothing, or be one of many, so that it must not hide others.
        """
        known = self._seen.pop(cause, None)
        if known is None or now - known.at > _ALERT_LASTS:
            self._report(text, minor)
        self._seen[cause] = _Alert(minor, now, text)
        if len(self._seen) > _CAUSES_MAX:
            oldest = next((one for one, alert in self._seen.items() if alert.minor), next(iter(self._seen)))
            del self._seen[oldest]

    def clear(self, cause: str) -> None:
        """Take back an alert, because its cause is gone.

        Parameters
        ----------
        cause : str
            The cause.
        """
        self._seen.pop(cause, None)

    def current(self, now: Instant) -> tuple[str, ...]:
        """List the alerts to be shown.

        Parameters
        ----------
        now : float
            The time in seconds.

        Returns
        -------
        tuple of str
            The newest alerts first, minor ones behind the others.
        """
        self._seen = {cause: alert for cause, alert in self._seen.items() if now - alert.at <= _ALERT_LASTS}
        shown = sorted(self._seen.values(), key=lambda alert: (alert.minor, -alert.at, alert.text))
        return tuple(alert.text for alert in shown[:_ALERTS_MAX])


class Greeter(Protocol):
    """Makes greetings, as an endpoint does."""

    def greet(self, address: Address, domain: Domain, now: Instant) -> None:
        """Send a greeting to an address, which asks which node is there."""


class AddressBook:
    """The addresses that this node greets.

    Parameters
    ----------
    endpoint : Greeter
        Makes the greetings.
    alerts : Alerts
        Where an address is reported behind which there is no node of this service.
    random_source : random.Random, optional
        Draws when addresses are greeted again; by default that is always at the same interval.

    Attributes
    ----------
    own : Address or None
        The address at which a greeting of this node comes back to it.
    standstill : Standstill
        Notices when this node itself stood still, so that silence means nothing; looked at with each greeting.
    """

    def __init__(self, endpoint: Greeter, alerts: Alerts, random_source: random.Random | None = None) -> None:
        self._random = random_source
        self._endpoint = endpoint
        self._alerts = alerts
        self._known = Addresses(_Known, worth=lambda known: known.answered_at)
        self.own: Address | None = None
        self.standstill = Standstill(_STOOD_STILL)

    def __len__(self) -> int:
        return len(self._known)

    def discovered(self, answer: Answer, now: Instant) -> None:
        """Take in what a look-up found; an incomplete one takes nothing away.

        Parameters
        ----------
        answer : Answer
            The addresses, and what went wrong.
        now : float
            The time in seconds.
        """
        for problem in answer.problems:
            self._alerts.raise_alert(f"discovery {problem}", problem, now, minor=True)
        if answer.complete:
            for lost in self._known.look_up_ended(answer.addresses):
                lost.since = now
        for address in sorted(answer.addresses):
            self._known.add(address, now, discovered=True)

    def awaits_answer(self, now: Instant, patience: Seconds) -> bool:
        """Check whether a node may be at a discovered address that has had no time to answer.

        Parameters
        ----------
        now : float
            The time in seconds.
        patience : float
            How long an answer may take, in seconds.

        Returns
        -------
        bool
            Whether there is such an address.
        """
        return any(
            known.discovered
            and known.service is None
            and known.answered_at == LONG_AGO
            and now - max(known.since, self.standstill.ended_at) < patience
            for known in self._known.values()
        )

    def is_listed(self, address: Address) -> bool:
        """Check whether DNS or the static peers name an address.

        Parameters
        ----------
        address : Address
            The address.

        Returns
        -------
        bool
            Whether the last look-up found it.
        """
        known = self._known.get(address)
        return known is not None and known.discovered

    def answered(self, address: Address, now: Instant) -> None:
        """Note that a node of this service answered.

        Parameters
        ----------
        address : Address
            Where.
        now : float
            The time in seconds.
        """
        known = self._known.add(address, now)
        if known is not None:
            known.answered_at = now
            known.service = None
            if self._random is not None:
                known.renew_after = _RENEW_AFTER + self._random.uniform(0, _RENEW_SPREAD)
        if address == self.own:
            self.own = None
        self._alerts.clear(f"silent {address}")

    def of_another_service(self, address: Address, service: str, now: Instant) -> None:
        """Note that a node of another service answered.

        Parameters
        ----------
        address : Address
            Where.
        service : str
            Its service name.
        now : float
            The time in seconds.
        """
        if address in self._known:
            self._known[address].service = service
        self._alerts.clear(f"silent {address}")
        self._alerts.raise_alert(
            f"service {address}",
            f"{address} is a node of service {service!r}, not of this one: ignored",
            now,
            minor=not self.is_listed(address),
        )

    def is_own(self, address: Address, now: Instant) -> None:
        """Note that an address is this node's own, because a greeting came back from it.

        Parameters
        ----------
        address : Address
            The address.
        now : float
            The time in seconds.
        """
        self.own = address
        if address in self._known:
            self._known[address].answered_at = now
        self._alerts.clear(f"silent {address}")

    def renamed(self) -> None:
        """Note that this node is called otherwise now: everybody is to be told soon."""
        for known in self._known.values():
            known.has_old_name = True

    def greet(self, now: Instant, *, pause: Seconds) -> None:
        """Greet the addresses that are due, report silent ones, and forget those that nothing names any more.

        Parameters
        ----------
        now : float
            The time in seconds.
        pause : float
            How long to wait between greetings of an address that has not answered, in seconds.
        """
        self.standstill.look(now)
        for address, known in list(self._known.items()):
            heard = max(known.answered_at, known.since, self.standstill.ended_at)
            if not known.discovered and now - heard > _FORGET_AFTER:
                self._known.drop(known)
                continue
            renew = (known.has_old_name or now - known.answered_at >= known.renew_after) and known.service is None
            due = known.greeted_at + (pause if known.service is None else _RENEW_AFTER)
            if renew and due <= now:
                known.greeted_at = now
                known.has_old_name = False
                self._endpoint.greet(address, Domain.CONSENSUS, now)
            if known.service is None and now - heard > max(_SILENT_AFTER, known.renew_after + 3 * pause):
                if address == self.own:
                    self.own = None
                self._alerts.raise_alert(f"silent {address}", f"nothing answers at {address}", now, minor=True)
