"""Run of `python -m experiments.exploration`."""

from experiments.exploration import main

if __name__ == "__main__":
    main()
