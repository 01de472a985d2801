"""Run of `python -m experiments.mle_horizon`."""

from experiments.mle_horizon import main

if __name__ == "__main__":
    main()
