"""Guidance, against laws known in closed form: Gaussian priors and mixtures, and linear subjects."""

from typing import ClassVar

import pytest
import torch
from cases import diffusion, images, subject

from fibermodels.config import build, describe
from fibermodels.core import LatentSpace, Subject
from fibermodels.diffusion import DDIM, SCHEDULES, Ancestral, Euler, GaussianMixture, Heun, Midpoint, unguided
from fibermodels.guidance import DPS, NDTM, Cost, FiberDistance, Guided, MomentMatching, Objective, Unguided
from fibermodels.noise import seeded

MEAN, STD, MATRIX, SCALE = [0.3, -0.2], [1.0, 0.5], [[0.8, 0.6]], 0.25
TANGENT = torch.tensor([0.6, -0.8]).double()
TARGET = 1.5
"""1.6 standard deviations from the prior's mean."""


class Affine(LatentSpace):
    """Images without a clip, `z / 4 + 1/2`, so that linear laws stay linear."""

    def __init__(self, dim: int = 2) -> None:
        super().__init__()
        self.image_shape, self.latent_shape = (1, 1, dim), (dim,)

    def moments(self, x, h):
        z = (x.flatten(1) - 0.5) / SCALE
        return z, torch.zeros_like(z)

    def decode(self, z, h):
        return (SCALE * z + 0.5).unflatten(1, self.image_shape)


class Linear(Subject):
    """`A z`, of the latents behind the image; `how` spoils it."""

    def __init__(self, matrix=MATRIX, how="") -> None:
        super().__init__()
        self.how = how
        self.register_buffer("matrix", torch.tensor(matrix).double())
        self.image_shape, self.feature_shape = (1, 1, self.matrix.shape[1]), (len(self.matrix),)
        self.freeze()

    def forward(self, images):
        h = (images.flatten(1) - 0.5) / SCALE @ self.matrix.mT
        spoilt = {"": h, "detached": h.detach(), "integer": h.long().to(h), "nan": h * float("nan")}
        return spoilt[self.how]


def gaussian(schedule="linear", mean=MEAN, std=STD):
    return GaussianMixture(Affine(len(mean)), [mean], [std], schedule=schedule).double()


MODES = {"means": [[-2.0, 0.0], [2.0, 0.0], [0.0, 3.0]], "stds": [[0.4, 0.5]] * 3}


def mixture(schedule="linear"):
    return GaussianMixture(Affine(), **MODES, schedule=schedule).double()


def guided(guidance, prior=None, how="", sampler=None, **options):
    return Guided(prior or gaussian(), Linear(how=how), guidance, sampler=sampler or DDIM(4), **options)


def drawn(model, h, count):
    """Latents `(count, D)` that a model draws for one target."""
    h = torch.tensor(h).double().reshape(1, -1).expand(count, -1)
    noise = torch.randn(count, *model.noise_shape, generator=seeded("guidance")).double()
    return model.prior.encode(model.push(noise, h) if isinstance(model, Unguided) else model.steer(noise, h))


def posterior(h, noise=0.0, mean=MEAN, std=STD, matrix=MATRIX):
    """Mean and covariance of `z | A z + noise e = h`."""
    mean, covariance = torch.tensor(mean).double(), torch.tensor(std).double().square().diag()
    matrix = torch.tensor(matrix).double()
    h = torch.tensor(h).double().reshape(-1)
    seen = matrix @ covariance @ matrix.mT + noise**2 * torch.eye(len(matrix)).double()
    gain = torch.linalg.solve(seen, matrix @ covariance).mT
    return mean + gain @ (h - matrix @ mean), covariance - gain @ matrix @ covariance


GUIDANCES = {
    "ndtm": lambda: NDTM(inner=5),
    "ndtm-all": lambda: NDTM([[1.0, 0.3, 1.0, 4.0], [0.3, 0.0, 2.0, 2.0]], 1.0, inner=5, tau=0.1, clip=2.0),
    "dps": DPS,
    "moments": MomentMatching,
}


