"""python -m experiments.rl_pass_at_k"""

from covlab.claims.claim import command
from experiments.rl_pass_at_k import CLAIM

command(CLAIM)()
