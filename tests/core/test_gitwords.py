"""git's complaints, as git 2.39 and OpenSSH 9 write them."""

from time import thread_time

import pytest

from agent.core.gitwords import essence, explain, tip_of

NO_ACCESS = "Please make sure you have the correct access rights\nand the repository exists.\n"
UNREAD = f"fatal: Could not read from remote repository.\n\n{NO_ACCESS}"


@pytest.mark.parametrize(
    ("complaint", "code"),
    [
        ("fatal: couldn't find remote ref refs/heads/main", "branch-missing"),
        (f"warning: slow\nenv: \u2018ssh\u2019: No such file or directory\n{UNREAD}", "git-failed"),
        (f"fatal: '/x' does not appear to be a git repository\n{UNREAD}", "git-unreachable"),
        (
            f"fatal: '/is empty/x is corrupt' does not appear to be a git repository\n{UNREAD}",
            "git-unreachable",
        ),
        ("fatal: unable to access 'https://x.org/': Could not resolve host: x.org", "git-unreachable"),
        (
            "fatal: unable to access 'https://x.org/': The requested URL returned error: 503",
            "git-unreachable",
        ),
        (f"ssh: connect to host x port 22: Connection refused\n{UNREAD}", "git-unreachable"),
        ("fatal: the remote end hung up unexpectedly", "git-unreachable"),
        ("fatal: unable to access 'https://x/': server certificate verification failed.", "git-unreachable"),
        ("fatal: unable to access 'https://x/': Operation too slow. Less than 1000 bytes/sec", "git-timeout"),
        ("fatal: could not read Username for 'https://github.com': terminal prompts disabled", "git-refused"),
        (
            "remote: Repository not found.\nfatal: repository 'https://github.com/a/b/' not found",
            "git-refused",
        ),
        (f"git@github.com: Permission denied (publickey).\n{UNREAD}", "git-refused"),
        (f"Host key verification failed.\n{UNREAD}", "git-refused"),
        (f"@@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n{UNREAD}", "git-refused"),
        (
            f"No ED25519 host key is known for [127.0.0.1]:2222 and you have asked for more.\n{UNREAD}",
            "git-refused",
        ),
        ("fatal: Authentication failed for 'https://127.0.0.1:8443/app.git/'", "git-refused"),
        (f"fatal: remote error: upload-pack: not our ref {'1' * 40}", "revision-unknown"),
        (f"error: Server does not allow request for unadvertised object {'1' * 40}", "revision-unknown"),
        ("fatal: transport 'file' not allowed", "git-refused"),
        ("fatal: unable to access 'https://x/': The requested URL returned error: 403", "git-refused"),
        ("fatal: detected dubious ownership in repository at '/srv/git/x'", "git-refused"),
        ("fatal: write error: No space left on device", "disk-full"),
        ("error: insufficient permission for adding an object to repository database /x", "not-writable"),
        ("error: cannot open '/x/FETCH_HEAD': Permission denied", "not-writable"),
        (
            "error: object file /x/objects/ab/cd is empty\nfatal: loose object abcd is corrupt",
            "mirror-corrupt",
        ),
        ("fatal: bad object HEAD", "mirror-corrupt"),
        (
            "fatal: Out of memory, malloc failed (tried to allocate 99 bytes)\nfatal: early EOF",
            "repository-too-big",
        ),
        ("error: RPC failed; curl 56 GnuTLS recv error\nfatal: fsck error in packed object", "git-failed"),
        ("fatal: not a git repository: '/srv/x/mirror.git'", "mirror-corrupt"),
        ("env: 'git': No such file or directory", "git-failed"),
        ("fatal: something that nobody has seen", "git-failed"),
        ("", "git-failed"),
    ],
)
def test_a_complaint_has_a_code(complaint: str, code: str) -> None:
    """F33, F37, F41, F42, F43"""
    assert explain(complaint)[0] == code


def test_a_wrong_clock_is_named() -> None:
    """F41"""
    _, hint = explain("fatal: unable to access 'https://x/': server certificate verification failed.")
    assert hint
    assert "clock" in hint


@pytest.mark.parametrize(
    "complaint",
    [
        "error: RPC failed; curl 56 GnuTLS recv error (-110): The TLS connection was non-properly terminated.",
        "fatal: unable to access 'https://x/': OpenSSL SSL_read: Connection reset by peer, errno 104",
    ],
)
def test_a_connection_that_was_cut_is_no_matter_of_clocks(complaint: str) -> None:
    """F33, F41"""
    assert explain(complaint) == ("git-unreachable", None)


def test_what_git_would_have_a_person_do_is_not_the_essence() -> None:
    """F40: nobody is told to trust what belongs to somebody else."""
    complaint = (
        "fatal: detected dubious ownership in repository at '/srv/x'\n"
        f"To add an exception for this directory, call:\n\n\tgit config --global --add safe.directory /srv/x\n{UNREAD}"
    )
    assert essence(complaint) == (
        "fatal: detected dubious ownership in repository at '/srv/x' / fatal: Could not read from remote repository."
    )


@pytest.mark.parametrize(
    ("complaint", "word"),
    [
        (f"@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n{UNREAD}", "source.host_keys"),
        (f"Host key verification failed.\n{UNREAD}", "source.host_keys"),
        (f"git@github.com: Permission denied (publickey).\n{UNREAD}", "source.key"),
        ("fatal: Authentication failed for 'https://x/'", "source.token"),
    ],
)
def test_what_to_correct_is_named(complaint: str, word: str) -> None:
    """F42, F43"""
    code, hint = explain(complaint)
    assert code == "git-refused"
    assert hint
    assert word in hint


def test_a_long_word_is_read_once() -> None:
    """Found by fuzzing: a host may answer with 64 KiB of one word, which took minutes, and the agent stood still."""
    began = thread_time()
    assert explain("remote: " + "a" * 65_536) == ("git-failed", None)
    assert explain("fatal: '" + "a' '" * 16_000) == ("git-failed", None)
    assert thread_time() - began < 5


def test_the_essence_is_the_last_three_lines() -> None:
    assert essence("one\ntwo\n three \nhint: x\nfour\n\n") == "two / three / four"


def test_the_essence_has_no_boilerplate_and_no_password() -> None:
    """R-RX-31"""
    complaint = f"warning: x\nfatal: unable to access 'https://me:secret@x.org/a': no\n{UNREAD}"
    assert essence(complaint) == (
        "fatal: unable to access 'https://x.org/a': no / fatal: Could not read from remote repository."
    )


@pytest.mark.parametrize(
    ("listing", "tip"),
    [
        ("", None),
        (f"{'a' * 40}\trefs/heads/main\n", "a" * 40),
        (f"{'a' * 64}\trefs/heads/main\n", "a" * 64),
        (f"{'b' * 40}\trefs/heads/x/refs/heads/main\n{'a' * 40}\trefs/heads/main\n", "a" * 40),
        (f"{'b' * 40}\trefs/heads/x/refs/heads/main\n", None),
        (f"{'a' * 39}\trefs/heads/main\n", None),
        (f"{'a' * 41}\trefs/heads/main\n", None),
        (f"{'A' * 40}\trefs/heads/main\n", None),
        (f"{'a' * 40} refs/heads/main\n", None),
        (f"{'a' * 40}\trefs/heads/main\tx\n", None),
        (f"warning: x\trefs/heads/main\n{'a' * 40}\trefs/heads/main\n", "a" * 40),
    ],
)
def test_the_tip_is_that_of_exactly_the_ref(listing: str, tip: str | None) -> None:
    assert tip_of(listing, "refs/heads/main") == tip
