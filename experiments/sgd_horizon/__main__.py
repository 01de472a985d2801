"""python -m experiments.sgd_horizon"""

from covlab.claims.claim import command
from experiments.sgd_horizon import CLAIM

command(CLAIM)()
