"""Small readers of other people's words: refs, paths, git's complaints, answers to probes, times, arguments."""

import contextlib
import io
import json
import math
import random
import re
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from time import thread_time
from zoneinfo import ZoneInfo

import pytest

from agent.cli import main
from agent.core import (
    access,
    answer,
    freeze,
    freshness,
    github,
    gitversion,
    gitwords,
    paths,
    refs,
    repository,
    shapes,
    submodules,
    text,
    units,
    waysin,
)
from agent.core.codes import CODES
from agent.core.errors import StepFailed
from agent.core.settings import Scalar, Source
from tests.fuzz import SEED, fuzz
from tests.fuzz.mutation import INTERESTING, bytes_of, document_of, json_of, text_of

NAMES = ("main", "v1.2", "a", "feature", "/", ".", "..", "@", "@{", "-", "--", ".lock", "refs", "heads", "*", "?", "[",
         "\\", "~", "^", ":", " ", "é", "HEAD", "//", "x" * 60)  # fmt: skip
GLOBS = (
    "**",
    "*",
    "/",
    "!",
    "src",
    "docs",
    "a",
    "b",
    ".py",
    "?",
    "[ab]",
    "..",
    ".",
    "//",
    "a" * 20,
    "*a",
    "a*",
)
ADDRESSES = ("https://", "ssh://", "git@", "github.com", ":", "/", "me/x.git", "file://", "ext::", "-", "~",
             "@", "[::1]",
             "%2f", "..", "\\", "user:pass@", ":22", ":99999", "?", "#", " ", "HTTPS://", "a" * 70, "localhost",
             "[", "]",
             "./", "../", "http://", "127.0.0.1", "::ffff:1.2.3.4", "xn--a", "_")  # fmt: skip
COMPLAINTS = ("fatal: ", "remote: ", "couldn't find remote ref ", "No space left on device", "'main'", "repository",
              " not found", "https://me:secret-of-me@host/x", "\n", "\r", "Permission denied (publickey)",
              "error: ", "SSL",
              "is empty", "hint: ", "returned error: 403", "\x1b[31m", "a/b c", "Host key verification failed",
              "@" * 60,
              "unable to access ", "bad object ", "'" * 3)  # fmt: skip
TIMES = ("2026-11-22", "T", " ", "12:00", ":30", "Z", "+01:00", "-99:99", ".5", "W47-7", "1700000000", "1e9",
         "-", "0", "9" * 12,
         "nan", "inf", "١٢", "\n", "24:00", "0001-01-01", "9999-12-31")  # fmt: skip
UNITS = ("5", "0", "m", "s", "ms", "h", "d", "M", "G", "K", "T", "-", ".", " ", "9" * 9, "٣", "\n", "e")
EDGES = (
    "mon",
    "fri",
    "sun",
    " ",
    "17:00",
    "00:00",
    "23:59",
    "24:00",
    "7:00",
    "MON",
    ":",
    "fri  1",
    "é",
    "\n",
)
WORDS = ("serve", "demo", "check", "schema", "secret", "reload", "status", "deploy", "rollback", "hold",
         "resume", "history",
         "logs", "deliveries", "backup", "--json", "--socket", "--url", "--config", "--to", "--wait",
         "--force", "--revision", "-h", "--", "-", "", "x", "list", "create", "verify", "restore", "drill", "prune",
         "../../x", "\udcff", "-1", "--follow", "é", "a" * 300, "--log-level", "DEBUG", "--dry-run")  # fmt: skip


@pytest.mark.parametrize("part", range(2))
def test_names_of_refs(part: int) -> None:
    """R-GIT-1, R-RX-19: what is taken for a name has nothing in it that git would take for something else."""

    def judge(name: str) -> None:
        if refs.is_name(name):
            assert not set(name) & set("\0\x1f\x7f ~^:?*[\\")
            assert not name.startswith((".", "/"))
            assert not name.endswith((".", "/", ".lock"))
            assert ".." not in name
            assert "@{" not in name
            assert "//" not in name
            assert len(name) <= refs.MAX_NAME

    fuzz(f"refs {part}", 4000, lambda chance: text_of(chance, NAMES), judge)


