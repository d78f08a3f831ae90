"""Priors, their noise schedules, and samplers."""

from fibermodels.diffusion.analytic import GaussianMixture
from fibermodels.diffusion.guided_diffusion import GuidedDiffusion
from fibermodels.diffusion.pretrained import Pretrained, PretrainedUNet
from fibermodels.diffusion.prior import Controllable, Prior
from fibermodels.diffusion.prompted import Prompted
from fibermodels.diffusion.prompts import token_places
from fibermodels.diffusion.samplers import (
    DDIM,
    Ancestral,
    Denoiser,
    Estimate,
    Euler,
    Heun,
    Look,
    Midpoint,
    Sampler,
    unguided,
)
from fibermodels.diffusion.schedule import SCHEDULES, Schedule, ScheduleName, Tabulated
from fibermodels.diffusion.told import Told

__all__ = [
    "DDIM",
    "SCHEDULES",
    "Ancestral",
    "Controllable",
    "Denoiser",
    "Estimate",
    "Euler",
    "GaussianMixture",
    "GuidedDiffusion",
    "Heun",
    "Look",
    "Midpoint",
    "Pretrained",
    "PretrainedUNet",
    "Prior",
    "Prompted",
    "Sampler",
    "Schedule",
    "ScheduleName",
    "Tabulated",
    "Told",
    "token_places",
    "unguided",
]
