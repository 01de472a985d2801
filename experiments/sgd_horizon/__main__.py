"""Run of `python -m experiments.sgd_horizon`."""

from experiments.sgd_horizon import main

if __name__ == "__main__":
    main()
