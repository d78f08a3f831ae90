"""Noise schedules and samplers, for whatever predicts noise."""

from fibermodels.diffusion.samplers import SAMPLERS, Denoiser, SamplerName, network_calls, sample, stochasticity
from fibermodels.diffusion.schedule import SCHEDULES, Schedule, ScheduleName

__all__ = [
    "SAMPLERS",
    "SCHEDULES",
    "Denoiser",
    "SamplerName",
    "Schedule",
    "ScheduleName",
    "network_calls",
    "sample",
    "stochasticity",
]
