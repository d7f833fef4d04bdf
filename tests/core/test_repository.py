"""Addresses of git repositories."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.repository import is_github_name, is_path, refusal


@pytest.mark.parametrize(
    "address",
    [
        "https://github.com/me/scraper.git",
        "https://github.com:443/me/scraper",
        "ssh://git@github.com/me/scraper.git",
        "ssh://git@[::1]:2222/srv/git/scraper.git",
        "git@github.com:me/scraper.git",
        "pi:/srv/git/scraper.git",
        "/srv/git/scraper.git",
        "../upstream",
        "./a:b",
    ],
)
def test_https_ssh_the_short_form_and_paths_are_allowed(address: str) -> None:
    assert refusal(address) is None


@pytest.mark.parametrize(
    "address",
    [
        "",
        "  ",
        "--upload-pack=touch${IFS}pwned",
        "-oProxyCommand=x:y",
        "ext::sh -c touch% /tmp/pwned",
        "EXT::sh",
        "fd::17",
        "transport-helper::x",
        "http://github.com/me/scraper",
        "git://github.com/me/scraper",
        "ftp://host/x",
        "file:///srv/git",
        "https://user:hunter2@github.com/me/x",
        "https://ghp_token@github.com/me/x",
        "ssh://git:hunter2@github.com/me/x",
        "ssh://-oProxyCommand=touch/x",
        "git@-oProxyCommand=touch:x",
        "https:///me/x",
        "https://github.com",
        "https://[::1/x",
        "https://host:99999/x",
        "git@github.com:",
        "~/scraper",
        "/srv/a\nb",
        "/srv/a\0b",
    ],
)
def test_what_runs_commands_or_shows_secrets_is_refused(address: str) -> None:
    """R-GIT-1, R-GIT-11."""
    refused = refusal(address)
    assert refused is not None
    assert "hunter2" not in " ".join(refused)


@pytest.mark.parametrize(
    ("address", "words", "hint"),
    [
        (" ", "must be a URL or a path", ""),
        ("-x", "must not begin with a dash: git would take it for an option", ""),
        ("ext::sh", "names a transport that runs commands", "use https, ssh or a path"),
        ("~/x", "is a path with `~`, which is not expanded", "write the whole path"),
        ("git@h:", "names no valid host, or no repository on it", ""),
        ("git@h:/", "names no valid host, or no repository on it", ""),
        ("git@-h:x", "names no valid host, or no repository on it", ""),
        ("https://h/a b", "is not a valid URL", ""),
        ("file:///x", "must not be a file:// URL", "write the path itself"),
        (
            "http://h/x", "must use https or ssh, or be a path",
            "other protocols are neither private nor authentic",
        ),
        ("https:///x", "names no valid host", ""),
        ("ssh://-h/x", "names no valid host", ""),
        ("https://t@h/x", "must not hold a user's password or token", "use an ssh key that can only read"),
        ("ssh://git:p@h/x", "must not hold a user's password or token", "use an ssh key that can only read"),
        ("https://h/", "names no repository", ""),
        ("ssh://git@h", "names no repository", ""),
    ],
)  # fmt: skip
def test_each_refusal_says_why_and_what_to_write_instead(address: str, words: str, hint: str) -> None:
    assert refusal(address) == (words, hint)


@pytest.mark.parametrize(
    ("address", "expected"),
    [("/srv/x", True), ("../x", True), ("x", True), ("./a:b", True), ("git@h:x", False), ("h:x", False),
     ("https://h/x", False), ("ext::x", False)],
)  # fmt: skip
def test_a_path_is_what_git_looks_for_on_this_machine(address: str, expected: bool) -> None:
    assert is_path(address) is expected


def test_a_github_name_is_owner_and_name() -> None:
    assert is_github_name("me/scraper")
    assert is_github_name("My-Org/scraper.py_3")
    for name in ("me", "me/", "/x", "me/a/b", "me/..", "-me/x", "me/x y", "me/x\n", ""):
        assert not is_github_name(name), name


@given(st.text())
def test_any_text_is_either_allowed_or_refused_with_a_sentence(address: str) -> None:
    refused = refusal(address)
    assert refused is None or refused[0]


@given(st.sampled_from(["http", "git", "ftp", "file", "ext", "rsync", "HTTP"]), st.text())
def test_no_other_protocol_is_ever_allowed(scheme: str, rest: str) -> None:
    assert refusal(f"{scheme}://{rest}") is not None
    assert refusal(f"{scheme}::{rest}") is not None


@given(st.text())
def test_nothing_that_begins_with_a_dash_is_ever_allowed(rest: str) -> None:
    assert refusal(f"-{rest}") is not None
