"""python -m experiments.mle_lower_bounds"""

from covlab.claims.claim import command
from experiments.mle_lower_bounds import CLAIM

command(CLAIM)()
