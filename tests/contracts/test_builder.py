"""The contract of `core.ports.Builder`, over a real shell and over the fake."""

import asyncio
import os
import resource
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

from agent.adapters.builder import ShellBuilder
from agent.adapters.isolated import IsolatedBuilder
from agent.adapters.transcript import LIMIT
from agent.adapters.workshop import Workshop
from agent.core import isolation
from agent.core.errors import StepFailed
from agent.core.model import Fault, Launch
from agent.core.settings import Build, Bytes, Deploy, ProcessRuntime, Seconds, Service, Source
from agent.system import files, process
from agent.system.units import Verb
from tests.contracts.runner import RunnerUnits
from tests.fakes import FakeBuilder, FakeDisk


@pytest.fixture
def release(tmp_path: Path) -> Path:
    (tmp_path / "releases/1-aaaaaaa").mkdir(parents=True)
    return tmp_path / "releases/1-aaaaaaa"


def launch(release: Path) -> Launch:
    return Launch(service="scraper", release=release.name, revision="a" * 40, directory=str(release))


def redact(text: str) -> str:
    return text.replace("hush-hush", "***")


def make(*commands: str, timeout: float = 30, floor: int = 0, **environment: str) -> ShellBuilder:
    """One with these build commands."""
    return made_of({"commands": commands}, timeout=timeout, floor=floor, **environment)


def made_of(
    build: dict[str, Any], *migrate: str, timeout: float = 30, floor: int = 0, **environment: str
) -> ShellBuilder:
    """One with any options of the build; it tells what it hears every 10 ms."""
    deploy = Deploy(build=Build(timeout=Seconds(timeout), **build), migrate=migrate)
    return ShellBuilder("scraper", deploy, environment, redact, floor=floor, pace=0.01)


async def fails(code: str, builder: ShellBuilder, release: Path) -> StepFailed:
    with pytest.raises(StepFailed) as caught:
        await builder.build(launch(release))
    assert caught.value.code == code, caught.value
    return caught.value


async def is_gone(pid: int) -> bool:
    for _ in range(2000):
        stat = process.stat_of(pid)
        if stat is None or not stat.alive:
            return True
        await asyncio.sleep(0.01)
    return False


async def child_of(release: Path) -> int:
    place = release / "child"
    for _ in range(1000):
        if text := read(place):
            return int(text)
        await asyncio.sleep(0.01)
    raise AssertionError("the build wrote no pid")


def read(place: Path) -> str:
    return place.read_text() if place.exists() else ""


# --- the contract


class Site(Protocol):
    """A release to build in. The scripts' lines are those of `tests.fakes.FakeBuilder`."""

    async def build(self, *script: str, always: Sequence[str] = (), reused: bool = False) -> str:
        """Builds by these scripts."""

    async def migrate(self, *script: str) -> str:
        """Migrates by this script."""

    def made(self, name: str) -> str | None:
        """A file of the release."""


class ShellSite:
    """A real directory, a real shell."""

    def __init__(self, release: Path) -> None:
        self._release = release

    async def build(self, *script: str, always: Sequence[str] = (), reused: bool = False) -> str:
        commands = {"commands": self._shell(script), "always": self._shell(always)}
        return await made_of(commands, timeout=1).build(launch(self._release), reused=reused)

    async def migrate(self, *script: str) -> str:
        return await made_of({}, *self._shell(script), timeout=1).migrate(launch(self._release))

    def _shell(self, script: Sequence[str]) -> tuple[str, ...]:
        shell = {"say": "echo {1}", "write": "printf '%s' {2} > {1}", "remove": "rm {1}", "fail": "exit 3"}
        shell |= {"hang": "sleep 60", "full": "echo No space left on device; exit 1"}
        return tuple(shell[line.split()[0]].format(*line.split()) for line in script)

    def made(self, name: str) -> str | None:
        return read(self._release / name) or None


