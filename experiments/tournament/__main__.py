"""Run of `python -m experiments.tournament`."""

from experiments.tournament import main

if __name__ == "__main__":
    main()
