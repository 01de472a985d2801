"""python -m experiments.exploration"""

from covlab.claims.claim import command
from experiments.exploration import CLAIM

main = command(CLAIM)

if __name__ == "__main__":
    main()
