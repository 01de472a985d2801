"""Run of `python -m experiments.early_warning`."""

from experiments.early_warning import main

if __name__ == "__main__":
    main()
