"""python -m experiments.mle_rates"""

from covlab.claims.claim import command
from experiments.mle_rates import CLAIM

command(CLAIM)()