class IsolatedSite(ShellSite):
    """The same by the program that homeport-build@.service runs."""

    async def build(self, *script: str, always: Sequence[str] = (), reused: bool = False) -> str:
        commands = {"commands": self._shell(script), "always": self._shell(always)}
        builder, _ = isolated(self._release, commands, timeout=3)
        return await builder.build(launch(self._release), reused=reused)

    async def migrate(self, *script: str) -> str:
        builder, _ = isolated(self._release, {}, *self._shell(script), timeout=3)
        return await builder.migrate(launch(self._release))


def isolated(
    release: Path, build: dict[str, Any], *migrate: str, timeout: float = 30, **environment: str
) -> tuple[IsolatedBuilder, RunnerUnits]:
    """A builder by the program of the unit; root has allowed what is configured."""
    source, place = Source(repository="/x"), release.parents[1]
    runtime = ProcessRuntime(command=("x",), environment=environment)
    service = Service(
        directory=str(place), source=source, runtime=runtime,
        deploy=Deploy(build=Build(timeout=Seconds(timeout), **build), migrate=migrate),
    )  # fmt: skip
    (place / "scraper.json").write_text(isolation.recipe("scraper", service))
    units = RunnerUnits("scraper", place)
    workshop = Workshop("scraper", place, units, None, recipes=place, output=place / "run")
    migrations = Workshop(
        "scraper", place, RunnerUnits("scraper", place, "migrate"), None, template=isolation.MIGRATION,
        recipes=place, output=place / "run",
    )  # fmt: skip
    shell = ShellBuilder("scraper", service.deploy, environment, redact)
    builder = IsolatedBuilder(
        "scraper", service, workshop, shell, redact, migrations=migrations, floor=0, pace=0.01
    )
    return builder, units


class FakeSite:
    """The same in memory."""

    def __init__(self) -> None:
        self._disk = FakeDisk({Path("/srv/1-aaaaaaa"): {}})

    async def build(self, *script: str, always: Sequence[str] = (), reused: bool = False) -> str:
        scripts = {"build": "\n".join(script), "always": "\n".join(always)}
        self._disk.trees[Path("/srv/1-aaaaaaa")] |= scripts
        return await FakeBuilder(self._disk).build(launch(Path("/srv/1-aaaaaaa")), reused=reused)

    async def migrate(self, *script: str) -> str:
        self._disk.trees[Path("/srv/1-aaaaaaa")]["migrate"] = "\n".join(script)
        return await FakeBuilder(self._disk).migrate(launch(Path("/srv/1-aaaaaaa")))

    def made(self, name: str) -> str | None:
        return self._disk.trees[Path("/srv/1-aaaaaaa")].get(name)


@pytest.fixture(params=["shell", "isolated", "fake"])
def site(request: pytest.FixtureRequest, release: Path) -> Site:
    """Each builder, and the fake that the tests of the services use."""
    if request.param == "fake":
        return FakeSite()
    return ShellSite(release) if request.param == "shell" else IsolatedSite(release)


async def test_what_the_commands_make_is_in_the_release_and_what_they_say_is_returned(site: Site) -> None:
    output = await site.build("say one", "write made yes", "say two")
    assert [line for line in output.splitlines() if not line.startswith("$")] == ["one", "two"]
    assert site.made("made") == "yes"
    await site.build("remove made")
    assert site.made("made") is None


async def test_a_build_can_be_run_twice(site: Site) -> None:
    for _ in range(2):
        await site.build("write made yes")
    assert site.made("made") == "yes"


async def test_nothing_to_do_says_nothing(site: Site) -> None:
    assert await site.build() == ""


@pytest.mark.parametrize(("last", "code"), [("fail", "build-failed"), ("hang", "build-timeout")])
async def test_what_fails_ends_the_build_with_its_output(site: Site, last: str, code: str) -> None:
    with pytest.raises(StepFailed) as caught:
        await site.build("say one", last, "write never x")
    assert (caught.value.code, caught.value.fault) == (code, Fault.COMMIT)
    assert "one" in caught.value.output
    assert site.made("never") is None


