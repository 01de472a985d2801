"""Objectives, optimizers, the training program and its loop, checkpoints."""

from training.checkpoints import CheckpointPolicy, Checkpoints, load_parameters, saved_parameters
from training.loop import Outcome, Trainer, TrainingDiverged
from training.mesh import Grid, Layout, choose_layout
from training.objectives import CrossEntropy, Objective, Scores, ValueRegression
from training.phase import Phase
from training.program import Program, TrainState, make_program
from training.schedule import EvaluationSchedule
from training.sink import Record, Sink
from training.sources import Demonstrations, Rollouts, Source, TrainingBatch

__all__ = [
    "CheckpointPolicy",
    "Checkpoints",
    "CrossEntropy",
    "Demonstrations",
    "EvaluationSchedule",
    "Grid",
    "Layout",
    "Objective",
    "Outcome",
    "Phase",
    "Program",
    "Record",
    "Rollouts",
    "Scores",
    "Sink",
    "Source",
    "TrainState",
    "Trainer",
    "TrainingBatch",
    "TrainingDiverged",
    "ValueRegression",
    "choose_layout",
    "load_parameters",
    "make_program",
    "saved_parameters",
]
