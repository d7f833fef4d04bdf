"""Repositories of somebody who means harm: each trick by its name, to be played singly or together.

Whatever could run, runs `touch` on a file of the directory `traps`: a trap that was sprung is a file there.
"""

from collections.abc import Callable
from pathlib import Path

from tests.gitrepo import Remote

Trick = Callable[[Remote, Path], None]

OPTION = "--upload-pack=touch${{IFS}}{};git-upload-pack"


def _script(place: Path, trap: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(f"#!/bin/sh\ntouch {trap}\ncat\n")
    place.chmod(0o755)


def _write(remote: Remote, name: str, text: str) -> None:
    place = remote.path / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


# --- what must have no effect, and may be in a release


def hooks_in_the_tree(remote: Remote, traps: Path) -> None:
    for directory in ("hooks", ".githooks", "templates/hooks"):
        for hook in ("post-checkout", "post-merge", "reference-transaction", "pre-auto-gc"):
            _script(remote.path / directory / hook, traps / "hook-of-the-tree")


def a_bare_repository_in_the_tree(remote: Remote, traps: Path) -> None:
    """Whoever runs git in the release would take it for a repository."""
    for place in ("", "vendor/"):
        _write(remote, f"{place}HEAD", "ref: refs/heads/main\n")
        _write(remote, f"{place}config", f"[core]\n\tbare = true\n\tfsmonitor = touch {traps}/bare\n")
        _write(remote, f"{place}objects/keep", "")
        _write(remote, f"{place}refs/keep", "")


def attributes(remote: Remote, traps: Path) -> None:
    text = "*.txt filter=evil diff=evil merge=evil eol=crlf ident export-subst\n"
    for place in ("", "sub/"):
        _write(remote, f"{place}.gitattributes", text)
        _write(remote, f"{place}kept.txt", "$Id$ $Format:%H$\n")
    _write(remote, ".gitconfig", f'[filter "evil"]\n\tsmudge = touch {traps}/filter\n\trequired = true\n')
    _write(remote, ".lfsconfig", "[lfs]\n\turl = ext::touch pwned\n")


def strange_names(remote: Remote, traps: Path) -> None:
    names = [
        b"-rf", b"--upload-pack=x", b"new\nline", b"bell\x07", b"\x1b[31mred\x1b[0m", b"tab\t", b"not-\xff\xfe-utf8",
        b"'quote'", b'"double"', b"back\\slash", b" ", b"a" * 255, "\u202egnp.exe".encode(), b"README", b"readme",
        f"$(touch {traps.name})".encode(), b";touch pwned", b"`touch pwned`", b"%s%n", b"con", b"~", b"#", b"*",
    ]  # fmt: skip
    for name in names:
        (remote.path / "names").mkdir(exist_ok=True)
        with open(bytes(remote.path / "names") + b"/" + name, "wb") as file:  # noqa: PTH123 - bytes
            file.write(b"x")


def links_inside(remote: Remote, traps: Path) -> None:
    (remote.path / "ring").symlink_to("ring")
    (remote.path / "links").mkdir()
    (remote.path / "links/up").symlink_to("../app.py")
    (remote.path / "links/nowhere").symlink_to("nothing")
    (remote.path / "links/-o").symlink_to("..")


def a_message(remote: Remote, traps: Path) -> None:
    remote.commit({}, "\x1b]0;title\x07\n\n2026-01-01 INFO deploy ok\n$(touch pwned)")


def refs(remote: Remote, traps: Path) -> None:
    tip, name = remote.git("rev-parse", "HEAD"), OPTION.format(traps / "ref")
    blob = remote.git("hash-object", "-w", "--stdin", data=b"no commit")
    for ref in (
        f"heads/{name}",
        f"tags/{name}",
        "tags/-h",
        "tags/HEAD",
        "tags/main",
        "heads/refs/heads/main",
    ):
        remote.git("update-ref", f"refs/{ref}", tip)
    for ref, target in (("tags/a-blob", blob), ("tags/a-tree", f"{tip}^{{tree}}")):
        remote.git("update-ref", f"refs/{ref}", remote.git("rev-parse", target))


def _own_configuration(traps: Path, name: str) -> dict[str, str]:
    trap = f"touch {traps / name}"
    return {
        "core.fsmonitor": trap, "core.hooksPath": str(traps.parent / "hooks"), "core.sshCommand": trap,
        "core.alternateRefsCommand": f"{trap}-alternates;true", "core.gitProxy": trap, "core.askPass": trap,
        "core.pager": trap, "core.editor": trap, "gpg.program": trap, "credential.helper": f"!{trap}",
        "uploadpack.packObjectsHook": trap, "filter.evil.smudge": trap, "filter.evil.process": trap,
        "remote.origin.uploadpack": trap, "remote.origin.promisor": "true", "protocol.ext.allow": "always",
        "diff.external": trap, "gc.auto": "1", "url.ext::touch.insteadOf": "/",
    }  # fmt: skip


def its_own_configuration(remote: Remote, traps: Path) -> None:
    """A repository that is a path is one that git works in: what it has beside its commits."""
    poison(remote.path / ".git", traps, "of-the-remote", but={"url.ext::touch.insteadOf"})


def poison(repository: Path, traps: Path, name: str, but: frozenset[str] | set[str] = frozenset()) -> None:
    """Everything that a repository's own directory can hold and git would run."""
    aside = repository.with_name(f"{name}-alternates")
    if not aside.exists():
        other = Remote(aside)
        other.commit({"a": "b"})
    (repository / "objects/info").mkdir(parents=True, exist_ok=True)
    (repository / "objects/info/alternates").write_text(f"{aside}/.git/objects\n")
    for hook in (
        "post-checkout",
        "reference-transaction",
        "pre-auto-gc",
        "post-rewrite",
        "fsmonitor-watchman",
    ):
        _script(repository / "hooks" / hook, traps / f"hook-{name}")
        _script(traps.parent / "hooks" / hook, traps / f"hooks-path-{name}")
    lines = []
    for key, value in _own_configuration(traps, name).items():
        section, _, option = key.rpartition(".")
        if key not in but:
            head, _, sub = section.partition(".")
            lines.append(f'[{head} "{sub}"]' if sub else f"[{head}]")
            lines.append(f'\t{option} = "{value}"')
    with (repository / "config").open("a") as file:
        file.write("\n".join(lines) + "\n")


INERT: dict[str, Trick] = {
    trick.__name__: trick
    for trick in (
        hooks_in_the_tree, a_bare_repository_in_the_tree, attributes, strange_names, links_inside, a_message,
    )
}  # fmt: skip
"""Tricks of what was committed."""
BESIDE: dict[str, Trick] = {trick.__name__: trick for trick in (refs, its_own_configuration)}
"""Tricks of the repository around it; they come after the commit."""


# --- what no release may hold


def _link(name: str, target: str) -> Trick:
    def trick(remote: Remote, traps: Path) -> None:
        place = remote.path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)

    return trick


