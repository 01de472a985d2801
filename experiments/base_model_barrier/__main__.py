"""python -m experiments.base_model_barrier"""

from covlab.claims.claim import command
from experiments.base_model_barrier import CLAIM

command(CLAIM)()
