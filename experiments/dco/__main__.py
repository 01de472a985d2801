"""python -m experiments.dco"""

from covlab.claims.claim import command
from experiments.dco import CLAIM

command(CLAIM)()
