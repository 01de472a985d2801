"""python -m experiments.optimizers_graph"""

from covlab.claims.claim import command
from experiments.optimizers_graph import CLAIM

command(CLAIM)()
