"""Run of `python -m experiments.truncated_distillation`."""

from experiments.truncated_distillation import main

if __name__ == "__main__":
    main()