def a_link_through_a_link(remote: Remote, traps: Path) -> None:
    _link("deep/up", "..")(remote, traps)
    _link("out", "deep/up/../outside")(remote, traps)


def _forged(*parts: bytes) -> Trick:
    """A file below directories of these names, as `git add` would never take it."""

    def trick(remote: Remote, traps: Path) -> None:
        line = b"100644 blob " + remote.blob(b"x") + b"\t" + parts[-1]
        for part in reversed(parts[:-1]):
            line = b"040000 tree " + remote.git("mktree", data=line).encode() + b"\t" + part
        remote.commit_tree(line)

    return trick


def two_in_one_place(remote: Remote, traps: Path) -> None:
    """A link, and a directory of the same name whose files would go through it."""
    inner = remote.git("mktree", data=b"100644 blob " + remote.blob(b"x") + b"\toutside").encode()
    remote.commit_tree(b"120000 blob " + remote.blob(b"..") + b"\tconf", b"040000 tree " + inner + b"\tconf")


def a_deep_tree(remote: Remote, traps: Path) -> None:
    _imported(remote, b"d/" * 1000 + b"f")


def a_long_path(remote: Remote, traps: Path) -> None:
    _imported(remote, b"/".join([b"n" * 250] * 10))


def _imported(remote: Remote, path: bytes) -> None:
    commands = b"commit refs/heads/main\ncommitter A <a@example.org> 1 +0000\ndata 1\nx\n"
    remote.git(
        "fast-import", "--quiet", "--force", data=commands + b"M 100644 inline " + path + b"\ndata 1\nx\n"
    )


