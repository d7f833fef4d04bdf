"""The errors say what they are about."""

import pytest

from agent.core.codes import CODES
from agent.core.errors import ConfigError, Problem, Refused, StepFailed
from agent.core.model import Fault


@pytest.mark.parametrize(
    ("problems", "file", "message"),
    [
        (1, "", "1 problem in the configuration"),
        (2, "/etc/homeport.yaml", "2 problems in /etc/homeport.yaml"),
        (0, "", "0 problems in the configuration"),
    ],
)
def test_a_configuration_error_counts_its_problems(problems: int, file: str, message: str) -> None:
    found = [Problem(f"p{number}", "is wrong") for number in range(problems)]
    error = ConfigError(found, file=file)
    assert (error.code, error.message, error.problems, error.file) == ("config-invalid", message, found, file)
    assert str(error) == f"{message} [config-invalid]"
    assert ConfigError(found).message.endswith(" in the configuration")


def test_a_refusal_carries_what_goes_into_the_answer() -> None:
    plain = Refused(409, "held", "wait")
    assert (plain.status, plain.hint, plain.headers) == (409, CODES["held"].hint, {})
    told = Refused(429, "held", "wait", hint="later", headers={"Retry-After": "5"})
    assert (told.hint, told.headers) == ("later", {"Retry-After": "5"})


def test_a_failed_step_is_its_codes_fault_unless_it_says_otherwise() -> None:
    assert CODES["build-failed"].fault is Fault.COMMIT
    plain = StepFailed("build-failed", "exit 1")
    assert (plain.fault, plain.output, plain.hint) == (Fault.COMMIT, "", CODES["build-failed"].hint)
    told = StepFailed("build-failed", "killed", hint="buy memory", fault=Fault.WORLD, output="tail")
    assert (told.fault, told.output, told.hint) == (Fault.WORLD, "tail", "buy memory")
