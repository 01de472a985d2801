"""python -m experiments.sgd_horizon"""

from covlab.claims.claim import command
from experiments.sgd_horizon import CLAIM

main = command(CLAIM)

if __name__ == "__main__":
    main()
