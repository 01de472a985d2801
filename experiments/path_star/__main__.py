"""python -m experiments.path_star"""

from covlab.claims.claim import command
from experiments.path_star import CLAIM

command(CLAIM)()
