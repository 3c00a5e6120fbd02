"""What somebody should look at: each cause once, the important ones visible, and never too many."""

from trioraft.node.address_book import Alerts


def test_a_cause_is_reported_once_for_as_long_as_it_lasts_and_a_minute_more() -> None:
    reported: list[str] = []
    alerts = Alerts(lambda text, minor: reported.append(text))
    for second in range(100):
        alerts.raise_alert("disk", f"still so after {second} s", second)
    assert reported == ["still so after 0 s"]
    assert alerts.current(159) == ("still so after 99 s",)
    assert alerts.current(160) == ()
    alerts.raise_alert("disk", "again", 200)
    assert reported == ["still so after 0 s", "again"]


def test_a_cause_that_is_gone_is_not_shown() -> None:
    alerts = Alerts(lambda text, minor: None)
    alerts.raise_alert("one", "1", 0)
    alerts.raise_alert("two", "2", 0)
    alerts.clear("one")
    alerts.clear("three")
    assert alerts.current(0) == ("2",)


def test_the_newest_come_first_and_minor_ones_hide_nothing() -> None:
    alerts = Alerts(lambda text, minor: None)
    alerts.raise_alert("duplicate", "two processes", 0)
    alerts.raise_alert("foreign", "another cluster", 1)
    for number in range(40):
        alerts.raise_alert(f"silent {number}", f"nothing at {number:02}", 2, minor=True)
    shown = alerts.current(2)
    assert shown[:3] == ("another cluster", "two processes", "nothing at 00")
    assert len(shown) == 8


def test_any_number_of_causes_takes_only_so_much_memory() -> None:
    alerts = Alerts(lambda text, minor: None)
    for number in range(10_000):
        alerts.raise_alert(f"foreign {number}", f"node {number}", 0)
    assert len(alerts._seen) <= 1000
    assert alerts.current(0)


def test_strangers_cannot_push_out_what_members_are_to_blame_for() -> None:
    alerts = Alerts(lambda text, minor: None)
    alerts.raise_alert("duplicate", "two processes", 0)
    for number in range(10_000):
        alerts.raise_alert(f"foreign {number}", f"node {number}", 1, minor=True)
    assert alerts.current(1)[0] == "two processes"
