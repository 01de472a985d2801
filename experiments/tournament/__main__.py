"""python -m experiments.tournament"""

from covlab.claims.claim import command
from experiments.tournament import CLAIM

main = command(CLAIM)

if __name__ == "__main__":
    main()
