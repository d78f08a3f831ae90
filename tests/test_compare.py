"""Two linear networks, one of which sees more than the other."""

import torch
from linear_fibers import SIDE, SPREAD, Linear, LinearFiber, linear, pictures

from fibermodels.applications import (
    compare,
)
from fibermodels.noise import seeded


class TestCompare:
    def test_a_network_and_itself_are_at_the_null(self, digits):
        _, oracle, subject, x = digits
        found = compare(oracle, subject, x, n=8)
        for merit in found.merits[:2]:
            assert merit.value == merit.null == 0.5

    def test_the_one_that_sees_more_tells_apart(self):
        """A sees the left half; B sees all that A sees, and mixtures of all pixels."""
        a = linear()
        more = torch.randn(6, SIDE**2, generator=seeded("more")) / SIDE
        b = Linear(torch.cat((a.matrix, more)))
        found = compare(LinearFiber(a), a, pictures(4), LinearFiber(b), b, n=8)
        by_b, by_a = found.merits[:2]
        assert by_b.value > 0.99 > 0.6 > by_b.null
        assert 0.4 < by_a.value < 0.6
        distance = found.merits[2]
        exact = float(
            ((more @ (torch.eye(SIDE**2) - torch.linalg.pinv(a.matrix) @ a.matrix)).square().sum() / 18).sqrt()
        )
        torch.testing.assert_close(
            float(found.by_second.other.square().mean().sqrt()) / SPREAD, exact, rtol=0.5, atol=0
        )
        assert distance.value > 100 * distance.null
        for name in ("fiber_rms", "fiber_rms_of_the_second"):
            assert found.figures()[name] < 1e-4 * found.figures()[f"{name}_null"]
