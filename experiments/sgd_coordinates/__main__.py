"""python -m experiments.sgd_coordinates"""

from covlab.claims.claim import command
from experiments.sgd_coordinates import CLAIM

command(CLAIM)()
