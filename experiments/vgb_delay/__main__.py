"""Run of `python -m experiments.vgb_delay`."""

from experiments.vgb_delay import main

if __name__ == "__main__":
    main()
