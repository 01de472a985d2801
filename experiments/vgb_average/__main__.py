"""python -m experiments.vgb_average"""

from covlab.claims.claim import command
from experiments.vgb_average import CLAIM

command(CLAIM)()
