"""Priors, their noise schedules, and samplers."""

from fibermodels.diffusion.analytic import GaussianMixture
from fibermodels.diffusion.former_samplers import (
    SAMPLERS,
    Guide,
    SamplerName,
    check_sampler,
    network_calls,
    sample,
    stochasticity,
)
from fibermodels.diffusion.guided_diffusion import GuidedDiffusion
from fibermodels.diffusion.pretrained import Pretrained, PretrainedUNet
from fibermodels.diffusion.prior import Controllable, Prior
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
from fibermodels.diffusion.schedule import SCHEDULES, Schedule, ScheduleName
from fibermodels.diffusion.tabulated import Tabulated

__all__ = [
    "DDIM",
    "SAMPLERS",
    "SCHEDULES",
    "Ancestral",
    "Controllable",
    "Denoiser",
    "Estimate",
    "Euler",
    "GaussianMixture",
    "Guide",
    "GuidedDiffusion",
    "Heun",
    "Look",
    "Midpoint",
    "Pretrained",
    "PretrainedUNet",
    "Prior",
    "Sampler",
    "SamplerName",
    "Schedule",
    "ScheduleName",
    "Tabulated",
    "check_sampler",
    "network_calls",
    "sample",
    "stochasticity",
    "unguided",
]
