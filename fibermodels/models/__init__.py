"""Amortised fiber models and the baselines that need no training."""

from fibermodels.models.augmented import Augmented, RandomViews
from fibermodels.models.cascade import Cascade
from fibermodels.models.controlnet import ControlNetInverter
from fibermodels.models.denoising_flow import DenoisingFlow
from fibermodels.models.diffusion import Diffusion
from fibermodels.models.energy_score import EnergyScore
from fibermodels.models.fiber_loss import FiberLoss
from fibermodels.models.flow_map import FlowMap
from fibermodels.models.flow_matching import FlowMatching
from fibermodels.models.free_form_flow import FreeFormFlow
from fibermodels.models.injective_flow import FreeFormInjectiveFlow
from fibermodels.models.multilevel_flow import MultilevelFlow
from fibermodels.models.nearest_neighbour import NearestNeighbour
from fibermodels.models.normalizing_flow import NormalizingFlow
from fibermodels.models.oracle import DecodedNoise, Oracle, Reconstruction
from fibermodels.models.same_decision import SameDecision

__all__ = [
    "Augmented",
    "Cascade",
    "ControlNetInverter",
    "DecodedNoise",
    "DenoisingFlow",
    "Diffusion",
    "EnergyScore",
    "FiberLoss",
    "FlowMap",
    "FlowMatching",
    "FreeFormFlow",
    "FreeFormInjectiveFlow",
    "MultilevelFlow",
    "NearestNeighbour",
    "NormalizingFlow",
    "Oracle",
    "RandomViews",
    "Reconstruction",
    "SameDecision",
]
