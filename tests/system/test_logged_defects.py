"""What the agent logs of defects: one line an entry, without secrets, also of what nobody caught."""

import json
import subprocess
import sys

import pytest

SECRET = "a-secret-that-nobody-may-see"
BEFORE = f"""
import logging, sys, threading
from agent.core.settings import SecretRef
from agent.system import logs
from agent.system.secrets import Secrets
secrets = Secrets({{"A": "{SECRET}"}})
secrets.get(SecretRef(env="A"))
logs.set_up(secrets.redact, as_json=True)
log = logging.getLogger("test")
"""


def run(code: str) -> tuple[int, list[dict[str, str]], str]:
    """The exit status, the entries, and what stands on standard error."""
    done = subprocess.run([sys.executable, "-c", BEFORE + code], capture_output=True, text=True, check=False)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (f"raise RuntimeError('{SECRET}')", 1),
        (f"raise ExceptionGroup('{SECRET}', [ValueError('{SECRET}')])", 1),
        (f"""
def fail(): raise RuntimeError('{SECRET}')
thread = threading.Thread(target=fail); thread.start(); thread.join()""", 0),
        (f"""
class Late:
    def __del__(self): raise RuntimeError('{SECRET}')
Late()""", 0),
    ],
)  # fmt: skip
def test_a_defect_that_nobody_caught_is_an_entry_without_secrets(code: str, status: int) -> None:
    """R-RX-31: a traceback on standard error would go to the journal as it is."""
    ended, entries, errors = run(code)
    assert ended == status
    assert errors == ""
    (entry,) = entries
    assert "***" in entry["trace"]
    assert SECRET not in json.dumps(entry)


def test_an_entry_that_cannot_be_written_is_told_without_what_it_holds() -> None:
    """R-RX-31: the library itself would print the arguments."""
    _, entries, errors = run(f"log.info('%d', '{SECRET}'); log.info('on')")
    assert [entry["message"] for entry in entries] == ["an entry of test cannot be told: TypeError", "on"]
    assert errors == ""


@pytest.mark.parametrize(
    "code", [r"log.info('x\n\"' * 100_000)", "log.exception('x' * 9000, exc_info=RuntimeError('y' * 90_000))"]
)
def test_a_line_is_bounded_and_stays_a_document(code: str) -> None:
    """R-MO-5: 8 KiB, one line, whatever is logged."""
    _, entries, _ = run(code)
    (entry,) = entries
    assert 2000 < len(json.dumps(entry, ensure_ascii=False)) <= 8192