@pytest.fixture(params=GUIDANCES)
def guidance(request):
    return GUIDANCES[request.param]()


SAMPLERS = [DDIM, Ancestral, Heun, Euler, Midpoint]


@pytest.fixture(params=SAMPLERS, ids=lambda cls: cls.__name__)
def sampler(request):
    return request.param


class TestEveryGuidance:
    def test_strength_zero_is_the_prior_exactly(self, guidance, sampler):
        """Also of single rows of a batch."""
        prior = mixture()
        plain, model = Unguided(prior, sampler(5)), guided(guidance, prior, sampler=sampler(5), strength=0.0)
        h = torch.linspace(-2, 2, 6).double()[:, None]
        noise = torch.randn(6, *model.noise_shape, generator=seeded("zero")).double()
        expected = plain.push(noise, h)
        assert torch.equal(model.steer(noise, h), expected)
        some = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.5, 0.0]).double()
        found = model.steer(noise, h, some)
        same = (found == expected).flatten(1).all(1)
        assert same.tolist() == (some == 0).tolist()

    def test_a_batch_of_one_is_a_row_of_many(self, guidance, sampler):
        model = guided(guidance, mixture(), sampler=sampler(5))
        h, strength = torch.linspace(-2, 2, 4).double()[:, None], torch.linspace(0.2, 2, 4).double()
        noise = torch.randn(4, *model.noise_shape, generator=seeded("rows")).double()
        whole = model.steer(noise, h, strength)
        rows = [model.steer(*row) for row in zip(noise.split(1), h.split(1), strength.split(1), strict=True)]
        torch.testing.assert_close(torch.cat(rows), whole, atol=1e-10, rtol=0)

    def test_calls_are_as_stated(self, guidance, sampler):
        """Of the denoiser; the prior is bound once, and the subject looks once for each cost."""
        prior = gaussian()
        model, known, counted, bound = guided(guidance, prior, sampler=sampler(7)), prior.denoiser(), [], []
        prior.denoiser = lambda h: bound.append(h) or (lambda z, t: counted.append(t) or known(z, t))
        passes, phi = [], model.subject.forward
        model.subject.forward = lambda images: passes.append(len(images)) or phi(images)
        drawn(model, TARGET, 2)
        assert len(counted) == model.network_calls
        assert len(bound) == 1
        visited = model.sampler.visited(prior.schedule)
        assert len(passes) == sum(guidance.calls(t) - isinstance(guidance, NDTM) for t in visited)

    def test_it_lowers_the_distance_and_leaves_no_gradient(self, guidance, sampler):
        model = guided(guidance, sampler=sampler(20))
        plain, z = drawn(Unguided(model.prior, sampler(20)), TARGET, 200), drawn(model, TARGET, 200)
        assert not z.requires_grad
        before, after = ((found @ model.subject.matrix[0] - TARGET).abs().mean() for found in (plain, z))
        assert after < 0.75 * before

    def test_a_cost_that_is_not_finite_is_refused(self, guidance):
        with pytest.raises(ValueError, match="row 0 is nan: expected finite costs"):
            drawn(guided(guidance, how="nan"), TARGET, 3)

    @pytest.mark.parametrize("how", ["detached", "integer"])
    def test_a_subject_without_gradients_is_refused(self, guidance, how):
        with pytest.raises(ValueError, match="expected a differentiable subject"):
            drawn(guided(guidance, how=how), TARGET, 3)

    def test_it_is_rebuilt_from_its_description(self, guidance):
        twin = build(describe(guidance))
        torch.testing.assert_close(drawn(guided(twin), TARGET, 3), drawn(guided(guidance), TARGET, 3))

    def test_a_learned_prior_and_a_real_subject(self, guidance):
        """In single precision: a target's samples are the same in any batch."""
        phi = subject()
        model, h = Guided(diffusion(schedule="linear"), phi, guidance, sampler=DDIM(3)), phi(images(5))
        whole, generator = model.sample(h, 2, seeded("learned")), seeded("learned")
        parts = [model.sample(part, 2, generator) for part in h.split([1, 4])]
        assert not torch.equal(whole, Unguided(model.prior, DDIM(3)).sample(h, 2, seeded("learned")))
        torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-4, rtol=0)

    def test_both_modes_on_the_fiber_are_kept(self, guidance):
        """Of three modes two lie on the fiber, and by symmetry either is as likely."""
        model = Guided(mixture(), Linear([[0.0, 1.0]]), guidance, sampler=Ancestral(50))
        z = drawn(model, 0.0, 500)
        left, right = ((z[:, 0] - mode).abs() < 1.2 for mode in (-2, 2))
        assert left.double().mean() > 0.3
        assert right.double().mean() > 0.3


