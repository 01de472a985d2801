"""Run of `python -m experiments.figure2`."""

from experiments.figure2 import main

if __name__ == "__main__":
    main()
