"""python -m experiments.vgb_delay"""

from covlab.claims.claim import command
from experiments.vgb_delay import CLAIM

command(CLAIM)()
