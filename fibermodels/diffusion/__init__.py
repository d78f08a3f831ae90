"""Priors, their noise schedules, and samplers for whatever predicts noise."""

from fibermodels.diffusion.analytic import GaussianMixture
from fibermodels.diffusion.guided_diffusion import GuidedDiffusion
from fibermodels.diffusion.pretrained import Pretrained, PretrainedUNet
from fibermodels.diffusion.prior import Control, Controllable, Prior, Residuals, bound
from fibermodels.diffusion.samplers import (
    SAMPLERS,
    Denoiser,
    Guide,
    SamplerName,
    check_sampler,
    network_calls,
    sample,
    stochasticity,
)
from fibermodels.diffusion.schedule import SCHEDULES, Schedule, ScheduleName
from fibermodels.diffusion.tabulated import Tabulated

__all__ = [
    "SAMPLERS",
    "SCHEDULES",
    "Control",
    "Controllable",
    "Denoiser",
    "GaussianMixture",
    "Guide",
    "GuidedDiffusion",
    "Pretrained",
    "PretrainedUNet",
    "Prior",
    "Residuals",
    "SamplerName",
    "Schedule",
    "ScheduleName",
    "Tabulated",
    "bound",
    "check_sampler",
    "network_calls",
    "sample",
    "stochasticity",
]
