"""Run of `python -m experiments.mle_rates`."""

from experiments.mle_rates import main

if __name__ == "__main__":
    main()
