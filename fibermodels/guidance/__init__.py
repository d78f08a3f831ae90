"""Training-free ways to the fiber: they steer a prior, or refine the samples of any model."""

from fibermodels.guidance.augmented_costs import Cutouts, LowPass, Masked
from fibermodels.guidance.background import Background
from fibermodels.guidance.best_of import BestOf
from fibermodels.guidance.costs import Cost, FiberDistance, ScoreEnergy, SeenBy, WeightedSum
from fibermodels.guidance.dps import DPS
from fibermodels.guidance.feedback import ConditionFeedback
from fibermodels.guidance.gauss_newton import ConjugateGradients, Exact, Solver
from fibermodels.guidance.guided import Guided, Steered, Unguided
from fibermodels.guidance.langevin import Langevin
from fibermodels.guidance.maco import MACO
from fibermodels.guidance.moment_matching import MomentMatching
from fibermodels.guidance.ndtm import NDTM
from fibermodels.guidance.noise_optimisation import NoiseOptimisation
from fibermodels.guidance.objective import Guidance, Objective, gradient
from fibermodels.guidance.pixel_optimisation import PixelOptimisation
from fibermodels.guidance.projection import FiberProjection
from fibermodels.guidance.refine import LatentDescent, Refined
from fibermodels.guidance.regions import Attended, Box, Region
from fibermodels.guidance.renoised import Renoised
from fibermodels.guidance.strength import Calibrated, StrengthSearch, calibrate

__all__ = [
    "DPS",
    "MACO",
    "NDTM",
    "Attended",
    "Background",
    "BestOf",
    "Box",
    "Calibrated",
    "ConditionFeedback",
    "ConjugateGradients",
    "Cost",
    "Cutouts",
    "Exact",
    "FiberDistance",
    "FiberProjection",
    "Guidance",
    "Guided",
    "Langevin",
    "LatentDescent",
    "LowPass",
    "Masked",
    "MomentMatching",
    "NoiseOptimisation",
    "Objective",
    "PixelOptimisation",
    "Refined",
    "Region",
    "Renoised",
    "ScoreEnergy",
    "SeenBy",
    "Solver",
    "Steered",
    "StrengthSearch",
    "Unguided",
    "WeightedSum",
    "calibrate",
    "gradient",
]
