"""python -m experiments.batch_bias"""

from covlab.claims.claim import command
from experiments.batch_bias import CLAIM

command(CLAIM)()
