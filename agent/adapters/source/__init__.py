"""git: a bare mirror beside the releases, refreshed from the configured remote. Answers `core.ports.Source`.

Rules (the pushed repository is hostile, and so is every name in a delivery):
- GitPython is the caller of the git program and nothing more. It starts from the agent's whole environment, so
  the program that it starts is `env`, which takes away every variable that is not ours. (`env -i NAME=value`
  would show the values in /proc to everybody.)
- No shell. A value from outside stands behind `--end-of-options` or goes in by standard input. Only https, ssh
  and, if the configured repository is a path, the local file system are spoken.
- What lets the agent in is handed only to calls that speak to the remote, and a token only by a descriptor.
- What a method started is gone when it returns, raises or is cancelled. What an agent that was killed left at
  work in the mirror is ended before the mirror is touched; only then are its locks and scraps removed.
- The mirror can be lost at any time: it is made aside and swapped in whole, and made anew when git finds it
  corrupt. The live release does not depend on it.
- One caller at a time, the service's lane; only `peek`, which does not know the mirror, may be asked meanwhile.

From the ground up: `door` (keys and tokens), `program` (one call of git), `mirror` (one bare repository), `layout`
(a commit's files, with its submodules and LFS objects), `git_source`.
"""

from agent.adapters.source.git_source import GitSource

__all__ = ["GitSource"]