def a_bomb_of_trees(remote: Remote, traps: Path) -> None:
    """Ten objects, ten thousand million files."""
    kind, name = b"100644 blob ", remote.blob(b"x")
    for _ in range(10):
        lines = b"".join(kind + name + b"\t%d\n" % number for number in range(10))
        kind, name = b"040000 tree ", remote.git("mktree", data=lines).encode()
    commit = remote.git("commit-tree", "-m", "bomb", name.decode())
    remote.git("update-ref", "refs/heads/main", commit)


def a_bomb_of_zeros(remote: Remote, traps: Path) -> None:
    """Small on the wire, and more than a release may hold: see the caps of the test."""
    with (remote.path / "zeros").open("wb") as file:
        file.truncate(40 << 20)


def a_link_as_gitmodules(remote: Remote, traps: Path) -> None:
    remote.commit_tree(b"120000 blob " + remote.blob(b"/etc/passwd") + b"\t.gitmodules")


def a_mode_of_a_device(remote: Remote, traps: Path) -> None:
    """git knows none."""
    tree = b"60600 device\0" + bytes.fromhex(remote.blob(b"x").decode())
    name = remote.git("hash-object", "-w", "-t", "tree", "--literally", "--stdin", data=tree)
    commit = remote.git("commit-tree", "-m", "device", name)
    remote.git("update-ref", "refs/heads/main", commit)


REFUSED: dict[str, Trick] = {
    "an absolute link": _link("data", "/etc/passwd"),
    "a link up": _link("data", "../outside"),
    "a link to the live release": _link("deep/data", "../../../current"),
    "a link through a link": a_link_through_a_link,
    "the marker": lambda remote, traps: _write(remote, ".homeport-release.json", "{}"),
    ".GIT": _forged(b".GIT", b"config"),
    "GIT~1": _forged(b"GIT~1", b"config"),
    "git~1 below": _forged(b"a", b"git~1", b"hooks", b"post-checkout"),
    ".git as a file": _forged(b".git"),
    ".git with a mark": _forged(".g\u200cit".encode(), b"config"),
    ".git on NTFS": _forged(b".git::$INDEX_ALLOCATION", b"config"),
    "up": _forged(b"..", b"outside"),
    "two in one place": two_in_one_place,
    "a deep tree": a_deep_tree,
    "a long path": a_long_path,
    "a bomb of trees": a_bomb_of_trees,
    "a bomb of zeros": a_bomb_of_zeros,
    "a link as .gitmodules": a_link_as_gitmodules,
}


# --- submodules


def a_module(remote: Remote, traps: Path, url: str, *more: str) -> None:
    """A submodule with this URL and further lines of .gitmodules."""
    text = "\n".join(['[submodule "m"]', "\tpath = m", f"\turl = {url}", *(f"\t{line}" for line in more)])
    blob = remote.blob(text.encode() + b"\n")
    tip = remote.git("rev-parse", "HEAD").encode()
    remote.commit_tree(b"100644 blob " + blob + b"\t.gitmodules", b"160000 commit " + tip + b"\tm")


MODULES: dict[str, Trick] = {
    "ext": lambda remote, traps: a_module(remote, traps, f"ext::touch {traps}/ext"),
    "an option": lambda remote, traps: a_module(remote, traps, f"-u./touch {traps}/option"),
    "an option of ssh": lambda remote, traps: a_module(
        remote, traps, f"ssh://-oProxyCommand=touch+{traps}/ssh/x"
    ),
    "a file": lambda remote, traps: a_module(remote, traps, f"file://{remote.path}"),
    "elsewhere": lambda remote, traps: a_module(remote, traps, "https://127.0.0.1:1/x.git"),
    "this machine": lambda remote, traps: a_module(remote, traps, "/etc"),
    "up and up": lambda remote, traps: a_module(remote, traps, "../../../../../../../../etc"),
    "a command": lambda remote, traps: a_module(
        remote, traps, "../library", f"update = !touch {traps}/update", f"ignore = !touch {traps}/ignore"
    ),
    "a new line": lambda remote, traps: a_module(remote, traps, '"../library\\nhttps://127.0.0.1:1/x"'),
}
