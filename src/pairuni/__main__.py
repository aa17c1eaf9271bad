"""``python -m pairuni``: the console script where it is not on the path."""

from pairuni.cli.app import main

if __name__ == "__main__":
    main()
