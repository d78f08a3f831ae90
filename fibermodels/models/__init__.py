"""Amortised fiber models and the baselines that need no training."""

from fibermodels.models.baselines import Augmented, NearestNeighbour, Oracle, Reconstruction, Retrieval
from fibermodels.models.diffusion import Diffusion
from fibermodels.models.fiber_loss import FiberLoss
from fibermodels.models.flow_matching import FlowMatching
from fibermodels.models.free_form_flow import FreeFormFlow
from fibermodels.models.injective_flow import FreeFormInjectiveFlow
from fibermodels.models.normalizing_flow import NormalizingFlow

__all__ = [
    "Augmented",
    "Diffusion",
    "FiberLoss",
    "FlowMatching",
    "FreeFormFlow",
    "FreeFormInjectiveFlow",
    "NearestNeighbour",
    "NormalizingFlow",
    "Oracle",
    "Reconstruction",
    "Retrieval",
]