def test_git_itself_takes_every_name_that_is_taken_here() -> None:
    """R-GIT-1: compared with git-check-ref-format(1)."""

    def judge(name: str) -> None:
        try:
            name.encode()
        except UnicodeEncodeError:
            return
        if refs.is_name(name):
            subprocess.run(["git", "check-ref-format", f"refs/heads/{name}"], check=True)

    fuzz("refs and git", 150, lambda chance: text_of(chance, NAMES, most=3), judge)


def as_a_regex(pattern: str) -> str:
    """The same glob by other means; the patterns here have whole `**` only."""
    pattern = pattern.removesuffix("/") + ("/**" if pattern.endswith("/") else "")
    parts = pattern.split("/")
    made = ""
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "**":
            made += ".*" if last else "(?:[^/]*/)*"
        else:
            made += re.escape(part).replace(r"\*", "[^/]*") + ("" if last else "/")
    return made


def test_globs() -> None:
    """`source.paths` agrees with the same patterns as regular expressions."""

    def make(chance: random.Random) -> tuple[str, str]:
        def segments(words: tuple[str, ...], most: int) -> str:
            return "/".join(
                "".join(chance.choices(words, k=chance.randint(1, 2))) for _ in range(chance.randint(1, most))
            )

        pattern = "/".join(
            chance.choice(("**", "*", "a", "a*", "*b", "*a*")) for _ in range(chance.randint(1, 4))
        )
        return pattern + chance.choice(("", "", "/")), segments(("a", "b", "ab"), 4)

    def judge(case: tuple[str, str]) -> None:
        pattern, path = case
        segments = path.split("/")
        if pattern.endswith(("**", "/")) or "**/**" in pattern:
            # a trailing `**` also stands for no segment at all, which the expression above does not say
            paths.fits(pattern, segments)
            return
        wanted = re.fullmatch(as_a_regex(pattern), path, re.DOTALL) is not None
        assert paths.fits(pattern, segments) == wanted
        if "/" not in pattern and "**" not in pattern:
            assert paths.fits(pattern, segments) == ("/" not in path and fnmatchcase(path, pattern))

    fuzz("globs", 6000, make, judge)


def test_patterns_of_any_shape() -> None:
    def judge(case: tuple[list[str], str]) -> None:
        patterns, path = case
        wrong = [paths.problem_of(patterns, index) for index in range(len(patterns))]
        assert all(isinstance(problem, str) for problem in wrong)
        assert paths.matters(patterns, path) in (True, False)
        assert paths.touches(patterns, [path]) == paths.matters(patterns, path)

    fuzz(
        "patterns", 4000, lambda chance: ([text_of(chance, GLOBS) for _ in range(chance.randint(0, 4))],
                                          text_of(chance, GLOBS)), judge,
    )  # fmt: skip


def test_addresses() -> None:
    """R-GIT-1, R-GIT-11: whatever an address looks like, it is a transport that is allowed, or refused unrepeated."""

    def judge(case: tuple[str, str, str]) -> None:
        address, base, url = case
        if problem := repository.refusal(address):
            assert "secret" not in "".join(problem)
        else:
            assert not address.startswith("-")
            way = repository.transport(address)
            host, port = repository.host_of(address) if way != "path" else ("h", 1)
            assert host
            assert not host.startswith("-")
            assert 0 < port < 65536
            assert address.lower().startswith("".join(repository.head_and_path(address)).lower())
            list(waysin.ways_in(Source(repository=address, host_keys=(url,))))
            assert "\n" not in waysin.known_hosts(address, []) or way == "ssh"
        with contextlib.suppress(StepFailed):
            near = submodules.address_of(url, base, base)
            assert repository.refusal(near) is None
            assert submodules.is_near(near, base)
        shapes.url_problem(address)
        shapes.inside_problem(address)
        access.host_name(address)
        access.same_origin(url, address, "https://pi.example.org")

    def make(chance: random.Random) -> tuple[str, str, str]:
        base = chance.choice(
            ("https://github.com/me/x.git", "git@github.com:me/x.git", "/srv/git/x.git", "ssh://h:22/x")
        )
        return text_of(chance, ADDRESSES), base, text_of(chance, ADDRESSES)

    fuzz("addresses", 8000, make, judge)


