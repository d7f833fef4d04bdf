"""Secrets by reference."""

import base64
import json
import os
import subprocess
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.errors import ConfigError
from agent.core.settings import KeyRef, SecretRef
from agent.system.secrets import MAX_BYTES, Secrets

GOOD = "correct horse battery staple"


def written(path: Path, data: bytes, mode: int = 0o600) -> SecretRef:
    path.write_bytes(data)
    path.chmod(mode)
    return SecretRef(file=str(path))


def refusal_of(secrets: Secrets, reference: SecretRef) -> str:
    with pytest.raises(ConfigError) as caught:
        secrets.get(reference)
    return caught.value.problems[0].message


def test_a_secret_comes_from_the_environment_a_file_or_a_credential(tmp_path: Path) -> None:
    (tmp_path / "credentials").mkdir()
    written(tmp_path / "credentials" / "hook", b"a credential of systemd", 0o400)
    secrets = Secrets({"TOKEN": GOOD, "CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")})
    assert secrets.get(SecretRef(env="TOKEN")) == GOOD.encode()
    assert secrets.get(SecretRef(credential="hook")) == b"a credential of systemd"
    assert secrets.get(written(tmp_path / "file", b"a secret in a file")) == b"a secret in a file"


@pytest.mark.parametrize(
    ("data", "secret"),
    [
        (b"0123456789abcdef\n", b"0123456789abcdef"),
        (b"0123456789abcdef\r\n", b"0123456789abcdef"),
        (b"0123456789abcdef\n\n", b"0123456789abcdef\n"),
        (b" 0123456789abcdef ", b" 0123456789abcdef "),
        (b"\xff\xfe0123456789abcd", b"\xff\xfe0123456789abcd"),
    ],
)
def test_exactly_one_end_of_line_is_not_part_of_a_secret(tmp_path: Path, data: bytes, secret: bytes) -> None:
    assert Secrets({}).get(written(tmp_path / "secret", data)) == secret


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"  \n", b"\t" * 40, b"short", b"fifteen bytes..", b"fifteen bytes..\n"]
)
def test_an_empty_blank_or_short_secret_is_refused(tmp_path: Path, data: bytes) -> None:
    """R-RX-5, F80."""
    reference = written(tmp_path / "secret", data)
    message = refusal_of(Secrets({"TOKEN": data.decode()}), reference)
    assert "is empty" in message or "shorter than 16 bytes" in message
    refusal_of(Secrets({"TOKEN": data.decode()}), SecretRef(env="TOKEN"))


def test_a_missing_secret_is_refused(tmp_path: Path) -> None:
    """R-RX-5, F80."""
    secrets = Secrets({})
    assert refusal_of(secrets, SecretRef(env="TOKEN")) == "the environment variable TOKEN is not set"
    assert "cannot be read" in refusal_of(secrets, SecretRef(file=str(tmp_path / "missing")))
    assert "no credentials" in refusal_of(secrets, SecretRef(credential="hook"))
    assert "cannot be read" in refusal_of(Secrets({}, tmp_path), SecretRef(credential="hook"))


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o444, 0o602, 0o777])
def test_a_file_that_is_open_to_everybody_is_refused(tmp_path: Path, mode: int) -> None:
    """R-SD-4, F80."""
    reference = written(tmp_path / "secret", GOOD.encode(), mode)
    assert "every user" in refusal_of(Secrets({}), reference)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400, 0o660])
def test_a_file_for_its_owner_and_group_is_read(tmp_path: Path, mode: int) -> None:
    assert Secrets({}).get(written(tmp_path / "secret", GOOD.encode(), mode)) == GOOD.encode()


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert "regular file" in refusal_of(Secrets({}), SecretRef(file=str(tmp_path / "pipe")))
    assert "regular file" in refusal_of(Secrets({}), SecretRef(file=str(tmp_path)))
    assert "longer" in refusal_of(Secrets({}), written(tmp_path / "big", b"x" * (MAX_BYTES + 2)))


def test_a_refusal_never_shows_the_secret(tmp_path: Path) -> None:
    secrets = Secrets({"TOKEN": "hunter2"})
    assert "hunter2" not in refusal_of(secrets, SecretRef(env="TOKEN"))


def test_a_secret_is_read_once(tmp_path: Path) -> None:
    secrets, reference = Secrets({}), written(tmp_path / "secret", GOOD.encode())
    assert secrets.get(reference) == GOOD.encode()
    (tmp_path / "secret").unlink()
    assert secrets.get(reference) == GOOD.encode()


def test_all_references_are_resolved_and_all_problems_collected() -> None:
    secrets = Secrets({"A": GOOD, "B": "short"})
    problems = secrets.resolve_all(
        [
            ("access.tokens[0].secret", SecretRef(env="A")),
            ("x", SecretRef(env="B")),
            ("y", SecretRef(env="C")),
        ]
    )
    assert [problem.path for problem in problems] == ["x", "y"]
    assert secrets.redact(f"({GOOD})") == "(***)"


