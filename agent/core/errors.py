"""Everything that can go wrong, as one small tree.

    HomeportError                 code, message, hint: stable, for people and for programs
    ├── ConfigError               the configuration is wrong: all problems at once        exit 78
    ├── Refused                   the caller is wrong: becomes a problem document         4xx
    ├── StepFailed                a step's honest "no", and whose fault it is
    ├── Unavailable               not now: try again                                      503, exit 75 or 69
    └── Conflict                  a compare-and-set lost: somebody else was faster

Every code stands in `core.codes` with its hint; a code that is not there cannot be raised. Adapters
translate foreign errors at their edge, raise with `from`, and an error is logged once, where it is handled.
"""

from dataclasses import dataclass

from agent.core.codes import CODES
from agent.core.model import Fault


class HomeportError(Exception):
    """`code` is stable, `message` says what happened, `hint` says what to do."""

    def __init__(self, code: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = CODES[code].hint if hint is None else hint
        self.done: dict[str, object] = {}
        """What a command had done by then: with --json it stands in the one object that is printed."""

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]"


@dataclass(frozen=True)
class Problem:
    """One thing wrong in the configuration. `line` counts from 1; `path` is dotted, as in the file."""

    path: str
    message: str
    line: int | None = None
    hint: str = ""


class ConfigError(HomeportError):
    """The configuration cannot be used. `problems` holds every one that was found."""

    def __init__(self, problems: list[Problem], *, file: str = "") -> None:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("config-invalid", f"{count} in {file or 'the configuration'}")
        self.problems = problems
        self.file = file


class Refused(HomeportError):
    """The caller is wrong. `status` is the HTTP status; `headers` go into the answer."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        hint: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(code, message, hint=hint)
        self.status = status
        self.headers = headers or {}


class StepFailed(HomeportError):
    """A step could not be done. `fault` decides on quarantine; `output` is the program's tail, redacted.

    `retry_after`: the other side asks to be left alone for so many seconds.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        hint: str | None = None,
        fault: Fault | None = None,
        output: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(code, message, hint=hint)
        self.fault = fault or CODES[code].fault
        self.output = output
        self.retry_after = retry_after


class Unavailable(HomeportError):
    """Not now. The same call may work later."""


class Conflict(HomeportError):
    """The row is no longer what the caller read."""
