"""Costs against closed forms: distances, energies, filters, cutouts, masks and sums."""

import math

import pytest
import torch
from cases import images, subject

from fibermodels.config import build, describe
from fibermodels.core import Subject
from fibermodels.distances import DISTANCES
from fibermodels.filters import low_pass
from fibermodels.guidance import Cost, Cutouts, FiberDistance, LowPass, Masked, ScoreEnergy, SeenBy, WeightedSum
from fibermodels.noise import seeded
from fibermodels.subjects import SpatialMean

SHAPE = (2, 8, 10)


class Linear(Subject):
    """`W x`, from fixed random numbers."""

    def __init__(self, dim: int = 5, shape: tuple[int, int, int] = SHAPE):
        super().__init__()
        self.image_shape, self.feature_shape = tuple(shape), (dim,)
        self.register_buffer("weight", torch.randn(dim, math.prod(shape), generator=seeded("linear")).double())

    def forward(self, images):
        return images.flatten(1) @ self.weight.T


class Pixels(Subject):
    """The image itself."""

    def __init__(self, shape: tuple[int, int, int] = SHAPE):
        super().__init__()
        self.image_shape = self.feature_shape = tuple(shape)

    def forward(self, images):
        return images


@pytest.fixture
def x():
    return torch.rand(3, *SHAPE, generator=seeded("x"), dtype=torch.double)


@pytest.fixture
def h():
    return torch.randn(3, 5, generator=seeded("h")).double()


COSTS = {
    **{f"distance-{name}": lambda name=name: FiberDistance(name) for name in DISTANCES},
    "energy": lambda: ScoreEnergy([1, 3], "hinge", 0.5, "mix"),
    "low-pass": lambda: LowPass(FiberDistance(), filter="butterworth"),
    "cutouts": lambda: Cutouts(FiberDistance("squared"), 4),
    "masked": lambda: Masked(FiberDistance("squared"), [1, 2, 5, 6]),
    "seen": lambda: SeenBy(FiberDistance("squared"), SpatialMean(list(SHAPE)), [0.5, -1.0]),
    "sum": lambda: WeightedSum([FiberDistance(), ScoreEnergy(0)], [2.0, 0.1]),
}


@pytest.mark.parametrize("name", COSTS)
class TestEveryCost:
    def test_a_row_knows_no_other(self, name, x, h):
        cost, phi = COSTS[name](), Linear()
        whole = cost(phi, x, h)
        assert whole.shape == (3,)
        torch.testing.assert_close(torch.cat([cost(phi, x[i : i + 1], h[i : i + 1]) for i in range(3)]), whole)

    def test_its_gradient_is_that_of_finite_differences(self, name, x, h):
        cost, phi = COSTS[name](), Linear()
        direction = torch.randn(x.shape, generator=seeded("direction")).double()
        if name == "masked":  # which says how only the pixels in its box change it
            direction[..., :1, :], direction[..., 5:, :], direction[..., :2], direction[..., 6:] = 0, 0, 0, 0
        x.requires_grad_()
        (slope,) = torch.autograd.grad(cost(phi, x, h).sum(), x)
        step = 1e-6
        with torch.no_grad():
            ahead, behind = (cost(phi, x + sign * step * direction, h) for sign in (1, -1))
        expected = (ahead - behind) / (2 * step)
        torch.testing.assert_close((slope * direction).flatten(1).sum(1), expected, rtol=1e-5, atol=1e-7)

    def test_it_is_rebuilt_from_its_description(self, name, x, h):
        cost = COSTS[name]()
        torch.testing.assert_close(build(describe(cost))(Linear(), x, h), cost(Linear(), x, h), rtol=0, atol=0)


class TestDistances:
    def test_closed_forms(self, x, h):
        found = {name: FiberDistance(name)(Linear(), x, h) for name in ("l1", "l2", "l2_squared", "soft_cross_entropy")}
        difference = Linear()(x) - h
        torch.testing.assert_close(found["l1"], difference.abs().mean(1))
        torch.testing.assert_close(found["l2"], difference.square().sum(1).sqrt())
        torch.testing.assert_close(found["l2_squared"], difference.square().sum(1))
        expected = torch.nn.functional.cross_entropy(Linear()(x), h.softmax(1), reduction="none")
        torch.testing.assert_close(found["soft_cross_entropy"], expected)

    def test_the_cross_entropy_is_lowest_at_the_target_where_it_is_the_entropy(self, h):
        at_target = DISTANCES["soft_cross_entropy"](h, h)
        torch.testing.assert_close(at_target, torch.distributions.Categorical(logits=h).entropy())
        for seed in range(5):
            away = h + 0.1 * torch.randn(h.shape, generator=seeded(seed)).double()
            assert (DISTANCES["soft_cross_entropy"](h, away) > at_target).all()

    @pytest.mark.parametrize("name", ["l1", "l2"])
    def test_the_gradient_at_the_target_is_zero(self, name, h):
        h_hat = h.clone().requires_grad_()
        (slope,) = torch.autograd.grad(DISTANCES[name](h, h_hat).sum(), h_hat)
        assert (slope == 0).all()

    @pytest.mark.parametrize("name", DISTANCES)
    def test_leading_dimensions_and_maps(self, name):
        h, h_hat = torch.randn(2, 4, 3, 2, 2, 2, generator=seeded("maps")).double()
        h = h[:1]
        found = DISTANCES[name](h, h_hat, 2)
        rows = [[DISTANCES[name](h[0, j][None], h_hat[i, j][None])[0] for j in range(3)] for i in range(4)]
        torch.testing.assert_close(found, torch.tensor(rows, dtype=torch.double))


