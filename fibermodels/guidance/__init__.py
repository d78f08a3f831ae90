"""What steers a prior, or refines a sample, towards the fiber: training-free."""

from fibermodels.guidance.augmented_costs import Cutouts, LowPass, Masked
from fibermodels.guidance.costs import Cost, FiberDistance, ScoreEnergy, WeightedSum
from fibermodels.guidance.dps import DPS
from fibermodels.guidance.feedback import ConditionFeedback
from fibermodels.guidance.guidance import Guidance
from fibermodels.guidance.guided import Guided, Unguided
from fibermodels.guidance.maco import MACO
from fibermodels.guidance.moment_matching import MomentMatching
from fibermodels.guidance.ndtm import NDTM
from fibermodels.guidance.noise_optimisation import NoiseOptimisation
from fibermodels.guidance.objective import Objective, gradient
from fibermodels.guidance.pixel_optimisation import PixelOptimisation
from fibermodels.guidance.projection import FiberProjection
from fibermodels.guidance.refine import LatentDescent, Refined

__all__ = [
    "DPS",
    "MACO",
    "NDTM",
    "ConditionFeedback",
    "Cost",
    "Cutouts",
    "FiberDistance",
    "FiberProjection",
    "Guidance",
    "Guided",
    "LatentDescent",
    "LowPass",
    "Masked",
    "MomentMatching",
    "NoiseOptimisation",
    "Objective",
    "PixelOptimisation",
    "Refined",
    "ScoreEnergy",
    "Unguided",
    "WeightedSum",
    "gradient",
]
