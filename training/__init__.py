"""Objectives, optimizers, the training program and its loop, checkpoints."""

from training.averaging import Averaging
from training.checkpoint_policy import CheckpointPolicy
from training.checkpoints import Checkpoints, load_parameters, saved_parameters
from training.coverage_objectives import DCO, Reweighted, StepwiseDCO
from training.distillation import TruncatedDistillation
from training.early_warning import EarlyWarning
from training.exploration import CountBonus, RepresentationBonus
from training.fine_tuning import DynamicFineTuning, LossChange, Paced, TailSFT
from training.loop import Outcome, Trainer, TrainingDiverged
from training.mesh import Grid, Layout, choose_layout
from training.multi_token import MultiToken
from training.objectives import CrossEntropy, Objective, Scores, ValueRegression
from training.on_policy_distillation import OnPolicyDistillation
from training.phase import Phase
from training.policy_gradient import PolicyGradient
from training.program import Program, TrainState, make_program
from training.regularised import ConfidencePenalty, LabelSmoothing
from training.schedule import EvaluationSchedule
from training.sink import Record, Sink
from training.sources import Bonus, Demonstrations, Judged, OnPolicy, Policy, Rollouts, Source, TrainingBatch
from training.token_sgd import TokenLevel

__all__ = [
    "DCO",
    "Averaging",
    "Bonus",
    "CheckpointPolicy",
    "Checkpoints",
    "ConfidencePenalty",
    "CountBonus",
    "CrossEntropy",
    "Demonstrations",
    "DynamicFineTuning",
    "EarlyWarning",
    "EvaluationSchedule",
    "Grid",
    "Judged",
    "LabelSmoothing",
    "Layout",
    "LossChange",
    "MultiToken",
    "Objective",
    "OnPolicy",
    "OnPolicyDistillation",
    "Outcome",
    "Paced",
    "Phase",
    "Policy",
    "PolicyGradient",
    "Program",
    "Record",
    "RepresentationBonus",
    "Reweighted",
    "Rollouts",
    "Scores",
    "Sink",
    "Source",
    "StepwiseDCO",
    "TailSFT",
    "TokenLevel",
    "TrainState",
    "Trainer",
    "TrainingBatch",
    "TrainingDiverged",
    "TruncatedDistillation",
    "ValueRegression",
    "choose_layout",
    "load_parameters",
    "make_program",
    "saved_parameters",
]
