"""Run of `python -m experiments.best_of_n`."""

from experiments.best_of_n import main

if __name__ == "__main__":
    main()
