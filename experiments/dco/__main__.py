"""Run of `python -m experiments.dco`."""

from experiments.dco import main

if __name__ == "__main__":
    main()
