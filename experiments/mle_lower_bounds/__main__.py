"""Run of `python -m experiments.mle_lower_bounds`."""

from experiments.mle_lower_bounds import main

if __name__ == "__main__":
    main()
