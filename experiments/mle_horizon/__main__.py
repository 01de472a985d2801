"""python -m experiments.mle_horizon"""

from covlab.claims.claim import command
from experiments.mle_horizon import CLAIM

command(CLAIM)()
