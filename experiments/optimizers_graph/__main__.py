"""python -m experiments.optimizers_graph"""

from covlab.claims.claim import command
from experiments.optimizers_graph import CLAIM

main = command(CLAIM)

if __name__ == "__main__":
    main()
