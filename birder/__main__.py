"""`python -m birder`, and the command `birder`: the command line, and Ctrl-C while it is still being loaded."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from birder.cli import run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("birder: interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