def test_a_sampler_goes_on_from_where_guidance_moves_the_state(sampler):
    """Guidance that moves the first state is a sampler that starts elsewhere."""
    prior, move, sampler = mixture(), torch.tensor([0.7, -1.3]).double(), sampler(5)
    noise = torch.randn(6, *sampler.noise_shape((2,)), generator=seeded("moved")).double()
    denoise = prior.denoiser()
    found = sampler(lambda z, t, s: denoise(z + move * (t[:, None] == 1), t), prior.schedule, noise)
    elsewhere = noise.clone()
    elsewhere[(slice(None), 0) if sampler.stochastic else ...] += move
    torch.testing.assert_close(found, sampler(unguided(denoise), prior.schedule, elsewhere))


def parts(prior, subject, h, cost=None, time=0.4, rows=6):
    """A state with its time and objective."""
    z = torch.randn(rows, 2, generator=seeded("state")).double()
    t = torch.full((rows,), time).double()
    h = torch.full((rows, 1), h).double()
    return z, t, Objective.bound(prior, subject, cost or FiberDistance(), h)


def derivative(prior, t):
    """The diagonal of `d data / dz` of a Gaussian, `alpha s^2 / (alpha^2 s^2 + sigma^2)`, `(B, D)`."""
    alpha, variance = prior.schedule.alpha(t)[:, None], prior.variances
    return alpha * variance / (alpha**2 * variance + prior.schedule.sigma(t)[:, None] ** 2)