async def test_what_is_reused_is_not_built_but_what_is_always_done_is(site: Site) -> None:
    for reused, said in ((False, ["one", "two"]), (True, ["two"])):
        output = await site.build(
            "say one", "write made x", always=["say two", "write dist y"], reused=reused
        )
        assert [line for line in output.splitlines() if not line.startswith("$")] == said
        assert (site.made("made"), site.made("dist")) == ("x" if not reused else None, "y")
        await site.build(*(["remove made"] if not reused else []), "remove dist")
    with pytest.raises(StepFailed) as caught:
        await site.build("say one", always=["fail"], reused=True)
    assert (caught.value.code, caught.value.fault) == ("build-failed", Fault.COMMIT)


async def test_the_data_is_migrated_by_commands_of_its_own(site: Site) -> None:
    """F8: they can be run twice."""
    for _ in range(2):
        output = await site.migrate("say one", "write made yes")
        assert [line for line in output.splitlines() if not line.startswith("$")] == ["one"]
    assert site.made("made") == "yes"
    assert await site.migrate() == ""


@pytest.mark.parametrize(
    ("last", "code", "fault"),
    [
        ("fail", "migrate-failed", Fault.COMMIT),
        ("hang", "migrate-timeout", Fault.COMMIT),
        ("full", "disk-full", Fault.WORLD),
    ],
)
async def test_a_migration_that_fails_says_so(site: Site, last: str, code: str, fault: Fault) -> None:
    with pytest.raises(StepFailed) as caught:
        await site.migrate("say one", last, "write never x")
    assert (caught.value.code, caught.value.fault) == (code, fault)
    assert "one" in caught.value.output
    assert site.made("never") is None


# --- the shell


async def test_the_commands_run_in_the_release_one_after_the_other(release: Path) -> None:
    output = await make("pwd; echo x > made", "cat made; echo err >&2").build(launch(release))
    assert output == f"$ pwd; echo x > made\n{release}\n$ cat made; echo err >&2\nx\nerr\n"