class TestScoreEnergy:
    def test_reductions(self, x, h):
        units = Linear()(x)[:, [0, 2, 4]]
        for reduction, expected in {
            "mean": units.mean(1),
            "max": units.max(1).values,
            "mix": 0.7 * units.max(1).values + 0.3 * units.mean(1),
        }.items():
            torch.testing.assert_close(ScoreEnergy([0, 2, 4], reduction=reduction)(Linear(), x, h), -expected)
        torch.testing.assert_close(ScoreEnergy(3)(Linear(), x, h), -Linear()(x)[:, 3])
        torch.testing.assert_close(ScoreEnergy()(Pixels(), x, x), -x.flatten(1).mean(1))

    @pytest.mark.parametrize(
        ("kind", "below", "above", "slope_below", "slope_above"),
        [
            ("linear", -1.0, -3.0, -1.0, -1.0),
            ("capped", -1.0, -2.0, -1.0, 0.0),
            ("hinge", -1.0, -3 + 10.0, -1.0, -1 + 20.0),
            ("target", 1.0, 1.0, -2.0, 2.0),
        ],
    )
    def test_kinds_at_one_and_three_with_the_level_at_two(self, kind, below, above, slope_below, slope_above):
        pixels = torch.full((2, *SHAPE), 0.5, dtype=torch.double)
        pixels[:, 0, 0, 7] = torch.tensor([1.0, 3.0], dtype=torch.double)
        pixels.requires_grad_()
        cost = ScoreEnergy(7, kind, None if kind == "linear" else 2.0)(Pixels(), pixels, pixels)
        assert cost.tolist() == [below, above]
        (slope,) = torch.autograd.grad(cost.sum(), pixels)
        assert slope[:, 0, 0, 7].tolist() == [slope_below, slope_above]
        assert slope.abs().sum() == abs(slope_below) + abs(slope_above)

    @pytest.mark.parametrize(
        ("options", "word"),
        [
            ({"kind": "cap"}, "kind must be"),
            ({"reduction": "sum"}, "reduction must be"),
            ({"level": 1.0}, "level must be"),
            ({"kind": "target"}, "level must be"),
            ({"index": []}, "index must"),
            ({"index": -1}, "index must"),
        ],
    )
    def test_bad_options(self, options, word):
        with pytest.raises(ValueError, match=word):
            ScoreEnergy(**options)

    def test_a_unit_that_is_not_there(self, x, h):
        with pytest.raises(ValueError, match="index 5 is not among the 5 units"):
            ScoreEnergy([0, 5])(Linear(), x, h)


def wave(u, v, shape=(16, 24)):
    """A cosine of `u` and `v` cycles per image, `(1, 1, H, W)`; and its radius in shares of Nyquist."""
    rows, columns = (torch.arange(n, dtype=torch.double) / n for n in shape)
    image = torch.cos(2 * math.pi * (u * rows[:, None] + v * columns) + 0.3)[None, None]
    return image, math.hypot(2 * u / shape[0], 2 * v / shape[1])


