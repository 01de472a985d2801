"""Entry point of `python -m experiments.compare`."""

from experiments.compare import main

if __name__ == "__main__":
    main()