class TestNDTM:
    @pytest.mark.parametrize("options", [{}, {"tau": 0.3, "kappa": 0.2, "weight": 2.0}, {"clip": 0.5}], ids=str)
    def test_it_is_adam_on_the_objective_as_written(self, options):
        """Row by row with autograd and torch's own Adam."""
        prior, subject = mixture(), Linear()
        guidance = NDTM(gamma=3.0, inner=4, **options)
        z, t, objective = parts(prior, subject, TARGET)
        strength = torch.linspace(0, 2, len(z)).double()
        denoise, schedule = prior.denoiser(), prior.schedule
        data, noise = guidance.step(objective, z, t, t, strength)
        full = {"tau": 0.0, "kappa": 3e-4, "weight": 1.0, "clip": None} | options
        for i in range(len(z)):
            row, time = z[i : i + 1], t[i : i + 1]
            g = 3.0 * strength[i]
            clip = full["clip"] if full["clip"] and g > 0 else float("inf")
            u = torch.zeros_like(row, requires_grad=True)
            adam = torch.optim.Adam([u], lr=0.02 * 0.4)
            for _ in range(4):
                estimate, e = denoise(row + g * u, time)
                h_hat = subject(prior.decode(estimate.clamp(-clip, clip)))
                loss = full["weight"] * (h_hat - TARGET).square().mean().sqrt()
                loss = loss + full["tau"] * (e - denoise(row, time)[1]).square().sum()
                loss = loss + full["kappa"] * (g * u).square().sum()
                adam.zero_grad()
                loss.backward()
                u.grad *= min(1, 1 / (u.grad.norm() + 1e-6))
                adam.step()
            expected = row + g * u.detach()
            torch.testing.assert_close(data[i : i + 1], denoise(expected, time)[0].clamp(-clip, clip))
            alpha, sigma = schedule.alpha(time), schedule.sigma(time)
            torch.testing.assert_close(alpha * data[i : i + 1] + sigma * noise[i : i + 1], expected)

    @pytest.mark.parametrize("gamma", [1.0, 4.0])
    def test_the_control_solves_the_linear_case_whatever_gamma(self, gamma):
        """data(z + v) = data(z) + D v, so the minimum of (r + A D v)^2 + kappa |v|^2 is ridge regression's."""
        prior, subject = gaussian(), Linear()
        z, t, objective = parts(prior, subject, TARGET, FiberDistance("squared"), time=0.1, rows=3)
        guidance = NDTM(gamma, inner=1200, learning_rate=0.04 / gamma, kappa=0.5)
        data, noise = guidance.step(objective, z, t, t, torch.ones(3).double())
        alpha, sigma = prior.schedule.alpha(t)[:, None], prior.schedule.sigma(t)[:, None]
        found = alpha * data + sigma * noise - z
        row = subject.matrix * derivative(prior, t)
        residual = prior.denoiser()(z, t)[0] @ subject.matrix.mT - TARGET
        expected = -residual * row / (0.5 + row.square().sum(1, keepdim=True))
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)

    def test_the_nearer_the_fiber_the_larger_gamma(self):
        distances = []
        for gamma in (0.5, 1.0, 5.0, 10.0):
            z = drawn(guided(NDTM(gamma), sampler=Ancestral(50)), TARGET, 300)
            distances.append((z @ Linear().matrix[0] - TARGET).abs().mean().item())
        assert distances == sorted(distances, reverse=True)
        assert distances[1:] == pytest.approx([0.639, 0.0240, 0.0096], rel=0.15)

    BIAS: ClassVar = {Ancestral: (-0.201, 1.02, 0.0240), DDIM: (-0.331, 1.074, 0.0), Heun: (-0.323, 1.104, 0.0)}

    @pytest.mark.parametrize("sampler", BIAS)
    def test_its_bias_is_as_stated(self, sampler):
        check_bias(guided(NDTM(), sampler=sampler(50)), 1500, *self.BIAS[sampler])

    def test_pieces_are_half_cosines(self):
        guidance = NDTM([[0.8, 0.6, 3.0, 3.0], [0.6, 0.2, 1.0, 0.5], [0.2, 0.0, 2.0, 10.0]], until=0.8)
        t = torch.tensor([1.0, 0.81, 0.8, 0.7, 0.5, 0.4, 0.3, 0.1, 0.0], dtype=torch.double)
        half = 0.5**0.5
        expected = [0, 0, 3, 3, 0.75 + 0.25 * half, 0.75, 0.75 - 0.25 * half, 6, 10]
        torch.testing.assert_close(guidance.gain(t), torch.tensor(expected, dtype=torch.double))
        assert [guidance.calls(time) for time in (0.9, 0.7, 0.1)] == [1, 11, 11]
        assert NDTM([[0.5, 0.4, 0.0, 0.0], [0.4, 0.0, 1.0, 1.0]]).calls(0.45) == 1

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ({"gamma": -1.0}, "gamma must not be negative"),
            ({"gamma": float("nan")}, "gamma must not be negative"),
            ({"gamma": []}, "gamma must be a number or pieces"),
            ({"gamma": [[0.5, 0.0, 1.0]]}, "gamma must be a number or pieces"),
            ({"gamma": [[0.0, 0.5, 1.0, 1.0]]}, "its pieces lead down in time"),
            ({"gamma": [[0.5, 0.3, 1.0, 1.0], [0.2, 0.0, 1.0, 1.0]]}, "without a gap from until = 0.5"),
            ({"gamma": [[0.8, 0.0, 1.0, 1.0]]}, "without a gap from until = 0.5"),
            ({"until": 0.0}, "until: expected a number above 0 and of at most 1"),
            ({"until": 1.5}, "until: expected a number above 0 and of at most 1"),
            ({"inner": 0}, "inner: expected a number of at least 1"),
            ({"learning_rate": 0.0}, "learning_rate: expected a number above 0"),
            ({"weight": -1.0}, "weight: expected a number above 0"),
            ({"clip": 0.0}, "clip: expected a number above 0"),
            ({"kappa": -1.0}, "kappa: expected a number of at least 0"),
            ({"tau": float("nan")}, "tau: expected a number of at least 0"),
        ],
    )
    def test_bad_options(self, option, message):
        with pytest.raises(ValueError, match=f"NDTM: .*{message}|NDTM: {message}"):
            NDTM(**option)


