"""Run of `python -m experiments.pessimism`."""

from experiments.pessimism import main

if __name__ == "__main__":
    main()
