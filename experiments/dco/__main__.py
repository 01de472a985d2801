"""python -m experiments.dco"""

from covlab.claims.claim import command
from experiments.dco import CLAIM

main = command(CLAIM)

if __name__ == "__main__":
    main()
