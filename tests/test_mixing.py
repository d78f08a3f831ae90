"""Conditions between two, and composed of two, with exact samplers."""

import pytest
import torch
from linear_fibers import SIDE, Linear, LinearFiber, Maps, linear, pictures
from torch import Tensor

from fibermodels.applications import (
    compose,
    interpolate,
)
from fibermodels.core import FiberModel
from fibermodels.noise import seeded
from fibermodels.suites import BlobMoments, Blobs


class TestMixing:
    def test_a_linear_network_reaches_each_condition_between(self):
        subject = linear()
        x = pictures(6)
        found = interpolate(LinearFiber(subject), subject, x, steps=3)
        torch.testing.assert_close(found.cosine, torch.ones(3, 1, 3))
        middle = subject(found.samples[1, 0])
        torch.testing.assert_close(middle, (subject(x[:3]) + subject(x[3:])) / 2, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.cosine_pixels, torch.ones(3, 3))  # pixels of a linear network mix, too
        ends = LinearFiber(subject).sample(subject(x[:3]), 1, seeded("samples", 0))
        torch.testing.assert_close(found.samples[0], ends)  # the noise of other samples
        assert found.figures()["fiber_rms"] < 1e-4 * found.figures()["fiber_rms_null"]

    def test_a_network_that_bends_is_not_reached_by_pixels(self):
        """Blobs: the moments of a mean image are not the mean of moments; the exact sampler of moments reaches them."""
        data, subject = Blobs(size=20), BlobMoments()
        x = data.split("train").images(slice(8))
        found = interpolate(MomentSampler(data), subject, x, steps=5)
        by_end, by_pixels = found.merits[:2]
        assert by_end.value > by_end.null + 0.02
        assert by_pixels.value > by_pixels.null + 0.02

    def test_the_nearer_end_is_the_null(self):
        """By hand, from the samples at the ends."""
        subject, x = linear(), pictures(6)
        found = interpolate(LinearFiber(subject), subject, x, steps=3, n=2)
        h = [subject(found.samples[at].flatten(0, 1)).unflatten(0, (2, 3)) for at in (0, 2)]
        middle = (subject(x[:3]) + subject(x[3:])) / 2
        near = torch.stack([torch.cosine_similarity(own, middle, dim=-1).mean(0) for own in h]).amax(0)
        torch.testing.assert_close(found.cosine_ends[1].mean(0), near)
        merit = found.merits[0]
        gain = (found.cosine - found.cosine_ends)[1].mean(0)
        assert merit.gain[0] < float(gain.mean()) < merit.gain[1]
        assert found.figures()["cosine_to_the_asked_gain_low"] == merit.gain[0]

    def test_composed_maps_are_half_of_each(self):
        subject = Maps()
        flat = Linear(torch.autograd.functional.jacobian(subject, pictures(1)).reshape(16, SIDE**2))
        model = LinearFiber(flat)
        push = model.push
        model.push = lambda noise, h: push(noise, h.flatten(1))
        x = pictures(4)
        for half, part in (("left", (..., slice(0, 1))), ("bottom", (..., slice(1, 2), slice(None)))):
            found = compose(model, subject, x, half)
            reached, a, b = subject(found.samples[0, 0]), subject(x[:2]), subject(x[2:])
            torch.testing.assert_close(reached[part], a[part], rtol=1e-4, atol=1e-5)
            rest = (..., slice(1, 2)) if half == "left" else (..., slice(0, 1), slice(None))
            torch.testing.assert_close(reached[rest], b[rest], rtol=1e-4, atol=1e-5)

    def test_errors(self, digits):
        _, oracle, subject, x = digits
        with pytest.raises(ValueError, match="interpolate: images: expected an even number"):
            interpolate(oracle, subject, x[:3])
        with pytest.raises(ValueError, match=r"compose: subject: expected maps"):
            compose(oracle, subject, x)


class MomentSampler(FiberModel):
    """Exact: blobs with the moments that a condition starts with."""

    network_calls = 0

    def __init__(self, data: Blobs) -> None:
        super().__init__()
        self.data = data

    def _sample(self, h: Tensor, n: int, generator: torch.Generator | None, x: Tensor | None) -> Tensor:
        subject = BlobMoments()
        content = h[:, :4] * subject.std + subject.mean
        noise = torch.randn(n, len(h), 6, generator=generator)
        return torch.stack([self.data.render(content, self.data.draw(own, content)) for own in noise])
