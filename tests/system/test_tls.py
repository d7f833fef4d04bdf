"""Whose certificates are trusted, and when they are read."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.system import tls

PROGRAM = """
import os
from agent.system import tls
before = dict(os.environ)
with tls.without_authorities():
    import aiohttp.connector
assert dict(os.environ) == before
print(len(aiohttp.connector._SSL_CONTEXT_VERIFIED.get_ca_certs()))
"""


def test_importing_aiohttp_reads_no_authorities() -> None:
    """2 MB and, on a Pi, a second: should aiohttp change its way, this tells."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"


def make_authority(directory: Path, name: str = "a-test") -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-days", "2",
         "-keyout", directory / "key", "-out", directory / "ca.pem"],
        check=True, capture_output=True,
    )  # fmt: skip


async def test_what_verifies_trusts_whom_the_machine_trusts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    tls._verifying.cache_clear()
    try:
        context = await tls.verifying()
        assert "a-test" in str(context.get_ca_certs())
        assert context.check_hostname
        assert await tls.verifying() is context, "once"
        make_authority(tmp_path, "another")
        changed = await tls.verifying()
        assert "another" in str(changed.get_ca_certs()), "without a restart of the agent"
        assert "a-test" not in str(changed.get_ca_certs())
    finally:
        tls._verifying.cache_clear()
    assert os.environ["SSL_CERT_FILE"] == str(tmp_path / "ca.pem")