class TestLowPass:
    FILTERS = ("ideal", "gaussian", "butterworth")

    @pytest.mark.parametrize("filter", FILTERS)
    @pytest.mark.parametrize("shape", [(8, 10), (7, 9)])
    def test_a_constant_passes_and_a_filter_is_linear_and_real(self, filter, shape):
        constant = torch.full((2, 3, *shape), 0.37, dtype=torch.double)
        torch.testing.assert_close(low_pass(constant, 0.3, filter), constant)
        a, b = torch.rand(2, 1, 3, *shape, generator=seeded("ab"), dtype=torch.double)
        torch.testing.assert_close(
            low_pass(2 * a - b, 0.3, filter), 2 * low_pass(a, 0.3, filter) - low_pass(b, 0.3, filter)
        )

    @pytest.mark.parametrize(("u", "v"), [(0, 3), (2, 0), (3, 4), (-3, 4), (7, 11), (5, -2)])
    @pytest.mark.parametrize("filter", FILTERS)
    def test_the_gain_at_a_frequency_is_the_closed_form(self, u, v, filter):
        image, r = wave(u, v)
        gain = {
            "ideal": float(r <= 0.4),
            "gaussian": math.exp(-(r**2) / (2 * 0.4**2)),
            "butterworth": 1 / (1 + (r / 0.4) ** 6),
        }[filter]
        torch.testing.assert_close(low_pass(image, 0.4, filter, order=3), gain * image, atol=1e-12, rtol=0)

    def test_nyquist_is_one(self):
        """Half a cycle per pixel along one axis passes at 1 and not below."""
        image, r = wave(8, 0)
        assert r == 1
        torch.testing.assert_close(low_pass(image, 1.0), image)
        assert low_pass(image, 0.999).abs().max() < 1e-12

    def test_the_cost_is_the_weighted_sum_of_the_copies(self, x, h):
        """With the defaults: EquiDiff's cut-offs, weighted by themselves."""
        cost, phi = FiberDistance("squared"), Linear()
        expected = cost(phi, x, h) + sum(c * cost(phi, low_pass(x, c), h) for c in (0.1, 0.3, 0.5, 0.7, 0.9))
        torch.testing.assert_close(LowPass(cost)(phi, x, h), expected)
        alone = LowPass(cost, [0.1], [3.0], "gaussian", unfiltered=0.0)(phi, x, h)
        torch.testing.assert_close(alone, 3 * cost(phi, low_pass(x, 0.1, "gaussian"), h))

    @pytest.mark.parametrize(
        "options", [{"cutoffs": []}, {"cutoffs": [0.0]}, {"weights": [1.0]}, {"filter": "box"}, {"order": 0}]
    )
    def test_bad_options(self, options):
        with pytest.raises(ValueError, match="LowPass"):
            LowPass(FiberDistance(), **options)


class TestCutouts:
    def test_full_size_without_noise_is_the_image(self):
        phi, x = Pixels((3, 9, 9)), torch.rand(2, 3, 9, 9, generator=seeded("square"), dtype=torch.double)
        cutouts = Cutouts(FiberDistance("squared"), 3, 1.0, 1.0, noise=0.0)
        torch.testing.assert_close(cutouts.cut(x, (9, 9)), x.expand(3, *x.shape), rtol=0, atol=0)
        torch.testing.assert_close(cutouts(phi, x, 1 - x), FiberDistance("squared")(phi, x, 1 - x))

    def test_they_are_squares_inside_the_image_of_the_sizes_asked_for(self):
        """On a ramp in both directions: a cutout's spread says its size, its mean its place."""
        size = 64
        ramp = torch.arange(size, dtype=torch.double)
        x = torch.stack(torch.meshgrid(ramp, ramp, indexing="ij"))[None]
        cut = Cutouts(FiberDistance(), 200, 0.25, 0.75, noise=0.0).cut(x, (size, size))[:, 0]
        spans = cut.amax((2, 3)) - cut.amin((2, 3)) + 1  # in pixels, as bilinear interpolation keeps the ends
        torch.testing.assert_close(spans[:, 0], spans[:, 1])
        assert spans.min().item() == pytest.approx(0.25 * size, abs=2)
        assert spans.max().item() == pytest.approx(0.75 * size, abs=2)
        assert spans.mean().item() == pytest.approx(0.5 * size, abs=3)
        assert cut.min() >= 0
        assert cut.max() <= size - 1
        assert cut.mean().item() == pytest.approx((size - 1) / 2, abs=2)

    def test_every_row_and_every_call_sees_the_same_ones(self, x):
        cutouts = Cutouts(FiberDistance(), 4, noise=0.1)
        same = x[:1].expand(3, -1, -1, -1)
        cut = cutouts.cut(same, (8, 10))
        torch.testing.assert_close(cut, cut[:, :1].expand_as(cut), rtol=0, atol=0)
        torch.testing.assert_close(cutouts.cut(same, (8, 10)), cut, rtol=0, atol=0)
        assert not torch.equal(Cutouts(FiberDistance(), 4, noise=0.1, seed=1).cut(same, (8, 10)), cut)

    def test_every_step_has_others_wherever_the_cutouts_are(self, x, h):
        inner = Cutouts(FiberDistance(), 4, noise=0.1)
        phi, tasks = Linear(), WeightedSum([ScoreEnergy(0), inner], [0.0, 1.0])
        for cost in (inner, tasks, Masked(tasks, [0, 0, 4, 4]), LowPass(inner, [2.0], [0.0])):
            costs = [cost.at(step)(phi, x, h) for step in (0, 1, 2, 2)]
            torch.testing.assert_close(costs[2], costs[3], rtol=0, atol=0)
            assert all((a != b).all() for i, a in enumerate(costs[:3]) for b in costs[:i])
            assert type(cost.at(1)) is type(cost)

    def test_without_random_numbers_every_step_has_the_cost_itself(self):
        for cost in (FiberDistance(), Masked(WeightedSum([ScoreEnergy(0)], [1.0]), [0, 0, 4, 4])):
            assert cost.at(3) is cost

    def test_the_noise_has_its_deviation(self, x):
        with_noise, without = (Cutouts(FiberDistance(), 64, noise=s).cut(x, (8, 10)) for s in (0.1, 0.0))
        assert (with_noise - without).std().item() == pytest.approx(0.1, rel=0.05)

    def test_an_image_of_another_size_is_resized_to_the_subjects(self, h):
        large = torch.rand(3, 2, 20, 30, generator=seeded("large"), dtype=torch.double)
        assert Cutouts(FiberDistance(), 2)(Linear(), large, h).shape == (3,)

    @pytest.mark.parametrize(
        "options", [{"count": 0}, {"smallest": 0.0}, {"smallest": 0.9, "largest": 0.5}, {"power": 0}, {"noise": -1}]
    )
    def test_bad_options(self, options):
        with pytest.raises(ValueError, match="Cutouts"):
            Cutouts(FiberDistance(), **options)