def bias(model, count, noise=0.0, h=TARGET):
    """Of samples against the law of the fiber: mean across and along it, its spread along it (a ratio), and the
    mean distance to it."""
    z = drawn(model, h, count)
    mean, covariance = posterior(h, noise)
    normal = model.subject.matrix[0]
    off = z.mean(0) - mean
    spread = (z @ TANGENT).std() / (TANGENT @ covariance @ TANGENT).sqrt()
    distance = (z @ normal - h).abs().mean()
    return tuple(value.item() for value in (off @ normal, off @ TANGENT, spread, distance))


def check_bias(model, count, mean, spread, distance):
    *found, near = bias(model, count)
    assert found == pytest.approx([0.0, mean, spread], abs=0.05)
    assert near == pytest.approx(distance, rel=0.15, abs=1e-4)


class TestDPS:
    def test_a_step_moves_the_next_state_down_the_gradient(self):
        """In closed form, for the squared cost of one feature."""
        prior, subject = gaussian(), Linear()
        z, t, objective = parts(prior, subject, TARGET, FiberDistance("squared"))
        s, schedule, strength = 0.7 * t, prior.schedule, torch.linspace(0, 2, len(z)).double()
        data, noise = prior.denoiser()(z, t)
        slope = 2 * (data @ subject.matrix.mT - TARGET) * subject.matrix * derivative(prior, t)
        alpha, sigma = schedule.alpha(s)[:, None], schedule.sigma(s)[:, None]
        expected = alpha * data + sigma * noise - 0.3 * strength[:, None] * slope
        data, noise = DPS(0.3).step(objective, z, t, s, strength)
        torch.testing.assert_close(alpha * data + sigma * noise, expected)

    BIAS: ClassVar = {
        ("rms", 0.3, 50): (0.053, 0.944, 0.150),
        ("rms", 0.3, 200): (0.201, 0.951, 0.150),
        ("rms", 1.0, 50): (0.193, 0.921, 0.501),
        ("rms", 0.03, 200): (-0.212, 1.091, 0.016),
        ("squared", 0.3, 50): (0.146, 0.927, 0.00048),
    }

    @pytest.mark.parametrize(("distance", "scale", "steps"), BIAS)
    def test_its_bias_is_as_stated(self, distance, scale, steps):
        model = guided(DPS(scale), cost=FiberDistance(distance), sampler=Ancestral(steps))
        check_bias(model, 2000, *self.BIAS[distance, scale, steps])

    def test_a_score_is_a_cost_like_any_other(self):
        """EnergyDPS: tilted by `exp(b x)`, the mean moves up; how far, DPS does not promise."""

        class Score(Cost):
            def forward(self, subject, images, h):
                return -subject(images)[:, 0]

        means = []
        for strength in (0.0, 0.5, 1.0):
            model = guided(DPS(0.05), cost=Score(), sampler=Ancestral(50), strength=strength)
            means.append((drawn(model, 0.0, 500) @ model.subject.matrix[0]).mean().item())
        assert means == sorted(means)
        assert means[2] > means[0] + 0.5

    @pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
    def test_bad_options(self, scale):
        with pytest.raises(ValueError, match="DPS: scale: expected a number above 0"):
            DPS(scale)


