"""What steers a prior, or refines a sample, towards the fiber: training-free."""

from fibermodels.guidance.costs import Cost, FiberDistance
from fibermodels.guidance.guidance import Guidance
from fibermodels.guidance.guided import Guided, Unguided
from fibermodels.guidance.objective import Objective, gradient
from fibermodels.guidance.projection import FiberProjection
from fibermodels.guidance.refine import LatentDescent, Refined

__all__ = [
    "Cost",
    "FiberDistance",
    "FiberProjection",
    "Guidance",
    "Guided",
    "LatentDescent",
    "Objective",
    "Refined",
    "Unguided",
    "gradient",
]
