"""Which lines of the journal belong to a version that failed. Real journals are read on a virtual Pi (e2e)."""

import json

from agent.adapters.runtimes.unitlog import since, told_beside

OURS, NEXT, OLD = "a" * 32, "b" * 32, "c" * 32


def systemd(text: str, invocation: str) -> dict[str, object]:
    return {"MESSAGE": text, "INVOCATION_ID": invocation, "_BOOT_ID": "x"}


def program(text: object, invocation: str | None) -> dict[str, object]:
    return {"MESSAGE": text} | ({"_SYSTEMD_INVOCATION_ID": invocation} if invocation else {})


def printed(*entries: dict[str, object]) -> str:
    return "".join(json.dumps(entry) + "\n" for entry in entries)


def test_a_line_whose_invocation_journald_lost_is_there() -> None:
    journal = printed(
        program("goodbye", OLD), program("lost as well", None), systemd("Starting", OURS),
        program("why it died", None), systemd("Failed", OURS),
    )  # fmt: skip
    assert since(OURS, journal) == ["Starting", "why it died", "Failed"]


def test_what_came_after_a_restart_by_systemd_is_there_too() -> None:
    journal = printed(systemd("Starting", OURS), program("first", OURS), systemd("Starting", NEXT))
    assert since(OURS, journal) == ["Starting", "first", "Starting"]
    assert since(NEXT, journal) == ["Starting"]


def test_nothing_of_another_version_is_taken_for_it() -> None:
    assert since(OURS, printed(program("goodbye", OLD), program("lost", None))) == []


def test_a_first_line_that_is_cut_off_and_what_is_no_text_do_not_matter() -> None:
    journal = '"_BOOT_ID":"x"}\n5\n' + printed(
        program([111, 107, 255], OURS), program(None, OURS), program("end", OURS)
    )
    assert since(OURS, journal) == ["ok\ufffd", "", "end"]


def test_who_may_not_read_the_journal_is_told_what_journalctl_says() -> None:
    said = "Hint: You are currently not seeing messages from other users.\n"
    assert told_beside(said + "-- No entries --\n" + printed(systemd("Starting", OURS))) == said.strip()
