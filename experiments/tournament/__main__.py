"""python -m experiments.tournament"""

from covlab.claims.claim import command
from experiments.tournament import CLAIM

command(CLAIM)()
