"""Schedules of foreign networks, against diffusers' own numbers; the laws of all schedules are in test_diffusion.py."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler

from fibermodels.diffusion import SCHEDULES, Tabulated
from fibermodels.diffusion.schedule import Even, shifted

TABLES = {
    "ddpm": {},
    "stable diffusion": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "zero signal": {"beta_schedule": "scaled_linear", "rescale_betas_zero_snr": True},
    "few": {"num_train_timesteps": 10},
}


def grid(count):
    return torch.arange(1, count + 1, dtype=torch.double) / count


class TestTabulated:
    @pytest.mark.parametrize("settings", TABLES.values(), ids=TABLES)
    def test_it_is_the_table_at_its_times(self, settings):
        table = DDPMScheduler(**settings).alphas_cumprod.double()
        schedule, t = Tabulated(table), grid(len(table))
        torch.testing.assert_close(schedule.alpha(t), table.sqrt(), atol=1e-12, rtol=1e-9)
        torch.testing.assert_close(schedule.sigma(t), (1 - table).sqrt(), atol=1e-12, rtol=1e-9)
        torch.testing.assert_close(schedule.index(t), torch.arange(len(table)).double())
        torch.testing.assert_close(schedule.time(schedule.angle(t)), t, atol=1e-9, rtol=0)
        single = t.float()
        torch.testing.assert_close(schedule.alpha(single), table.sqrt().float(), atol=3e-7, rtol=0)
        torch.testing.assert_close(schedule.index(single), torch.arange(len(table)).float(), atol=1e-3, rtol=0)

    def test_between_it_is_straight_and_below_the_first_step_clean(self):
        schedule = Tabulated(torch.tensor([0.9, 0.5, 0.1]))
        t = torch.linspace(0, 1, 13, dtype=torch.double)
        angle = schedule.angle(t)
        torch.testing.assert_close(angle[1::4], torch.lerp(angle[0:-1:4], angle[4::4], 0.25))
        assert angle[0] == 0
        assert schedule.index(t)[:5].eq(0).all()

    @pytest.mark.parametrize("bad", [[], [0.5, 0.5], [1.0, 0.5], [0.5, -0.1], [[0.5]], [0.5, float("nan")]], ids=str)
    def test_what_is_no_table_is_refused(self, bad):
        with pytest.raises(ValueError, match="alphas_cumprod must be a vector that decreases"):
            Tabulated(torch.tensor(bad))


class TestShifted:
    @pytest.mark.parametrize("shift", [1.0, 3.0, 0.5])
    def test_it_is_the_published_shift(self, shift):
        """Time (k + 1) / T is where diffusers has its shifted sigma."""
        sigmas = FlowMatchEulerDiscreteScheduler(shift=shift).sigmas.double().flip(0)
        schedule, t = shifted(shift), grid(1000)
        torch.testing.assert_close(schedule.alpha(t) / schedule.sigma(t), (1 - sigmas) / sigmas, atol=1e-5, rtol=1e-5)

    def test_a_shift_of_one_changes_nothing(self):
        t = torch.linspace(0, 1, 50, dtype=torch.double)
        torch.testing.assert_close(shifted(1.0).angle(t), SCHEDULES["straight"].angle(t))

    def test_a_shift_below_zero_is_refused(self):
        with pytest.raises(ValueError, match="shift must be positive, got -1"):
            shifted(-1)


class TestEven:
    @pytest.mark.parametrize("steps", [1, 7, 50, 1000])
    def test_its_steps_are_those_that_diffusers_calls_trailing(self, steps):
        scheduler = DDIMScheduler(timestep_spacing="trailing")
        scheduler.set_timesteps(steps)
        table = Tabulated(scheduler.alphas_cumprod)
        times = Even(table).times(steps, torch.zeros(1))
        torch.testing.assert_close(table.index(times[:-1]), scheduler.timesteps.float(), atol=1e-3, rtol=0)
        assert times[-1] == 0

    def test_it_has_no_more_steps_than_the_table(self):
        with pytest.raises(ValueError, match="at most the 3 that the network was trained with, got 4"):
            Even(Tabulated(torch.tensor([0.9, 0.5, 0.1]))).times(4, torch.zeros(1))

    def test_without_a_table_it_is_even(self):
        times = Even(shifted(3.0)).times(4, torch.zeros(1))
        torch.testing.assert_close(times, torch.tensor([1, 0.75, 0.5, 0.25, 0]))