def test_what_git_says() -> None:
    """R-RX-31: every complaint is a code with a hint, on one line, without what stands before the `@` of an address."""

    def judge(complaint: str) -> None:
        code, hint = gitwords.explain(complaint)
        assert code in CODES
        assert hint is None or hint
        essence = gitwords.essence(complaint)
        assert "secret-of-me" not in essence
        assert "\n" not in text.clean(essence)
        assert gitwords.tip_of(complaint, "refs/heads/main") is None
        gitversion.is_before_the_fixes(complaint)

    fuzz("complaints", 5000, lambda chance: text_of(chance, COMPLAINTS, most=12), judge)


def test_answers_to_probes() -> None:
    """Any body, any wish: a complaint or none, which says nothing on two lines."""
    told = {"status": "healthy", "db": {"rows": 3, "ok": True}, "list": [1, {"a": None}], "é": 1.5}
    wishes: tuple[dict[str, Scalar], ...] = (
        {"status": "healthy"},
        {"db.rows": 3, "db.ok": True},
        {"list.a": None},
        {"": ""},
        {"é": 1.5, "x.y.z": 1},
    )

    def make(chance: random.Random) -> tuple[bytes, int]:
        body = json_of(chance, document_of(chance, told))
        return (bytes_of(chance, body) if chance.random() < 0.5 else body), chance.randrange(len(wishes))

    def judge(case: tuple[bytes, int]) -> None:
        body, wish = case
        complaint = answer.differs(body, wishes[wish])
        assert text.clean(complaint, 10**6).count("\n") == 0
        if not complaint:
            assert isinstance(json.loads(body), dict)
        answer.lacks(body, "healthy")

    fuzz("answers", 6000, make, judge)


def test_times_of_freshness_probes() -> None:
    """A time is a finite number of seconds, or none."""
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)

    def make(chance: random.Random) -> object:
        return chance.choice((text_of(chance, TIMES), chance.choice(INTERESTING), 10.0 ** chance.randint(-400, 308),
                              chance.randrange(-(10**25), 10**25), b"x"))  # fmt: skip

    def judge(value: object) -> None:
        at = freshness.when(value)
        assert at is None or math.isfinite(at)
        fresh, told = freshness.judge(value, now, 900.0)
        assert told
        assert told == text.clean(told)
        assert fresh is False or (at is not None and abs(now.timestamp() - at) <= 900.0 + freshness.AHEAD)

    fuzz("times", 8000, make, judge)


def test_durations_and_sizes() -> None:
    """What is read can be written, and is the same when it is read again."""

    def judge(written: str) -> None:
        for parse, write in (
            (units.parse_duration, units.write_duration),
            (units.parse_size, units.write_size),
        ):
            try:
                value = parse(written)
            except ValueError:
                continue
            assert re.fullmatch(r"[0-9]+[a-zA-Z]*", written, re.ASCII)
            assert parse(write(value)) == value  # type: ignore[arg-type]

    fuzz("units", 6000, lambda chance: text_of(chance, UNITS, most=4), judge)


def test_freeze_windows() -> None:
    """An edge is read or refused; a window ends, after now, at every time and in zones with jumps."""
    zones = (UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("Australia/Lord_Howe"), ZoneInfo("Pacific/Apia"))

    def make(chance: random.Random) -> tuple[str, str, datetime, int]:
        def edge() -> str:
            if chance.random() < 0.3:
                return text_of(chance, EDGES, most=3)
            day = chance.choice(("", "mon ", "Fri ", "sun "))
            return f"{day}{chance.randrange(24):02}:{chance.randrange(60):02}"

        at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=chance.randrange(2 * 366 * 1440))
        return edge(), edge(), at, chance.randrange(len(zones))

    def judge(case: tuple[str, str, datetime, int]) -> None:
        begin, end, at, zone = case
        try:
            window = freeze.Window(freeze.edge_of(begin), freeze.edge_of(end))
        except ValueError:
            return
        if (window.begin.day is None) != (window.end.day is None) or window.begin == window.end:
            return
        until = freeze.Freeze((window,), zones[zone]).until(at)
        assert until is None or at < until <= at + timedelta(days=8)
        assert until is None or freeze.Freeze((window,), zones[zone]).until(until) is None

    fuzz("windows", 1500, make, judge)


