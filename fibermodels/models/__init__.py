"""Amortised fiber models and the baselines that need no training."""

from fibermodels.models.baselines import Augmented, DecodedNoise, NearestNeighbour, Oracle, Reconstruction
from fibermodels.models.controlnet import ControlNetInverter
from fibermodels.models.denoising_flow import DenoisingFlow
from fibermodels.models.diffusion import Diffusion
from fibermodels.models.fiber_loss import FiberLoss
from fibermodels.models.flow_map import FlowMap
from fibermodels.models.flow_matching import FlowMatching
from fibermodels.models.free_form_flow import FreeFormFlow
from fibermodels.models.injective_flow import FreeFormInjectiveFlow
from fibermodels.models.multilevel_flow import MultilevelFlow
from fibermodels.models.normalizing_flow import NormalizingFlow
from fibermodels.models.random_views import RandomViews

__all__ = [
    "Augmented",
    "ControlNetInverter",
    "DecodedNoise",
    "DenoisingFlow",
    "Diffusion",
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
]
