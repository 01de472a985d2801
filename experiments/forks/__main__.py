"""python -m experiments.forks"""

from covlab.claims.claim import command
from experiments.forks import CLAIM

command(CLAIM)()
