"""Amortised fiber models and the baselines that need no training."""

from fibermodels.models.baselines import Augmented, NearestNeighbour, Oracle, Reconstruction, Retrieval
from fibermodels.models.fiber_loss import FiberLoss
from fibermodels.models.flow_map import FlowMap
from fibermodels.models.flow_matching import FlowMatching
from fibermodels.models.normalizing_flow import NormalizingFlow

__all__ = [
    "Augmented",
    "FiberLoss",
    "FlowMap",
    "FlowMatching",
    "NearestNeighbour",
    "NormalizingFlow",
    "Oracle",
    "Reconstruction",
    "Retrieval",
]
