"""Objectives, optimizers, the training program and its loop, checkpoints."""

from training.checkpoints import CheckpointPolicy, Checkpoints, load_parameters, saved_parameters
from training.loop import Outcome, Trainer, TrainingDiverged
from training.mesh import Grid, Layout, choose_layout
from training.objectives import CrossEntropy, Objective, Scores
from training.program import Phase, Program, TrainState, make_program
from training.schedule import EvaluationSchedule
from training.sink import Record, Sink

__all__ = [
    "CheckpointPolicy",
    "Checkpoints",
    "CrossEntropy",
    "EvaluationSchedule",
    "Grid",
    "Layout",
    "Objective",
    "Outcome",
    "Phase",
    "Program",
    "Record",
    "Scores",
    "Sink",
    "TrainState",
    "Trainer",
    "TrainingDiverged",
    "choose_layout",
    "load_parameters",
    "make_program",
    "saved_parameters",
]
