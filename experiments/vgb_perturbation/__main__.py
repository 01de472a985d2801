"""Run of `python -m experiments.vgb_perturbation`."""

from experiments.vgb_perturbation import main

if __name__ == "__main__":
    main()
