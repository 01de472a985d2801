"""python -m experiments.depth"""

from covlab.claims.claim import command
from experiments.depth import CLAIM

command(CLAIM)()
