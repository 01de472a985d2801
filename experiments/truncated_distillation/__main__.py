"""python -m experiments.truncated_distillation"""

from covlab.claims.claim import command
from experiments.truncated_distillation import CLAIM

main = command(CLAIM)

if __name__ == "__main__":
    main()
