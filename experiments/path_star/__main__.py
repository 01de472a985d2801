"""Run of `python -m experiments.path_star`."""

from experiments.path_star import main

if __name__ == "__main__":
    main()
