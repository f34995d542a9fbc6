"""`python -m birder`: the command line."""

from birder.cli import run

if __name__ == "__main__":
    run()
