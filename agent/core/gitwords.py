"""What git's complaints mean: its words (LC_ALL=C) in, one of our codes out.

git ends with 128 for everything, so the words are all there is. They were read off git 2.39 and later; what is
not known here is `git-failed`, and its text is shown as it is.
"""

import re

_CLOCK = "Check the machine's clock and its CA certificates."
_HOST_KEY = (
    "Ask who runs the host whether its key was changed; only then correct `source.host_keys` or known_hosts."
)
_LOGIN = (
    "Check `source.token` or `source.key`: it must be allowed to read this repository, and not be revoked."
)
_OWNER = "Let the agent's user own the repository that `source.repository` names."
_INSTALL = "Install git."
_MEMORY = "git needs more memory for this repository than half of what the machine has: make it smaller."

# In this order: the first that is found counts, and the more telling words come first.
_MEANINGS: tuple[tuple[tuple[str, ...], str, str | None], ...] = (
    (("No space left on device", "Disk quota exceeded"), "disk-full", None),
    (("Read-only file system", "Input/output error"), "disk-failed", None),
    (
        (r"Out of memory, \w+ failed", "mmap failed", "unable to create threaded"),
        "repository-too-big",
        _MEMORY,
    ),
    (("fsck error in pack",), "git-failed", None),  # what the remote sent, however the connection ended then
    (("couldn't find remote ref",), "branch-missing", None),
    (("not our ref", "unadvertised object"), "revision-unknown", None),
    (("^env: ",), "git-failed", _INSTALL),
    (("dubious ownership",), "git-refused", _OWNER),
    # a connection that ended, in the words of the library for TLS: that is no matter of clocks
    (("recv error", "SSL_read", "non-properly terminated", "unexpected eof"), "git-unreachable", None),
    (("certificate", r"\bSSL\b", r"\bTLS\b", "gnutls"), "git-unreachable", _CLOCK),
    (("Operation too slow", "Timeout, server .* not responding"), "git-timeout", None),
    (
        ("Host key verification failed", "HOST IDENTIFICATION HAS CHANGED", "No .* host key is known"),
        "git-refused",
        _HOST_KEY,
    ),
    (("Authentication failed", r"Permission denied \("), "git-refused", _LOGIN),
    (
        (
            "could not read (Username|Password)",
            "prompts disabled",
            "[Rr]epository (NAME )?not found",
            "returned error: 40[0-4]",
            "[Aa]ccess denied",
            "transport NAME not allowed",
        ),
        "git-refused",
        None,
    ),
    (("insufficient permission", "[Cc](ould not|annot|an't) .*Permission denied"), "not-writable", None),
    (
        (
            "corrupt",
            "is empty",
            "bad (object|tree|signature)",
            "missing (blob|tree|commit)",
            "does not point to a valid object",
            "not a git repository",
            "packfile",
            "inflate:",
            "unable to (unpack|read|parse)",
        ),
        "mirror-corrupt",
        None,
    ),
    (
        (
            "Could not resolve host",
            "Failed to connect",
            "[Cc]onnection (refused|timed out|reset|closed)",
            "Network is unreachable",
            "No route to host",
            "does not appear to be a git repository",
            "unable to access",
            "Could not read from remote repository",
            "hung up unexpectedly",
            "early EOF",
            "RPC failed",
        ),
        "git-unreachable",
        None,
    ),
)
_NOISE = re.compile(
    r"Please make sure you have the correct access rights|and the repository exists\.|^hint:|^warning:|^\s*$|^@+$"
    r"|^To add an exception for this directory|^\s+git config --global --add safe\.directory"
)
# What is quoted, and every path: a directory may be called "is empty". A word is looked at once: a host may send a
# long one, and an expression that tries each of its letters as a beginning would stop the agent for minutes.
_QUOTED = re.compile(r"(?<!\w)'[^'\n]*'")
_WORD = re.compile(r"\S+")
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_USER = re.compile(r"(?<=://)[^/\s@]*@")


def explain(complaint: str) -> tuple[str, str | None]:
    """The code for what git said, and a better hint than the code's own where there is one."""
    unquoted = _QUOTED.sub("NAME", complaint)
    words_only = _WORD.sub(lambda word: "NAME" if "/" in word[0] else word[0], unquoted)
    for words, code, hint in _MEANINGS:
        if re.search("|".join(words), words_only, re.MULTILINE):
            return code, hint
    return "git-failed", None


def tip_of(listing: str, ref: str) -> str | None:
    """The hash of exactly this ref in what `git ls-remote` lists: it also lists refs that merely end like it."""
    for line in listing.splitlines():
        revision, _, name = line.partition("\t")
        if name == ref and _HASH.fullmatch(revision):
            return revision
    return None


def essence(complaint: str) -> str:
    """The last lines that say something, on one line, without users and passwords in addresses."""
    lines = [line for line in complaint.splitlines() if not _NOISE.search(line)]
    return _USER.sub("", " / ".join(line.strip() for line in lines[-3:]))
