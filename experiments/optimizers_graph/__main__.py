"""Run of `python -m experiments.optimizers_graph`."""

from experiments.optimizers_graph import main

if __name__ == "__main__":
    main()
