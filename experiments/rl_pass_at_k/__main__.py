"""python -m experiments.rl_pass_at_k"""

from covlab.claims.claim import command
from experiments.rl_pass_at_k import CLAIM

main = command(CLAIM)

if __name__ == "__main__":
    main()
