"""`python -m bench`: runs benchmarks, prints what they found, and writes `docs/benchmarks.md`."""

import argparse
import sys
import time
from collections.abc import Callable

from bench import backup, deliveries, deploy, growth, pi, rest
from bench.machine import describe
from bench.options import Options
from bench.report import PAGE, Report, write

BENCHMARKS: dict[str, Callable[[Options], Report]] = {
    deliveries.NAME: deliveries.run,
    deploy.NAME: deploy.run,
    backup.NAME: backup.run,
    growth.NAME: growth.run,
    rest.NAME: rest.run,
    pi.NAME: pi.run,
}


def main() -> int:
    """Exit status 0: measured; a missed goal is a finding, not a failure."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="homeport beside its peers")
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"by default all: {', '.join(BENCHMARKS)}")
    parser.add_argument("--rounds", type=int, default=3, help="of each figure (3)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of load in each cell (3)")
    parser.add_argument("--rest", type=float, default=60.0, help="seconds the idle agent is watched (60)")
    parser.add_argument("--print", action="store_true", help="write no file")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in BENCHMARKS]
    if unknown or arguments.rounds < 1 or arguments.seconds <= 0 or arguments.rest <= 0:
        parser.error(f"unknown: {', '.join(unknown)}" if unknown else "rounds and seconds must be positive")
    options = Options(arguments.rounds, arguments.seconds, arguments.rest)
    for name in arguments.names or BENCHMARKS:
        machine = describe()
        begun = time.monotonic()
        report = BENCHMARKS[name](options)
        print(report.markdown(machine), "\n", flush=True)
        print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
        if not arguments.print:
            write([report], machine)
            print(f"written to {PAGE}", file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
