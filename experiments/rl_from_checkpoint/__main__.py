"""python -m experiments.rl_from_checkpoint"""

from covlab.claims.claim import command
from experiments.rl_from_checkpoint import CLAIM

command(CLAIM)()
