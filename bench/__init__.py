"""`make bench`: homeport measured beside what people use today, on one machine, in one run.

    python -m bench [--rounds N] [--seconds N] [--print] [NAME ...]

One file per benchmark; each has a `run(options) -> Report` and a line in `bench.__main__`. The rules:

- The peer is measured in the same run, in turns with the agent, so that a busy minute hits both.
- Figures are medians; ratios are made of medians of the same run. A missing peer is said, never guessed.
- The agent is the installed command in a world of `tests.world`: nothing here looks inside it. The one exception
  is `bench.keeper`, which works the backup store alone, as the peers do.
- Loopback and temporary directories only; every benchmark ends by itself.

`docs/benchmarks.md` is written by the command. A run of some of them replaces these sections alone.
"""
