"""python -m experiments.token_sgd"""

from covlab.claims.claim import command
from experiments.token_sgd import CLAIM

command(CLAIM)()
