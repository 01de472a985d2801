"""python -m experiments.interventions"""

from covlab.claims.claim import command
from experiments.interventions import CLAIM

command(CLAIM)()
