"""python -m experiments.sgd_coordinates"""

from covlab.claims.claim import command
from experiments.sgd_coordinates import CLAIM

main = command(CLAIM)

if __name__ == "__main__":
    main()
