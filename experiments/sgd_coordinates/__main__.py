"""Run of `python -m experiments.sgd_coordinates`."""

from experiments.sgd_coordinates import main

if __name__ == "__main__":
    main()
