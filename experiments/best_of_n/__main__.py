"""python -m experiments.best_of_n"""

from covlab.claims.claim import command
from experiments.best_of_n import CLAIM

command(CLAIM)()
