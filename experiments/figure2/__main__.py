"""python -m experiments.figure2"""

from covlab.claims.claim import command
from experiments.figure2 import CLAIM

main = command(CLAIM)

if __name__ == "__main__":
    main()
