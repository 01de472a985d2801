"""Run of `python -m experiments.vgb_dyck`."""

from experiments.vgb_dyck import main

if __name__ == "__main__":
    main()