def test_two_tokens_with_the_same_secret_are_a_problem() -> None:
    secrets = Secrets({"A": GOOD, "B": GOOD})
    needs = [(f"access.tokens[{index}].secret", SecretRef(env=name)) for index, name in enumerate("AB")]
    assert [problem.path for problem in secrets.resolve_all(needs)] == ["access.tokens[1].secret"]


def test_nothing_is_hidden_before_a_secret_was_resolved() -> None:
    assert Secrets({"A": GOOD}).redact(GOOD) == GOOD


SECRET = st.text(st.characters(exclude_categories=["Cs"]), min_size=16).filter(
    lambda text: bool(text.strip())
)


@given(SECRET, st.text(max_size=20), st.text(max_size=20))
def test_no_form_of_a_resolved_secret_survives(secret: str, before: str, after: str) -> None:
    """R-RX-31."""
    secrets = Secrets({"A": secret + "\n"})
    data = secrets.get(SecretRef(env="A"))
    text = data.decode()
    forms = [text, quote(text), quote(text, safe=""), quote_plus(text), json.dumps(text)[1:-1], data.hex(),
             base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()]  # fmt: skip
    for form in forms:
        redacted = secrets.redact(f"{before}{form}{after}")
        assert "***" in redacted
        assert form not in redacted.replace(before, "").replace(after, "") or form in "***"


def test_a_secret_that_contains_another_is_hidden_whole() -> None:
    secrets = Secrets({"A": GOOD, "B": GOOD + " and more"})
    secrets.resolve_all([("a", SecretRef(env="A")), ("b", SecretRef(env="B"))])
    assert secrets.redact(f"x {GOOD} and more y {GOOD} z") == "x *** y *** z"


def test_a_line_of_a_secret_with_several_lines_is_hidden() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEF\nAASCBKcwggSj\n-----END KEY-----\n"
    secrets = Secrets({"A": key})
    secrets.get(SecretRef(env="A"))
    assert "MIIEvQ" not in secrets.redact("error near MIIEvQIBADANBgkqhkiG9w0BAQEF in line 2")


# --- keys, which ssh reads itself


def a_key(place: Path, *options: str, passphrase: str = "") -> Path:
    words = options or ("-t", "ed25519")
    subprocess.run(["ssh-keygen", "-q", *words, "-N", passphrase, "-f", place], check=True)
    return place


def test_a_keys_file_is_named_and_looked_at_anew_each_time(tmp_path: Path) -> None:
    key = a_key(tmp_path / "key")
    secrets = Secrets({"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert secrets.key_file(KeyRef(file=str(key))) == key
    assert secrets.key_file(KeyRef(credential="key")) == key
    key.unlink()
    with pytest.raises(ConfigError):
        secrets.key_file(KeyRef(file=str(key)))


def test_a_key_of_somebody_else_may_be_open_to_a_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ssh has it; systemd hands credentials over like this."""
    key = a_key(tmp_path / "key")
    key.chmod(0o440)
    with pytest.raises(ConfigError) as caught:
        Secrets({}).key_file(KeyRef(file=str(key)))
    assert "open to its group" in caught.value.problems[0].message
    monkeypatch.setattr(os, "geteuid", lambda: key.stat().st_uid + 1)
    assert Secrets({}).key_file(KeyRef(file=str(key))) == key
    key.chmod(0o444)
    with pytest.raises(ConfigError):
        Secrets({}).key_file(KeyRef(file=str(key)))


def test_a_key_that_cannot_be_used_is_a_problem_with_its_path(tmp_path: Path) -> None:
    locked = a_key(tmp_path / "locked", passphrase="a passphrase")
    needs = [
        ("services.a.source.key", KeyRef(file=str(tmp_path / "none"))),
        ("services.b.source.key", KeyRef(file=str(locked))),
        ("services.c.source.key", KeyRef(file=str(a_key(tmp_path / "good")))),
        ("services.d.source.key", KeyRef(credential="x")),
    ]
    problems = Secrets({}).resolve_all(needs)
    assert [problem.path for problem in problems] == [needs[0][0], needs[1][0], needs[3][0]]
    assert "passphrase" in problems[1].message
    with pytest.raises(TypeError):
        Secrets({}).key_file(SecretRef(file=str(locked)))


@given(st.binary(max_size=300))
def test_no_file_is_too_strange_to_be_looked_at(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    place = tmp_path_factory.getbasetemp() / "strange"
    for content in (data, b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + data):
        place.write_bytes(content)
        place.chmod(0o600)
        with suppress(ConfigError):
            Secrets({}).key_file(KeyRef(file=str(place)))
