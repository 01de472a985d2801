"""Run of `python -m experiments.token_sgd`."""

from experiments.token_sgd import main

if __name__ == "__main__":
    main()
