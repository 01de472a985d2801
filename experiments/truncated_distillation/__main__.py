"""python -m experiments.truncated_distillation"""

from covlab.claims.claim import command
from experiments.truncated_distillation import CLAIM

command(CLAIM)()
