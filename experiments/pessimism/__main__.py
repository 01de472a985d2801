"""python -m experiments.pessimism"""

from covlab.claims.claim import command
from experiments.pessimism import CLAIM

command(CLAIM)()
