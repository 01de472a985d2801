"""python -m experiments.pessimism"""

from covlab.claims.claim import command
from experiments.pessimism import CLAIM

main = command(CLAIM)

if __name__ == "__main__":
    main()
