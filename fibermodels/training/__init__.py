"""Training: one module, one command line, and what a run leaves behind."""

from fibermodels.training.checkpoint import Run, export, load
from fibermodels.training.module import Training
from fibermodels.training.objective import NonFiniteLoss

__all__ = ["NonFiniteLoss", "Run", "Training", "export", "load"]
