"""Priors, their noise schedules, and samplers for whatever predicts noise."""

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
from fibermodels.diffusion.prior import Control, Controllable, Prior, Residuals, bound
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
    "Control",
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
    "Residuals",
    "Sampler",
    "SamplerName",
    "Schedule",
    "ScheduleName",
    "Tabulated",
    "bound",
    "check_sampler",
    "network_calls",
    "sample",
    "stochasticity",
    "unguided",
]
