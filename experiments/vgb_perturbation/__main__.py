"""python -m experiments.vgb_perturbation"""

from covlab.claims.claim import command
from experiments.vgb_perturbation import CLAIM

command(CLAIM)()