def test_text_from_outside() -> None:
    """R-RX-32: clean text is one line, has no control characters, can be encoded, and stays as it is."""
    words = (
        "\x1b[31m",
        "\x1b]0;x\x07",
        "\u202e",
        "\ud800",
        "\x9b",
        "a",
        "é",
        "\n",
        "\r\n",
        " ",
        "\x00",
        "\ufeff",
        "\U0001f600",
    )

    def judge(given: str) -> None:
        for limit in (256, 8):
            line = text.clean(given, limit)
            assert len(line) <= limit
            assert line == text.clean(line, limit)
            line.encode()
            assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", line)
        lines = text.clean_lines(given)
        lines.encode()
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", lines)
        assert given.endswith(text.tail(given, 5))

    fuzz("texts", 5000, lambda chance: text_of(chance, words, most=20), judge)


def test_headers_of_requests() -> None:
    """Tokens, sessions, addresses and types: strange ones are nobody's."""
    keys = (access.Key("ci", b"a-token-0123456789", access.EVERY_SCOPE),)
    good = access.seal(keys[0], 2_000_000_000)
    words = ("Bearer ", "bearer", "a-token-0123456789", good, ".", "127.0.0.1", ",", " ", "::1", "%", "unknown",
    "[", "application/json",
             "; charset=", "utf-8", '"', "=", "\udcff", "é", "9" * 20, "A", "_-", "10.0.0.1")  # fmt: skip

    def judge(header: str) -> None:
        header = header.replace("\ud800", "\udc80")  # a byte that is no UTF-8; aiohttp makes no other halves
        token = access.bearer(header)
        found = access.authenticate(token, keys) if token is not None else None
        assert found is None or token == keys[0].secret
        session = access.unseal(header, keys, 1_000_000_000.0)
        assert session is None or header == good
        hop = access.client("127.0.0.1", [header], access.networks(["127.0.0.0/8"]))
        assert hop == text.clean(hop)
        kind = github.media_type([header])
        assert kind is None or kind == kind.lower()
        if hosted := access.host_name(header):
            assert hosted == text.clean(hosted)

    fuzz("headers", 8000, lambda chance: text_of(chance, words, most=5), judge)


def test_arguments_of_the_command_line() -> None:
    """Every line of words names a command to carry out, or ends with status 2 (or 0, for --help): no traceback."""
    parser = main.parser()

    def judge(words: list[str]) -> None:
        printed = io.StringIO()
        with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(printed):
            try:
                chosen = parser.parse_args(words)
            except SystemExit as ended:
                assert ended.code in (0, 2)
                return
        assert callable(chosen.run)

    fuzz("arguments", 600, lambda chance: chance.choices(WORDS, k=chance.randint(0, 6)), judge)


def test_what_reads_words_does_so_in_proportion_to_their_number() -> None:
    """Regular expressions that go back and back would show here: 64 times the text, never 1000 times the time."""
    readers: dict[str, Callable[[str], object]] = {
        "clean": text.clean_lines, "explain": gitwords.explain, "essence": gitwords.essence,
        "is_name": refs.is_name, "refusal": repository.refusal, "url": shapes.url_problem, "host": shapes.is_host,
        "when": freshness.when, "explain many lines": lambda word: gitwords.explain(word.replace("a", "\n")),
        "unseal": lambda word: access.unseal(word, (), 0.0), "host_name": access.host_name, "mistake": waysin.mistake,
        "repository": repository.is_path, "inside": shapes.inside_problem,
        "glob": lambda word: paths.fits("*a*a*a*b", [word]),
    }  # fmt: skip
    shapes_of_words = (
        "a",
        "a.",
        "'",
        "/a",
        "@",
        " ",
        "\x1b]",
        "\x1b[",
        "a:",
        "://",
        "-",
        "0",
        "[",
        "certificate ",
        "./",
        "_a@",
    )
    slow = []
    for name, read in readers.items():
        for shape in shapes_of_words:
            times = []
            for length in (2_000, 128_000):
                word = shape * (length // len(shape))
                best = math.inf
                for _ in range(2):
                    began = thread_time()
                    read(word)
                    best = min(best, thread_time() - began)
                times.append(best)
            if times[1] > 1000 * max(times[0], 0.00005):
                slow.append((name, shape, times))
    assert not slow, f"{slow} (seed {SEED})"
