"""``python -m benchmarks``: the benchmarks from a clone of the repository."""

from benchmarks.app import main

if __name__ == "__main__":
    main()
