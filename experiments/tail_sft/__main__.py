"""python -m experiments.tail_sft"""

from covlab.claims.claim import command
from experiments.tail_sft import CLAIM

command(CLAIM)()
