"""`python -m agent` and the command `homeport` are the same."""

import sys


def main() -> None:
    """Hands over to the command line; its return value is the exit status."""
    from agent.cli.main import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
