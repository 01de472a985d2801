"""Run of `python -m experiments.coverage_bounds`."""

from experiments.coverage_bounds import main

if __name__ == "__main__":
    main()
