"""Run of `python -m experiments.figure1`."""

from experiments.figure1 import main

if __name__ == "__main__":
    main()
