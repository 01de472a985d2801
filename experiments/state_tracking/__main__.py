"""python -m experiments.state_tracking"""

from covlab.claims.claim import command
from experiments.state_tracking import CLAIM

command(CLAIM)()
