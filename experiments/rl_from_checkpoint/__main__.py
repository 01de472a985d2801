"""Run of `python -m experiments.rl_from_checkpoint`."""

from experiments.rl_from_checkpoint import main

if __name__ == "__main__":
    main()