class TestMomentMatching:
    LAW: ClassVar = {"mean": [0.3, -0.2, 1.0], "std": [1.0, 0.5, 0.2]}
    TWO: ClassVar = [[0.8, 0.6, 0.1], [-0.3, 1.0, 2.0]]
    H: ClassVar = [1.1, 0.4]

    def model(self, **options):
        return Guided(gaussian(**self.LAW), Linear(self.TWO), MomentMatching(0.3), **options)

    @pytest.mark.parametrize("time", [0.01, 0.3, 0.7, 1.0])
    def test_its_estimate_is_the_denoiser_of_the_posterior(self, time):
        """E[z_0 | z_t, h] of the Gaussian posterior, whose covariance is not diagonal."""
        model = self.model()
        mean, covariance = posterior(self.H, 0.3, **self.LAW, matrix=self.TWO)
        z = torch.randn(5, 3, generator=seeded("posterior")).double()
        t, schedule = torch.full((5,), time).double(), model.prior.schedule
        alpha, sigma = schedule.alpha(t[0]), schedule.sigma(t[0])
        total = alpha**2 * covariance + sigma**2 * torch.eye(3).double()
        expected = mean + alpha * torch.linalg.solve(total, (z - alpha * mean).mT).mT @ covariance
        h = torch.tensor(self.H).double().expand(5, 2)
        objective = Objective.bound(model.prior, model.subject, model.cost, h)
        data, noise = model.guidance.step(objective, z, t, t, torch.ones(5).double())
        torch.testing.assert_close(data, expected)
        torch.testing.assert_close(alpha * data + sigma * noise, z)

    @pytest.mark.parametrize(
        "sampler", [Heun(50), Midpoint(100), DDIM(200), Ancestral(250)], ids=lambda s: type(s).__name__
    )
    def test_its_samples_follow_the_posterior(self, sampler):
        mean, covariance = posterior(self.H, 0.3, **self.LAW, matrix=self.TWO)
        z = drawn(self.model(sampler=sampler), self.H, 2500)
        whiten = torch.linalg.cholesky(covariance)
        white = torch.linalg.solve_triangular(whiten, (z - mean).mT, upper=False)
        torch.testing.assert_close(white.mean(1), torch.zeros(3).double(), atol=0.06, rtol=0)
        torch.testing.assert_close(torch.cov(white), torch.eye(3).double(), atol=0.1, rtol=0)

    def test_it_has_no_bias(self):
        for noise in (0.3, 0.02):
            model = guided(MomentMatching(noise), sampler=Heun(50))
            distance = noise * (2 / torch.pi) ** 0.5 / (1 + noise**2 / 0.73) ** 0.5  # of a normal number
            assert bias(model, 3000, noise)[:3] == pytest.approx((0, 0, 1), abs=0.04)
            if noise == 0.02:
                assert bias(model, 3000, noise)[3] == pytest.approx(distance, rel=0.05)

    def test_of_a_mixture_the_modes_on_the_fiber_are_found_in_their_shares(self):
        """The posterior is a mixture too, in which the third mode, six standard deviations off, has a share of 1e-8."""
        model = Guided(mixture(), Linear([[0.0, 1.0]]), MomentMatching(0.1), sampler=Ancestral(50))
        z = drawn(model, 0.0, 2000)
        share = torch.stack([((z[:, 0] - mode).abs() < 1.2).double().mean() for mode in (-2, 2, 0)])
        torch.testing.assert_close(share, torch.tensor([0.5, 0.5, 0.0]).double(), atol=0.04, rtol=0)
        assert (z[:, 1]).std() == pytest.approx(0.1, abs=0.02)

    @pytest.mark.parametrize("schedule", SCHEDULES)
    def test_a_schedule_that_ends_at_zero_signal_is_refused(self, schedule):
        if schedule == "linear":
            guided(MomentMatching(), gaussian(schedule))
        else:
            with pytest.raises(ValueError, match="MomentMatching: .* reaches zero signal"):
                guided(MomentMatching(), gaussian(schedule))

    @pytest.mark.parametrize("noise", [0.0, -1.0, float("nan")])
    def test_bad_options(self, noise):
        with pytest.raises(ValueError, match="MomentMatching: noise: expected a number above 0"):
            MomentMatching(noise)
