"""What steers a prior, or refines a sample, towards the fiber: training-free."""

from fibermodels.guidance.costs import Cost, FiberDistance
from fibermodels.guidance.dps import DPS
from fibermodels.guidance.guidance import Guidance
from fibermodels.guidance.guided import Guided, Unguided
from fibermodels.guidance.moment_matching import MomentMatching
from fibermodels.guidance.ndtm import NDTM
from fibermodels.guidance.objective import Objective, gradient

__all__ = [
    "DPS",
    "NDTM",
    "Cost",
    "FiberDistance",
    "Guidance",
    "Guided",
    "MomentMatching",
    "Objective",
    "Unguided",
    "gradient",
]
