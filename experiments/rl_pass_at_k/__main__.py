"""Run of `python -m experiments.rl_pass_at_k`."""

from experiments.rl_pass_at_k import main

if __name__ == "__main__":
    main()
