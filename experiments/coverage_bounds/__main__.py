"""python -m experiments.coverage_bounds"""

from covlab.claims.claim import command
from experiments.coverage_bounds import CLAIM

command(CLAIM)()
