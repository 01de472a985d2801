"""python -m experiments.exploration"""

from covlab.claims.claim import command
from experiments.exploration import CLAIM

command(CLAIM)()
