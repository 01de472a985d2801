"""python -m experiments.scaling_law"""

from covlab.claims.claim import command
from experiments.scaling_law import CLAIM

command(CLAIM)()
