"""Which releases and which backups may go from the disk. Pure; others remove what comes back."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from agent.core.guard import confirmed, fallbacks
from agent.core.model import Backup, Release
from agent.core.settings import Keep


def removable(
    releases: Sequence[Release], *, needed: Collection[str], live: str | None, keep: int
) -> list[Release]:
    """The releases that nobody will miss, in the order in which they may go.

    Never among them: what is live, where a rollback would go, what `needed` names (open deployments, `current`).
    Of the other confirmed ones the `keep` last confirmed stay, of those that never proved themselves the newest,
    for whoever wants to look why. With each stays the release that built what it links to. `releases` are in the
    order in which they were begun; who links goes before who was linked to, so that a link is never left hanging.
    """
    proven = confirmed(releases, left=live)
    unproven = [release for release in releases if release.confirmed_at is None]
    way_back = fallbacks(releases, left=live)[:1]
    kept = {release.name for release in [*proven[: max(keep, 1)], *way_back, *unproven[-1:]]}
    kept.update(needed)
    kept |= {live} if live else set()
    kept |= {
        release.built_by for release in releases if release.name in kept
    }  # never a chain: one step is all
    gone = [release for release in releases if release.name not in kept]
    return sorted(gone, key=lambda release: not release.built_by)


def outdated(
    backups: Sequence[Backup], now: datetime, keep: Keep, protected: Collection[str]
) -> list[Backup] | None:
    """The backups that may go, oldest first; None: nothing may, because the clock is not to be believed (R-PL-7).

    `backups` come in the order in which they were made, the newest first: that order no clock can turn. A good one is
    `ok`. What is not stays until there are `last` newer good ones; what was found without a record (`unverified`) may
    be good, and the rules for days, weeks and months keep it, too. Days are UTC's; ages count from the newest date, so
    that no clock makes all of them old.

    What is dated later than `now` stays, and nothing else goes either until `last` good ones were made after it: then
    it was made under a clock that ran ahead, and must not stop the rules for years.
    """
    last = [backup for backup in backups if backup.state == "ok"][: keep.last]
    enough = len(last) == keep.last
    if any(backup.at > now for backup in backups) and not (enough and _settled(backups, last[-1], now)):
        return None
    kept = {backup.id for backup in last} | set(protected)
    older = set() if not enough else {backup.id for backup in backups[backups.index(last[-1]) :]}
    kept.update(backup.id for backup in backups if backup.state != "ok" and backup.id not in older)
    dated = sorted(
        (backup for backup in backups if backup.at <= now), key=lambda one: (one.at, one.id), reverse=True
    )
    usable = [backup for backup in dated if backup.state in ("ok", "unverified")]
    young = [
        backup for backup in usable if _present(usable, keep) - backup.at <= timedelta(seconds=keep.max_age)
    ]
    for count, period in ((keep.daily, _day), (keep.weekly, _week), (keep.monthly, _month)):
        kept.update(_newest_of_each(young, count, period))
    return [backup for backup in reversed(dated) if backup.id not in kept]


def _settled(backups: Sequence[Backup], last: Backup, now: datetime) -> bool:
    """Whether everything from this one on was made by a clock that is not ahead of the one of now."""
    return all(backup.at <= now for backup in backups[: backups.index(last) + 1])


def _present(usable: Sequence[Backup], keep: Keep) -> datetime:
    """From when ages count. A gap longer than `max_age` among the newest ones may be a jump of the clock: then from
    before it, until `last` backups have been made on this side of it."""
    recent = usable[: keep.last + 1]
    present = recent[0].at
    for newer, older in pairwise(recent):
        if newer.at - older.at > timedelta(seconds=keep.max_age):
            present = older.at
    return present


def _newest_of_each(
    backups: Iterable[Backup], count: int, period: Callable[[datetime], tuple[int, ...]]
) -> Iterator[str]:
    """Of backups, newest first: the ids of the newest of each of the last `count` periods that have one."""
    seen: set[tuple[int, ...]] = set()
    for backup in backups:
        if (here := period(backup.at.astimezone(UTC))) not in seen and len(seen) < count:
            seen.add(here)
            yield backup.id


def _day(at: datetime) -> tuple[int, ...]:
    return at.year, at.month, at.day


def _week(at: datetime) -> tuple[int, ...]:
    return at.isocalendar()[:2]


def _month(at: datetime) -> tuple[int, ...]:
    return at.year, at.month