async def test_the_environment_is_the_services_and_nothing_of_the_agents(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-SD-4"""
    monkeypatch.setenv("HOMEPORT_TOKEN", "hush")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials")
    await make("env > seen", COLOUR="blue").build(launch(release))
    seen = dict(line.split("=", 1) for line in read(release / "seen").splitlines())
    shells_own = {"PWD", "OLDPWD", "SHLVL", "_"}
    assert seen.keys() - shells_own == {
        "PATH", "HOME", "LANG", "HOMEPORT_SERVICE", "HOMEPORT_REVISION", "HOMEPORT_WORKS_IN", "COLOUR",
    }  # fmt: skip
    assert (seen["HOMEPORT_SERVICE"], seen["HOMEPORT_REVISION"]) == ("scraper", "a" * 40)


async def test_the_first_failure_ends_the_build_and_its_output_is_kept(release: Path) -> None:
    failure = await fails("build-failed", make("echo one", "echo two; exit 3", "touch never"), release)
    assert failure.output == "$ echo one\none\n$ echo two; exit 3\ntwo\n"
    assert "status 3" in failure.message
    assert failure.fault is Fault.COMMIT
    assert not read(release / "never")


@pytest.mark.parametrize("command", ["kill -9 $$", "sh -c 'kill -9 $$'; exit $?"])
async def test_a_signal_is_named(release: Path, command: str) -> None:
    """F72, F74"""
    assert "SIGKILL; perhaps the memory" in (await fails("build-failed", make(command), release)).message


async def test_one_deadline_is_over_all_commands_and_ends_the_whole_family(release: Path) -> None:
    """F72"""
    begun = time.monotonic()
    builder = make("echo one; sleep 0.3", "sleep 60 & echo $! > child; sleep 60", "touch never", timeout=2)
    failure = await fails("build-timeout", builder, release)
    assert time.monotonic() - begun < 30
    assert failure.output.startswith("$ echo one; sleep 0.3\none\n$ sleep 60 &")
    assert failure.fault is Fault.COMMIT
    assert await is_gone(int(read(release / "child")))


async def test_a_daemon_that_a_good_build_started_is_ended(release: Path) -> None:
    """F72"""
    daemon = "setsid sh -c 'echo $$ > child; exec sleep 60' & while ! [ -s child ]; do sleep 0.02; done"
    await make(daemon).build(launch(release))
    assert await is_gone(int(read(release / "child")))


async def test_what_a_killed_agent_left_building_is_ended_first(release: Path) -> None:
    """F16, R-SD-12"""
    name, _, value = process.mark_of(release).partition("=")
    env = {"PATH": os.environ["PATH"], name: value}
    left = process.start(["/bin/sh", "-c", "setsid sleep 60 & echo $! > child"], cwd=release, env=env)
    left.wait()
    assert left.stdout
    left.stdout.close()
    await make("true").build(launch(release))
    assert await is_gone(int(read(release / "child")))


async def test_cancelling_leaves_nothing_running(release: Path) -> None:
    task = asyncio.create_task(make("sleep 60 & echo $! > child; wait").build(launch(release)))
    pid = await child_of(release)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await is_gone(pid)


async def test_a_flood_of_output_is_capped_at_its_end(release: Path) -> None:
    """F72, R-MO-5"""
    output = await make("head -c 20000000 /dev/zero | tr '\\0' 'x'; echo; echo the end").build(
        launch(release)
    )
    assert len(output) <= LIMIT
    assert output.endswith("x\nthe end\n")


async def test_secrets_and_control_characters_do_not_get_into_the_output(release: Path) -> None:
    """R-RX-31, R-RX-32"""
    command = r"printf 'a hush-hush b\n\033[31mred\033[0m hush-\033[1mhush\n\0\rx\n'"
    output = await make(command).build(launch(release))
    assert "hush-hush" not in output
    assert output.endswith("a *** b\nred ***\n\nx\n")


@pytest.mark.parametrize("offset", range(9))
async def test_a_secret_that_the_cap_cuts_in_two_is_gone(release: Path, offset: int) -> None:
    """R-RX-31"""
    fill = LIMIT - offset
    output = await make(f"printf hush-hush; head -c {fill} /dev/zero | tr '\\0' x").build(launch(release))
    assert "hush" not in output.partition("\n")[2]
    assert output.endswith("xxx\n")


async def test_a_full_disk_is_the_worlds_fault(release: Path) -> None:
    """F22, R-RB-6"""
    failure = await fails("disk-full", make("echo 'No space left on device' >&2; exit 1"), release)
    assert failure.fault is Fault.WORLD
    assert (await fails("disk-full", make("exit 1", floor=1 << 60), release)).fault is Fault.WORLD
    await make("true", floor=1 << 60).build(launch(release))


@pytest.mark.parametrize("commands", [('rm -r "$PWD"',), ('rm -r "$PWD"', "true")])
async def test_a_build_that_removes_its_release_has_failed(release: Path, commands: tuple[str, ...]) -> None:
    """F73"""
    failure = await fails("build-failed", make(*commands), release)
    assert failure.fault is Fault.COMMIT
    assert failure.output.startswith("$ rm -r")


async def test_what_was_built_is_on_the_device(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """M1"""
    synced: list[Path] = []
    monkeypatch.setattr(files, "syncfs", synced.append)
    await make("true").build(launch(release))
    assert synced == [release]


async def test_a_path_of_the_agents_is_used_and_a_missing_one_replaced(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = shutil.which("true")
    monkeypatch.delenv("PATH")
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("LANG", raising=False)
    output = await make('command -v true; echo "$HOME $LANG"').build(launch(release))
    assert where
    assert "C.UTF-8" in output


# --- the environments


async def test_the_builds_environment_is_for_the_build_alone(release: Path) -> None:
    """R-SD-4"""
    builder = made_of(
        {"commands": ("echo $A $B $COLOUR",), "environment": {"A": "1", "COLOUR": "red"}},
        "echo $A $B $COLOUR $HOMEPORT_SERVICE",
        B="2",
        COLOUR="blue",
    )
    assert (await builder.build(launch(release))).endswith("\n1 2 red\n")
    assert (await builder.migrate(launch(release))).endswith("\n2 blue scraper\n")


async def test_a_migration_is_ended_like_a_build(release: Path) -> None:
    """F72, and what an agent that was killed has left migrating is ended before it begins again."""
    with pytest.raises(StepFailed) as caught:
        await made_of({}, "sleep 60 & echo $! > child; sleep 60", timeout=1.5).migrate(launch(release))
    assert caught.value.message.startswith("the migration took longer than 1.5 seconds")
    assert await is_gone(int(read(release / "child")))


# --- limits


POLITE = (
    "cut -d' ' -f19 /proc/self/stat; ionice -p $$; grep 'Max address space' /proc/self/limits | tr -s ' '"
)


async def said(builder: ShellBuilder, release: Path) -> list[str]:
    return (await builder.build(launch(release))).splitlines()[1:]


async def test_a_build_gives_way_to_others_and_a_migration_does_not(release: Path) -> None:
    """Read back from the kernel."""
    mine = os.nice(0)
    nice, disk, memory = await said(make(POLITE), release)
    assert (nice, disk) == (str(min(mine + 10, 19)), "best-effort: prio 7")
    assert memory == (await unlimited(release))[2]
    migrated = (await made_of({}, POLITE).migrate(launch(release))).splitlines()[1:]
    assert migrated == await unlimited(release)
    assert migrated[0] == str(mine)


async def unlimited(release: Path) -> list[str]:
    return await said(made_of({"commands": (POLITE,), "nice": 0, "io": "normal"}), release)


async def test_each_limit_is_what_the_configuration_says(release: Path) -> None:
    build = {"commands": (POLITE,), "nice": 19, "io": "idle", "memory": Bytes(200 << 20)}
    nice, disk, memory = await said(made_of(build), release)
    assert (nice, disk) == ("19", "idle")
    assert memory.split(" ")[4:6] == ["209715200"] * 2 or memory.split(" ")[3:5] == ["209715200"] * 2


EATER = f"{sys.executable} -c 'data = bytearray(400 << 20)'"


async def test_who_eats_more_memory_than_it_may_is_stopped_and_told_why(release: Path) -> None:
    """F74: the build fails, the machine does not."""
    build = {"commands": (EATER, "touch never"), "memory": Bytes(200 << 20)}
    failure = await fails("build-failed", made_of(build), release)
    assert "it asked for more memory than `deploy.build.memory`, 200M" in failure.message
    assert failure.fault is Fault.COMMIT
    assert not read(release / "never")
    await made_of({"commands": (EATER,)}).build(launch(release))


async def test_a_program_that_does_not_say_why_it_aborted_is_given_a_hint(release: Path) -> None:
    failure = await fails(
        "build-failed", made_of({"commands": ("kill -ABRT $$",), "memory": Bytes(1 << 30)}), release
    )
    assert failure.message.endswith(
        "was ended by SIGABRT; perhaps the memory did not suffice (`deploy.build.memory`, 1G)"
    )
    failure = await fails("build-failed", made_of({"commands": ("kill -ABRT $$",)}), release)
    assert failure.message.endswith("was ended by SIGABRT")


async def test_a_limit_above_the_agents_own_is_no_failure_of_the_build(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1 << 30, 1 << 30))
    build = {"commands": ("grep 'Max address' /proc/self/limits",), "memory": Bytes(4 << 30)}
    assert str(1 << 30) in (await made_of(build).build(launch(release)))


async def test_without_prlimit_no_build_begins_that_was_to_be_limited(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path: None)
    failure = await fails(
        "limit-unavailable", made_of({"commands": ("touch made",), "memory": Bytes(1 << 30)}), release
    )
    assert failure.fault is Fault.WORLD
    assert not (release / "made").exists()


async def test_without_nice_and_ionice_it_is_built_and_told_once(
    release: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path: None)
    builder = make("touch made")
    for _ in range(2):
        await builder.build(launch(release))
    assert (release / "made").exists()
    assert sorted(record.getMessage() for record in caplog.records) == [
        "scraper: there is no program ionice: builds run without it",
        "scraper: there is no program nice: builds run without it",
    ]


# --- what is heard while it runs


async def heard_of(builder: ShellBuilder, release: Path) -> list[str]:
    """What was heard until it ended; the last one is what it returned."""
    found: list[str] = []
    output = await builder.build(launch(release), found.append)
    return [*found, output]


WAIT = "while ! [ -e go ]; do sleep 0.01; done; rm go"


async def test_what_a_build_prints_is_heard_while_it_runs(release: Path) -> None:
    found: list[str] = []

    def heard(text: str) -> None:
        found.append(text)
        if text.endswith(("\none\n", "\nthree\n")):
            (release / "go").touch()

    await make(f"echo one; {WAIT}; echo two", f"echo three; {WAIT}").build(launch(release), heard)
    assert found[0].startswith("$ echo one")
    assert any(text.endswith("\none\n") for text in found)
    assert any(text.endswith("\nthree\n") and "\ntwo\n" in text for text in found)


async def test_it_is_not_heard_more_often_than_was_asked_for(release: Path) -> None:
    deploy = Deploy(build=Build(commands=("for i in $(seq 200); do echo $i; done",) * 3))
    found: list[str] = []
    await ShellBuilder("scraper", deploy, {}, redact, pace=60).build(launch(release), found.append)
    assert len(found) <= 1


@pytest.mark.parametrize("between", ["", "\\033[1m", "\\033"])
async def test_a_secret_that_is_half_printed_is_not_heard(release: Path, between: str) -> None:
    """R-RX-31: nor one that an escape sequence cuts in two."""
    command = f"echo begun; printf 'my hush-{between}'; sleep 0.1; echo 'hush'; sleep 0.1"
    found = await heard_of(make(command), release)
    assert any("begun" in text.partition("\n")[2] for text in found[:-1])
    assert not any("hush" in text.partition("\n")[2].replace("my ***", "") for text in found)


@pytest.mark.parametrize("offset", range(9))
async def test_a_secret_that_the_window_cuts_in_two_is_not_heard(release: Path, offset: int) -> None:
    """R-RX-31: at each place at which the window may begin."""
    fill = f"head -c {LIMIT - 1 - offset} /dev/zero | tr '\\0' x"
    found = await heard_of(make(f"printf hush-hush; {fill}; echo; sleep 0.1"), release)
    assert any(text.endswith("xxx\n") for text in found[:-1])
    assert not any("hush" in text.partition("\n")[2] or text.startswith("ush") for text in found)
    assert all(len(text) <= LIMIT for text in found)


# --- by the unit of builds


async def test_a_flood_of_an_isolated_build_is_capped_at_its_end(release: Path) -> None:
    line = "x" * 99
    builder, _ = isolated(release, {"commands": (f"yes {line} | head -n 20000; echo the end",)})
    output = await builder.build(launch(release))
    assert len(output) <= LIMIT
    assert output.endswith(f"{line}\nthe end\n")
    assert (release.parents[1] / "run/scraper/output-0").stat().st_size <= 3 * LIMIT


async def test_an_isolated_build_hides_secrets_and_control_characters(release: Path) -> None:
    builder, _ = isolated(release, {"commands": ("printf 'hush-\033[1mhush hush-hush\\n'",)})
    assert "hush-hush" not in await builder.build(launch(release))


async def test_what_an_isolated_build_prints_is_heard_while_it_runs(release: Path) -> None:
    builder, _ = isolated(release, {"commands": ("echo one; sleep 0.3", "echo two; sleep 0.3")})
    found: list[str] = []
    output = await builder.build(launch(release), found.append)
    assert any(text.endswith("one\n") for text in found)
    assert len(found) == len(set(found)), "only what is new"
    assert output.endswith("two\n")


async def test_the_output_of_an_earlier_build_is_not_taken_for_this_ones(release: Path) -> None:
    first, _ = isolated(release, {"commands": ("echo earlier; echo more",)})
    await first.build(launch(release))
    second, _ = isolated(release, {"commands": ("exit 4",)})
    found: list[str] = []
    with pytest.raises(StepFailed) as caught:
        await second.build(launch(release), found.append)
    assert "earlier" not in caught.value.output + "".join(found)


async def test_the_environment_of_an_isolated_build_is_the_recipes(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOMEPORT_TOKEN", "hush")
    builder, _ = isolated(release, {"commands": ("env > seen",), "environment": {"B": "2"}}, A="1")
    await builder.build(launch(release))
    seen = dict(line.split("=", 1) for line in read(release / "seen").splitlines())
    assert seen.keys() == {"PATH", "HOME", "LANG", "A", "B", "HOMEPORT_SERVICE", "HOMEPORT_REVISION", "PWD"}
    assert (seen["HOMEPORT_REVISION"], seen["PWD"]) == ("a" * 40, str(release))


async def test_an_isolated_build_is_ended_when_it_is_cancelled(release: Path) -> None:
    builder, _ = isolated(release, {"commands": ("echo $$ > child; exec sleep 60",)})
    work = asyncio.create_task(builder.build(launch(release)))
    child = await child_of(release)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert await is_gone(child)


async def test_a_limit_of_memory_holds_in_an_isolated_build(release: Path) -> None:
    hungry = f"{sys.executable} -c 'bytearray(1 << 30)'"
    builder, _ = isolated(release, {"commands": (hungry,), "memory": Bytes(256 << 20)})
    with pytest.raises(StepFailed, match=r"asked for more memory than `deploy.build.memory`, 256M") as caught:
        await builder.build(launch(release))
    assert caught.value.code == "build-failed"


async def test_a_recipe_that_root_has_not_written_runs_nothing(release: Path) -> None:
    builder, units = isolated(release, {"commands": ("touch ran",)})
    recipe = release.parents[1] / "scraper.json"
    for spoil in (lambda: recipe.write_text(recipe.read_text().replace("touch", "rm")), recipe.unlink):
        spoil()
        with pytest.raises(StepFailed) as caught:
            await builder.build(launch(release))
        assert (caught.value.code, caught.value.fault) == ("build-not-prepared", Fault.WORLD)
    assert Verb.START not in units.calls
    assert not (release / "ran").exists()


@pytest.mark.parametrize("status", ["Infinity", "-1e999", "1e400", "[]", '"x"'])
async def test_an_end_that_a_build_has_made_up_is_no_defect_of_the_agents(release: Path, status: str) -> None:
    said = f'{{"command": 0, "status": {status}, "out_of_memory": false}}'
    output = release.parents[1] / "run/scraper"
    trick = f"printf %s '{said}' > {output}/result; kill -9 $PPID"
    builder, _ = isolated(release, {"commands": (trick,)})
    with pytest.raises(StepFailed):
        await builder.build(launch(release))


async def test_what_lies_where_a_build_prints_is_not_followed(release: Path, tmp_path: Path) -> None:
    """Its user may put anything there: the agent would read its own secrets for it."""
    secret = tmp_path / "secret"
    secret.write_text("the agent's own\n")
    output = tmp_path / "run/scraper"
    trick = f"ln -sf {secret} {output}/output-0; ln -sf {secret} {output}/result; mkfifo {output}/output-1; exit 1"
    builder, _ = isolated(release, {"commands": (trick, "true")})
    with pytest.raises(StepFailed) as caught:
        await builder.build(launch(release))
    assert "the agent's own" not in caught.value.output


@pytest.mark.parametrize("name", ["run", "output-0", "result"])
async def test_a_directory_where_a_build_prints_is_no_defect_of_the_agents(release: Path, name: str) -> None:
    output = release.parents[1] / "run/scraper"
    trick = f"rm -f {output}/{name}; mkdir {output}/{name}; sleep 0.1; exit 1"
    builder, _ = isolated(release, {"commands": (trick,)})
    for _ in range(2):
        with pytest.raises(StepFailed):
            await builder.build(launch(release))
