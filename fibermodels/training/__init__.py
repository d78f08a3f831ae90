"""Training: one module, one command line, and what a run leaves behind."""

from fibermodels.training.checkpoint import Run, load
from fibermodels.training.exporting import export
from fibermodels.training.module import Training
from fibermodels.training.objective import NonFiniteLoss
from fibermodels.training.pretrained import from_pretrained, push_to_hub, save_pretrained

__all__ = ["NonFiniteLoss", "Run", "Training", "export", "from_pretrained", "load", "push_to_hub", "save_pretrained"]
