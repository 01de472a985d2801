"""python -m experiments.particle_filtering"""

from covlab.claims.claim import command
from experiments.particle_filtering import CLAIM

command(CLAIM)()
