"""How a revision becomes a release and takes over, and when it goes back."""

from typing import Annotated, Literal

from msgspec import Meta, field

from agent.core.settings.basics import DAY, HOUR, Bytes, Options, Port, Seconds, Text, between


class Reuse(Options, frozen=True, kw_only=True):
    """What a new release takes over from an earlier one instead of building it anew.

    If the contents of `key`, the commands and their environment are what they were for a confirmed release that is
    still on the disk, each of `paths` becomes a link into the release that built it, and `commands` are not run.
    Nothing may write there later: not the service, not `always`. An environment into which the project itself was
    installed (`pip install -e .`, `uv sync`) would run the earlier release's code: install dependencies only.
    """

    key: Annotated[tuple[Text, ...], Meta(min_length=1)]
    """Files of the repository that say what is built, such as a lock file; one that is missing counts as absent."""
    paths: Annotated[tuple[Text, ...], Meta(min_length=1)]
    """What the commands make, relative to the release; nothing of it may stand in the repository or be shared."""


class Build(Options, frozen=True, kw_only=True):
    """What is done in a new release before it runs."""

    commands: tuple[Text, ...] = ()
    """Shell commands, run in the new release one after the other."""
    always: tuple[Text, ...] = ()
    """Commands that run after those, also in a release that reuses what an earlier one built."""
    timeout: Annotated[Seconds, between(0.1, DAY)] = Seconds(600)
    """The deadline of all of them together; those of `migrate` have as much again."""
    environment: dict[str, str] = field(default_factory=dict)
    """Added, for the build alone, to `runtime.environment`."""
    reuse: Reuse | None = None
    """What is taken over from an earlier release while its key is unchanged; by default nothing."""
    nice: Annotated[int, Meta(ge=0, le=19)] = 10
    """How much processor time the build leaves to others: 0 (as the agent) to 19 (only what nobody else wants)."""
    io: Literal["idle", "low", "normal"] = "low"
    """The same for the disk; `idle` waits until nobody else uses it."""
    memory: Annotated[Bytes, between(16 << 20, 1 << 50)] | None = None
    """The address space that each program of the build may have, which is more than it uses (Node.js takes many
    gigabytes); by default there is no limit."""
    isolated: bool | None = None
    """Whether the commands run as user `homeport-build` in a unit of their own, and those of `migrate` as the user of
    the service's unit. By default they do under the installed unit, where `homeport install` prepared it."""


class Freeze(Options, frozen=True, kw_only=True):
    """A window in which nothing is deployed by itself; what comes meanwhile waits for its end. A person may deploy."""

    begin: str = field(name="from")
    """Its first minute, in local time: `22:00` for every day, `fri 17:00` for one."""
    end: str = field(name="to")
    """When it ends, written like `from`; an earlier time is one of the next day or week."""


class Deploy(Options, frozen=True, kw_only=True):
    """When and how a revision becomes a release."""

    on: tuple[Literal["push", "workflow_run", "release"], ...] = ("push",)
    """Which GitHub events deploy: a push the branch's tip, a green workflow_run exactly its commit, a published
    release the commit of its tag. What is deployed always lies on `source.branch`."""
    workflow: Text | None = None
    """The workflow whose green runs deploy: its file below `.github/workflows` (`ci.yml`), or its name. Needed with
    workflow_run."""
    workflow_events: Annotated[
        tuple[Literal["push", "workflow_dispatch", "schedule"], ...], Meta(min_length=1)
    ] = ("push",)
    """What may have made the workflow run. Runs for pull requests never deploy."""
    prereleases: bool = False
    """Whether a release that is marked as a pre-release deploys, too."""
    freeze: tuple[Freeze, ...] = ()
    """When nothing is deployed by itself."""
    strategy: Literal["restart", "blue-green"] = "restart"
    """How the service changes over. `restart`: the old version ends, then the new one starts. `blue-green`: the new one
    is started and proven beside the old one, then nginx sends the users to it; see `blue_green`."""
    build: Build = field(default_factory=Build)
    """What is done in a new release before it runs."""
    migrate: tuple[Text, ...] = ()
    """Shell commands that bring the data to the new version's schema, run in the new release after the backup, while
    the old version still serves; they must be safe to run twice. If one fails, nothing is switched."""
    shared: tuple[str, ...] = ()
    """Paths that are kept across releases: they lie in `shared/` and are linked into each release."""
    keep_releases: Annotated[int, Meta(ge=0, le=1000)] = 5
    """How many releases stay on the disk besides the ones that are needed."""


class BlueGreen(Options, frozen=True, kw_only=True):
    """Two instances of the service's unit, `@blue` and `@green`, of which one serves behind nginx.

    A new version is started in the other one, which finds its port as PORT in its environment. When it has proven
    itself nginx's upstream is swapped, and what users are told is looked at through nginx. The old one ends when nobody
    is connected to it any more. Where the memory does not hold two copies, it is restarted instead.
    """

    ports: tuple[Port, Port]
    """Of blue and of green, on 127.0.0.1. In the probes the first one stands for whichever instance is asked."""
    url: str
    """How users reach the service through nginx. It must answer after the swap, three times in a row: anything but a
    5xx."""
    verify_tls: bool = True
    """Whether the certificate of an https address must be valid for its name."""
    drain: Annotated[Seconds, between(0, HOUR)] = Seconds(30)
    """How long the old instance may go on with what it has begun, such as downloads and WebSockets, after the swap."""
    memory: Annotated[Bytes, between(1 << 20, 1 << 50)] | None = None
    """What a second copy takes; by default as much as the one that serves takes just then."""


class Rollback(Options, frozen=True, kw_only=True):
    """When it goes back by itself after the deployment, and the guard against rollback loops."""

    max_per_hour: Annotated[int, Meta(ge=1, le=1000)] = 2
    """So many automatic rollbacks within an hour hold the service until a person resumes it."""
    on_workflow: Text | None = None
    """A workflow that tests what is deployed: its file below `.github/workflows` (`e2e.yml`), or its name. If a run of
    it on `source.branch` fails or times out while exactly its commit is live, the service goes back to the last good
    release before. Runs for pull requests and of forks do not count. By default no workflow does this."""
    probation: Annotated[Seconds, between(0, DAY)] = Seconds(0)
    """If a version falls ill within this time after its deployment, the service goes back to the last good release
    before, once; it is not started again. Later, and after that, `health.restarts` says what is done. `0s`: there is
    no probation."""
    restore_data: Literal["never", "if-migrated"] = "never"
    """`if-migrated`: an automatic rollback of a version that began its `migrate` commands also brings back the data
    of the backup before it. What was written since is no longer served, but kept beside it."""
