"""python -m experiments.vgb_dyck"""

from covlab.claims.claim import command
from experiments.vgb_dyck import CLAIM

command(CLAIM)()