class TestMasked:
    @pytest.mark.parametrize("outside", [False, True])
    def test_the_value_stays_and_the_gradient_is_that_of_the_region(self, x, h, outside):
        inner = FiberDistance("squared")
        x.requires_grad_()
        cost = Masked(inner, [1, 2, 5, 6], outside)(Linear(), x, h)
        torch.testing.assert_close(cost, inner(Linear(), x, h))
        (slope,) = torch.autograd.grad(cost.sum(), x)
        (full,) = torch.autograd.grad(inner(Linear(), x, h).sum(), x)
        region = torch.zeros(SHAPE[1:], dtype=torch.double)
        region[1:5, 2:6] = 1
        torch.testing.assert_close(slope, full * ((1 - region) if outside else region))

    def test_bad_boxes(self, x, h):
        for box in ([0, 0, 0, 3], [0, 0, 3], [-1, 0, 3, 3]):
            with pytest.raises(ValueError, match="box must be"):
                Masked(FiberDistance(), box)
        with pytest.raises(ValueError, match="leaves the images of 8 x 10"):
            Masked(FiberDistance(), [0, 0, 9, 3])(Linear(), x, h)


class TestSeenBy:
    def test_it_is_the_cost_of_the_other_network(self, x, h):
        other, target = Linear(3), [0.5, 0.0, -1.0]
        expected = (other(x) - torch.tensor(target).double()).square().mean(1)
        torch.testing.assert_close(SeenBy(FiberDistance("squared"), other, target)(Linear(), x, h), expected)

    def test_a_large_logit_is_a_class(self, x, h):
        cost = SeenBy(FiberDistance("soft_cross_entropy"), Linear(3), [0.0, 50.0, 0.0])
        torch.testing.assert_close(cost(Linear(), x, h), -Linear(3)(x).log_softmax(1)[:, 1])

    def test_the_target_has_the_shape_of_its_representation(self):
        with pytest.raises(ValueError, match="expected the 3 entries"):
            SeenBy(FiberDistance(), Linear(3), [1.0])


class TestWeightedSum:
    def test_it_adds(self, x, h):
        a, b = FiberDistance("l1"), ScoreEnergy(2)
        expected = 2 * a(Linear(), x, h) - 0.5 * b(Linear(), x, h)
        torch.testing.assert_close(WeightedSum([a, b], [2.0, -0.5])(Linear(), x, h), expected)

    def test_bad_numbers(self):
        for costs, weights in (([], []), ([FiberDistance()], [1.0, 2.0])):
            with pytest.raises(ValueError, match="a weight for each cost"):
                WeightedSum(costs, weights)


def test_costs_nest_on_a_network():
    """All together on the digits' subject, at their own image: only the noise of the cutouts is left to pay for."""
    phi, x = subject(), images(2)
    cost: Cost = Masked(LowPass(Cutouts(FiberDistance(), 2, 1.0, 1.0, noise=0.0), [2.0], [1.0]), [0, 0, 14, 28])
    torch.testing.assert_close(cost(phi, x, phi(x)), torch.zeros(2), atol=1e-5, rtol=0)
