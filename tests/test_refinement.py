"""Refinement onto the fiber, against what linear algebra says of it: affine fibers, and a circle."""

from itertools import pairwise

import pytest
import torch
from cases import FEATURES, LATENT, fiber_autoencoder, flow_matching, images, subject, vae

from fibermodels.core import FiberModel, LatentSpace, Subject
from fibermodels.diffusion import GaussianMixture
from fibermodels.guidance import ConjugateGradients, Exact, FiberProjection, Langevin, LatentDescent
from fibermodels.guidance.gauss_newton import Linearised, curvature, damped_inverse
from fibermodels.latents import Identity
from fibermodels.models import DecodedNoise
from fibermodels.noise import seeded
from fibermodels.trainable import TrainableFiberModel


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded("refinement", seed)).double()


class Plain(LatentSpace):
    """Latents that are their own images, without a range; with `share` the decoder adds as much of `h`."""

    def __init__(self, dim, share=0.0):
        super().__init__()
        self.share = share
        self.image_shape, self.latent_shape = (1, 1, dim), (dim,)

    def moments(self, x, h):
        return x.flatten(1), torch.zeros_like(x.flatten(1))

    def decode(self, z, h):
        if self.share:
            z = z + self.share * torch.nn.functional.pad(h, (0, z.shape[1] - h.shape[1]))
        return z.unflatten(1, self.image_shape)


class Law(Subject):
    """A subject from a function of flat images, which may be given flat."""

    def __init__(self, function, dim, features):
        super().__init__()
        self.function, self.image_shape, self.feature_shape = function, (1, 1, dim), (features,)

    def __call__(self, x):
        return super().__call__(x.unflatten(1, self.image_shape) if x.ndim == 2 else x)

    def forward(self, x):
        return self.function(x.flatten(1))


class Noise(TrainableFiberModel):
    """Standard normal latents."""

    network_calls = 1

    def transport(self, noise, h):
        return noise

    def latent_loss(self, z, h):
        return {}


def linear(features, dim, seed=1):
    matrix, offset = normal(features, dim, seed=seed), normal(features, seed=seed + 1)
    return matrix, Law(lambda x: x @ matrix.T + offset, dim, features)


def circle():
    return Law(lambda x: x.square().sum(1, keepdim=True), 2, 1)


def projection(phi, space=None, **options):
    space = space or Plain(phi.image_shape[2])
    return FiberProjection(Noise(space), phi, **options)


def langevin(phi, steps, tolerance=1e-4, **options):
    return Langevin(projection(phi, tolerance=tolerance), steps, **options)


@torch.no_grad()
def refined(model, z, h, noise=None):
    noise = z.new_zeros(len(z), *model.noise_shape) if noise is None else noise
    return model.refine(z, h, noise).flatten(1)


def rms(phi, z, h):
    return (phi(z) - h).square().mean(1).sqrt()


BOTH = pytest.mark.parametrize("solver", [Exact(), ConjugateGradients()], ids=lambda solver: type(solver).__name__)


class TestAffineFiber:
    @BOTH
    @pytest.mark.parametrize(("features", "dim"), [(3, 7), (5, 5), (7, 3)])
    def test_one_undamped_step_lands_at_the_nearest_point(self, solver, features, dim):
        """Of the fiber, or for more equations than unknowns of the least squares: the pseudo-inverse."""
        matrix, phi = linear(features, dim)
        z, h = normal(20, dim, seed=3), normal(20, features, seed=4)
        found = refined(projection(phi, iterations=1, damping=0.0, solver=solver), z, h)
        torch.testing.assert_close(found, z - (phi(z) - h) @ torch.linalg.pinv(matrix).T, atol=1e-8, rtol=0)
        if features <= dim:
            assert rms(phi, found, h).max() < 1e-8
            tangent = torch.linalg.svd(matrix)[2][features:]
            torch.testing.assert_close(
                (found - z) @ tangent.T, torch.zeros(20, dim - features).double(), atol=1e-8, rtol=0
            )

    def test_a_rank_deficient_one_too(self):
        matrix = normal(4, 2, seed=5) @ normal(2, 6, seed=6)
        phi, z = Law(lambda x: x @ matrix.T, 6, 4), normal(9, 6, seed=7)
        h = phi(normal(9, 6, seed=8))
        expected = z - (phi(z) - h) @ torch.linalg.pinv(matrix).T
        for solver in (Exact(), ConjugateGradients()):
            found = refined(projection(phi, iterations=2, damping=0.0, solver=solver), z, h)
            torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)

    @BOTH
    @pytest.mark.parametrize(("features", "dim"), [(3, 7), (7, 3)])
    def test_a_damped_step_is_ridge_regression(self, solver, features, dim):
        matrix, phi = linear(features, dim)
        z, h = normal(20, dim, seed=3), normal(20, features, seed=4)
        found = refined(projection(phi, iterations=1, damping=0.3, solver=solver), z, h)
        for start, end, target in zip(z, found, h, strict=True):
            r = phi(start[None])[0] - target
            slope = matrix.T @ r
            lam = 0.3 * (matrix @ slope).square().sum() / slope.square().sum()
            stacked = torch.cat((matrix, lam.sqrt() * torch.eye(dim).double()))  # least |A dz - r|^2 + lam |dz|^2
            ridge = torch.linalg.lstsq(stacked, torch.cat((r, torch.zeros(dim).double())), driver="gelsd").solution
            torch.testing.assert_close(end, start - ridge, atol=1e-9, rtol=0)

    def test_the_condition_alone_and_both_together(self):
        """x = z + w (h', 0): the unknown h' lands where its own linear system says, both at the joint least norm."""
        share, (matrix, phi) = 0.7, linear(3, 7)
        space, z, h = Plain(7, share), normal(20, 7, seed=3), normal(20, 3, seed=4)
        told = share * matrix[:, :3]
        start = space.decode(z, h).flatten(1)
        r = phi(start) - h
        found = refined(projection(phi, space, iterations=1, damping=0.0, over="condition"), z, h)
        change = -r @ torch.linalg.inv(told).T
        torch.testing.assert_close(found, start + share * torch.nn.functional.pad(change, (0, 4)), atol=1e-8, rtol=0)
        found = refined(projection(phi, space, iterations=1, damping=0.0, over="both"), z, h)
        dz, dh = (-r @ torch.linalg.pinv(torch.cat((matrix, told), 1)).T).split((7, 3), 1)
        expected = start + dz + share * torch.nn.functional.pad(dh, (0, 4))
        torch.testing.assert_close(found, expected, atol=1e-8, rtol=0)
        assert rms(phi, found, h).max() < 1e-8


class TestCircle:
    """phi(x) = |x|^2."""

    def test_it_converges_quadratically_to_the_nearest_point(self):
        z, h = normal(50, 2) + 2, torch.ones(50, 1).double()
        off = [
            rms(circle(), refined(projection(circle(), iterations=k, damping=0.0, tolerance=0.0), z, h), h)
            for k in range(1, 6)
        ]
        for coarse, fine in pairwise(off):
            assert (fine <= 0.26 * coarse.square() / (1 + coarse) + 1e-15).all()  # of Newton: r^2 / 4 (1 + r)
        found = refined(projection(circle(), iterations=7, tolerance=1e-6), z, h)
        assert rms(circle(), found, h).max() < 1e-6
        torch.testing.assert_close(found, z / z.norm(dim=1, keepdim=True), atol=1e-6, rtol=0)

    @BOTH
    def test_where_an_undamped_step_overshoots_no_row_ever_rises(self, solver):
        z, h = 0.05 * normal(50, 2), torch.ones(50, 1).double()
        undamped = z - Exact().steps(Linearised(lambda u: circle()(u) - h, z))(torch.zeros(50).double())
        assert (rms(circle(), undamped, h) > 10).any()
        before = rms(circle(), z, h)
        for k in range(1, 20):
            now = rms(circle(), refined(projection(circle(), iterations=k, solver=solver), z, h), h)
            assert (now <= before).all()
            before = now
        assert before.max() < 1e-4

    def test_a_row_on_the_fiber_does_not_move(self):
        h, z = torch.ones(4, 1).double(), normal(4, 2)
        z[1] = torch.tensor([0.6, 0.8])
        z[2] = torch.tensor([0.6, 0.8 + 2e-5])
        found = refined(projection(circle(), iterations=5), z, h)
        assert torch.equal(found[1:3], z[1:3])
        assert not (found[[0, 3]] == z[[0, 3]]).any()

    @pytest.mark.parametrize("kind", ["exact", "conjugate gradients", "langevin"])
    def test_a_batch_of_one_is_a_row_of_many(self, kind):
        model = {
            "exact": lambda: projection(circle()),
            "conjugate gradients": lambda: projection(circle(), solver=ConjugateGradients()),
            "langevin": lambda: langevin(circle(), 5),
        }[kind]()
        z, h, noise = normal(6, 2), normal(6, 1, seed=2).square(), normal(6, *model.noise_shape, seed=3)
        whole = refined(model, z, h, noise)
        for i in range(6):
            rows = slice(i, i + 1)
            torch.testing.assert_close(refined(model, z[rows], h[rows], noise[rows]), whole[rows], atol=1e-12, rtol=0)


class TestSolvers:
    def curved(self, features, dim):
        first, second = normal(features, dim, seed=5), normal(features, features, seed=6)
        return lambda u: (u @ first.T).tanh() @ second.T - 0.1

    @pytest.mark.parametrize(("features", "dim"), [(4, 9), (9, 4)])
    def test_products_and_jacobian_are_autograds(self, features, dim):
        residual, u = self.curved(features, dim), normal(5, dim)
        at = Linearised(residual, u)
        expected = torch.stack([torch.autograd.functional.jacobian(lambda v: residual(v[None])[0], row) for row in u])
        torch.testing.assert_close(at.jacobian(), expected)
        v, w = normal(5, dim, seed=1), normal(5, features, seed=2)
        torch.testing.assert_close(at.push(v), (expected @ v[..., None])[..., 0])
        torch.testing.assert_close(at.pull(w), (expected.mT @ w[..., None])[..., 0])
        torch.testing.assert_close(at.gradient, at.pull(at.residual))

    @pytest.mark.parametrize("damping", [0.0, 1e-3, 1.0])
    @pytest.mark.parametrize(("features", "dim"), [(4, 9), (9, 4)])
    def test_conjugate_gradients_are_exact(self, features, dim, damping):
        at = Linearised(self.curved(features, dim), normal(5, dim))
        damping = torch.full((5,), damping).double()
        torch.testing.assert_close(
            ConjugateGradients(40).steps(at)(damping), Exact().steps(at)(damping), atol=1e-6, rtol=1e-6
        )

    def test_the_curvature_is_free_of_units(self):
        """A damping in its units gives the same step, whatever the units of the representation."""
        residual, u, damping = self.curved(4, 9), normal(5, 9), torch.full((5,), 0.1).double()
        first = Exact().steps(Linearised(residual, u))(damping)
        torch.testing.assert_close(Exact().steps(Linearised(lambda u: 1e3 * residual(u), u))(damping), first)
        at = Linearised(residual, u)
        rates = torch.linalg.eigvalsh(at.jacobian() @ at.jacobian().mT)
        scale = curvature(at.gradient, at.push(at.gradient))
        assert (rates[:, 0] <= scale).all()
        assert (scale <= rates[:, -1]).all()

    def test_a_row_without_a_factorisation_spoils_no_other(self):
        jacobian = normal(3, 2, 4)
        jacobian[1] = float("nan")
        found = damped_inverse(jacobian, torch.zeros(3).double())(torch.ones(3, 2).double())
        assert found[1].isnan().all()
        torch.testing.assert_close(found[[0, 2]], torch.linalg.pinv(jacobian[[0, 2]]).sum(2))

    def test_attention_too_can_be_differentiated_twice(self):
        def residual(u):
            tokens = u.view(len(u), 1, 3, 4)
            return torch.nn.functional.scaled_dot_product_attention(tokens, tokens, tokens).flatten(1)

        at, v = Linearised(residual, normal(2, 12)), normal(2, 12, seed=1)
        torch.testing.assert_close(at.push(v), (at.jacobian() @ v[..., None])[..., 0])


class TestLangevin:
    def test_along_a_circle_it_is_uniform_and_stays_on_it(self):
        z = torch.tensor([[1.0, 0.0]]).double().repeat(1000, 1)
        h = torch.ones(1000, 1).double()
        model = langevin(circle(), 200, step_size=0.02)
        noise = normal(1000, *model.noise_shape, seed=4)
        with torch.no_grad():
            wandered = model.wander(z, h, noise)
        assert rms(circle(), wandered, h).quantile(0.98) < 1e-3
        found = refined(model, z, h, noise)
        assert rms(circle(), found, h).max() < 1e-4
        angle = torch.atan2(found[:, 1], found[:, 0])
        for k in (1, 2, 3):  # each moment is 0 with a deviation of 1 / sqrt(2 * 1000) = 0.022
            assert (k * angle).cos().mean().abs() < 0.07
            assert (k * angle).sin().mean().abs() < 0.07

    def test_along_a_circle_a_gaussian_prior_gives_von_mises(self):
        """exp(-|x - m|^2 / 2 v) on the unit circle is exp(m cos(angle) / v)."""
        mean, std, time = 0.6, 0.8, 0.1
        prior = GaussianMixture(Plain(2), [[mean, 0.0]], [[std, std]], schedule="cosine").double()
        t = torch.tensor(time).double()
        variance = std**2 + (prior.schedule.sigma(t) / prior.schedule.alpha(t)) ** 2
        z = torch.tensor([[-1.0, 0.0]]).double().repeat(1500, 1)
        h = torch.ones(1500, 1).double()
        model = langevin(circle(), 200, step_size=0.025, prior=prior, prior_time=time)
        assert model.network_calls == 201
        angle = torch.atan2(*refined(model, z, h, normal(1500, *model.noise_shape, seed=5)).T.flip(0))
        kappa = mean / variance
        expected = torch.special.i1(kappa) / torch.special.i0(kappa)
        assert angle.cos().mean().item() == pytest.approx(expected.item(), abs=0.05)
        assert angle.sin().mean().abs() < 0.05

    @pytest.mark.parametrize("stds", [None, [0.8, 1.2, 1.0, 1.4]])
    def test_along_an_affine_fiber_it_is_the_conditional_gaussian(self, stds):
        matrix, phi = linear(2, 4)
        options = {"tolerance": 1e-9, "step_size": 0.04}
        covariance, mean = torch.eye(4).double(), torch.zeros(4).double()
        if stds:
            mean = torch.tensor([0.5, -0.5, 0.0, 1.0]).double()
            options["prior"] = GaussianMixture(Plain(4), [mean.tolist()], [stds], schedule="cosine").double()
            options["prior_time"] = 0.01
            covariance = torch.tensor(stds).double().square().diag()
        h = normal(1, 2, seed=9).repeat(2000, 1)
        model = langevin(phi, 150, **options)
        found = refined(model, 2 * normal(2000, 4, seed=6), h, normal(2000, *model.noise_shape, seed=7))
        assert rms(phi, found, h).max() < 1e-8
        gain = covariance @ matrix.T @ torch.linalg.inv(matrix @ covariance @ matrix.T)
        expected = mean + gain @ (h[0] - phi(mean[None])[0])
        torch.testing.assert_close(found.mean(0), expected, atol=0.08, rtol=0)
        torch.testing.assert_close(found.T.cov(), covariance - gain @ matrix @ covariance, atol=0.1, rtol=0)

    def test_a_row_that_cannot_reach_its_fiber_goes_along_the_one_it_is_on(self):
        """The target (1, 3) of phi(x) = (|x|^2, |x|^2) is nearest at |x|^2 = 2."""
        phi = Law(lambda x: x.square().sum(1, keepdim=True).expand(-1, 2), 2, 2)
        h, z = torch.tensor([[1.0, 3.0]]).double().repeat(100, 1), normal(100, 2)
        still = refined(projection(phi), z, h)
        model = langevin(phi, 20, step_size=0.03)
        moved = refined(model, z, h, normal(100, *model.noise_shape, seed=8))
        for found in (still, moved):
            torch.testing.assert_close(found.square().sum(1), torch.full((100,), 2.0).double(), atol=1e-2, rtol=0)
        assert (moved - still).norm(dim=1).median() > 0.5

    def test_a_move_that_leaves_the_fiber_is_undone(self):
        """Steps as long as the circle is wide: some corrections fail, and no row is lost."""
        h, z = torch.ones(500, 1).double(), normal(500, 2)
        z = z / z.norm(dim=1, keepdim=True)
        model = langevin(circle(), 20, step_size=1.0)
        found = refined(model, z, h, normal(500, *model.noise_shape, seed=8))
        assert rms(circle(), found, h).max() < 1.5e-4


class TestLatentDescent:
    def test_it_is_adam_on_the_squared_distance(self):
        _, phi = linear(3, 7)
        z, h = normal(20, 7, seed=3), normal(20, 3, seed=4)
        found = refined(LatentDescent(Noise(Plain(7)), phi, steps=4, learning_rate=0.02), z, h)
        rows = []
        for start, target in zip(z, h, strict=True):
            own = start[None].clone().requires_grad_()
            adam = torch.optim.Adam([own], 0.02)
            for _ in range(4):
                adam.zero_grad()
                (phi(own) - target).square().mean().backward()
                adam.step()
            rows.append(own.detach()[0])
        torch.testing.assert_close(found, torch.stack(rows))

    def test_it_lowers_the_distance_in_latents_and_in_pixels(self):
        x, phi = images(12), subject()
        h, z = phi(x), torch.randn(12, LATENT, generator=seeded("start"))
        for space, start in ((vae(), z), (Identity((3, 28, 28)), 1.8 * x.roll(1, 0).flatten(1) - 0.9)):
            model = LatentDescent(Noise(space), phi)
            assert (
                rms(phi, refined(model, start, h).unflatten(1, x.shape[1:]), h) < rms(phi, space.decode(start, h), h)
            ).all()

    @pytest.mark.parametrize("option", [{"steps": -1}, {"learning_rate": 0.0}, {"learning_rate": float("nan")}])
    def test_bad_options(self, option):
        with pytest.raises(ValueError, match=f"LatentDescent: {next(iter(option))}: expected a number"):
            LatentDescent(flow_matching(), subject(), **option)


REFINEMENTS = [LatentDescent, FiberProjection]
NOTHING = {LatentDescent: {"steps": 0}, FiberProjection: {"iterations": 0}}


@pytest.mark.parametrize("refinement", REFINEMENTS)
class TestRefined:
    def test_without_steps_it_is_the_model(self, refinement):
        phi = subject()
        h = phi(images(5))
        for inner, space in ((flow_matching(), None), (flow_matching(), vae()), (DecodedNoise(vae()), vae())):
            model = refinement(inner, phi, space, **NOTHING[refinement])
            assert torch.equal(model.sample(h, 3, seeded(1)), inner.sample(h, 3, seeded(1)))
            assert model.network_calls == inner.network_calls

    def test_it_starts_from_the_models_own_latents_and_else_encodes(self, refinement):
        inner, phi = flow_matching(), subject()
        h = phi(images(5))
        own = inner.sample(h, 2, seeded(1))
        for space in (None, inner.latents):
            model = refinement(inner, phi, space)
            seen = []
            model.refine = lambda z, h, noise, seen=seen, inner=inner: seen.append(z) or inner.latents.decode(z, h)
            found = model.sample(h, 2, seeded(1))
            if space is None:
                torch.testing.assert_close(found, own)
            else:
                again = h.repeat(2, 1)
                torch.testing.assert_close(torch.cat(seen), space.encode(own.flatten(0, 1), again))

    def test_many_rows_in_chunks_are_the_rows_of_few(self, refinement, monkeypatch):
        monkeypatch.setattr("fibermodels.guidance.refine.ROWS", 3)
        phi = subject()
        gentle = {"damping": 1.0} if refinement is FiberProjection else {}  # else rounding decides in float32
        h, model = phi(images(4)), refinement(flow_matching(), phi, **gentle)
        chunked = model.sample(h, 2, seeded(1))
        monkeypatch.undo()
        torch.testing.assert_close(chunked, model.sample(h, 2, seeded(1)), atol=1e-4, rtol=0)
        assert model.sample(h[:0], 2, seeded(1)).shape == (2, 0, 3, 28, 28)

    def test_the_queries_reach_a_model_that_needs_them(self, refinement):
        class Copies(FiberModel):
            network_calls = 0

            def _sample(self, h, n, generator, x):
                return self.queries(x)[None].repeat(n, 1, 1, 1, 1)

        phi, x = subject(), images(3)
        still = refinement(Copies(), phi, vae(), **NOTHING[refinement])
        assert torch.equal(still.sample(phi(x), 2, seeded(1), x)[1], x)
        moved = refinement(Copies(), phi, vae())
        assert moved.sample(phi(x), 2, seeded(1), x).shape == (2, 3, 3, 28, 28)
        with pytest.raises(ValueError, match="Copies: x: expected the query images"):
            moved.sample(phi(x), 2)

    def test_samples_and_targets_that_are_not_finite(self, refinement):
        phi, model = subject(), refinement(flow_matching(), subject())
        model.refine = lambda z, h, noise: z.new_full((len(z), 3, 28, 28), torch.nan)
        h = phi(images(2))
        with pytest.raises(ValueError, match=f"{refinement.__name__}: refined samples: expected finite numbers"):
            model.sample(h)
        with pytest.raises(ValueError, match="h: expected finite numbers"):
            model.sample(h / 0)

    def test_a_model_without_latents_needs_a_space(self, refinement):
        with pytest.raises(ValueError, match=f"{refinement.__name__}: latents: expected a latent space"):
            refinement(DecodedNoise(vae()), subject())

    def test_images_that_do_not_fit(self, refinement):
        with pytest.raises(ValueError, match=r"the subject takes images \(3, 28, 28\), the latent space"):
            refinement(flow_matching(), subject(), Identity((3, 8, 8)))
        inner = DecodedNoise(Identity((3, 8, 8)))
        with pytest.raises(ValueError, match=r"the subject takes images \(3, 28, 28\), DecodedNoise makes \(3, 8, 8\)"):
            refinement(inner, subject(), vae()).sample(torch.zeros(1, FEATURES))

    def test_a_subject_that_is_not_differentiable_or_not_finite(self, refinement):
        z, h = normal(3, 2), torch.ones(3, 1).double()
        for function, message in (
            (lambda x: x[:, :1].detach(), "expected a differentiable subject"),
            (lambda x: x[:, :1] / 0, "expected finite costs"),
        ):
            with pytest.raises(ValueError, match=message):
                refined(refinement(Noise(Plain(2)), Law(function, 2, 1)), z, h)


class TestFiberProjection:
    @pytest.mark.parametrize("over", ["latents", "condition", "both"])
    @BOTH
    def test_in_a_space_whose_decoder_sees_the_target(self, over, solver):
        space, phi = fiber_autoencoder(), subject()
        h, z = phi(images(6)), torch.randn(6, LATENT, generator=seeded("start"))
        before = rms(phi, space.decode(z, h), h)
        model = FiberProjection(Noise(space), phi, over=over, solver=solver, iterations=4)
        after = rms(phi, refined(model, z, h).unflatten(1, (3, 28, 28)), h)
        assert (after <= before).all()
        assert (after < before).float().mean() > 0.5

    def test_the_condition_of_a_decoder_that_does_not_see_it(self):
        phi = subject()
        model = FiberProjection(flow_matching(), phi, over="condition")
        with pytest.raises(ValueError, match="over: 'condition' expects a latent space whose decoder sees .* got VAE"):
            model.sample(phi(images(2)))

    @pytest.mark.parametrize("kind", ["exact", "conjugate gradients", "langevin"])
    def test_same_seed_same_samples_whatever_the_batch(self, kind):
        """In float64: of a random subject the steps are badly conditioned, and amplify what rounding leaves."""
        phi = subject().double()
        solver = ConjugateGradients() if kind == "conjugate gradients" else None
        model, h = FiberProjection(flow_matching().double(), phi, solver=solver), phi(images(6).double())
        model = Langevin(model, 3) if kind == "langevin" else model
        whole, generator = model.sample(h, 2, seeded(1)), seeded(1)
        parts = torch.cat([model.sample(part, 2, generator) for part in h.split([1, 3, 2])], 1)
        torch.testing.assert_close(parts, whole, atol=1e-8, rtol=0)

    @pytest.mark.parametrize("latents", [None, Plain(2)])
    def test_its_noise_does_not_depend_on_the_batch_nor_on_the_steps_before(self, latents):
        inner = Noise(Plain(2)) if latents is None else DecodedNoise(Plain(2))
        model = Langevin(FiberProjection(inner, circle(), latents), 3)
        h = torch.tensor([[1.0], [2.0], [3.0]])
        whole, generator = model.sample(h, 4, seeded(1)), seeded(1)
        parts = torch.cat([model.sample(part, 4, generator) for part in h.split([1, 2])], 1)
        torch.testing.assert_close(parts, whole)
        still = projection(circle(), Plain(2)).sample(h, 4, seeded(1))
        assert ((still - whole).flatten(2).norm(dim=2) > 1e-2).all()
        torch.manual_seed(3)
        first = model.sample(h, 1)
        torch.manual_seed(3)
        assert torch.equal(model.sample(h, 1), first)

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ({"iterations": -1}, "iterations: expected a number of at least 0, got -1"),
            ({"damping": float("nan")}, "damping: expected a number of at least 0"),
            ({"tolerance": -1.0}, "tolerance: expected a number of at least 0"),
            ({"over": "pixels"}, "over must be one of"),
        ],
    )
    def test_bad_options(self, option, message):
        with pytest.raises(ValueError, match=f"FiberProjection: {message}"):
            FiberProjection(flow_matching(), subject(), **option)

    @pytest.mark.parametrize("option", [{"iterations": 0}, {"tolerance": -1.0}])
    def test_bad_options_of_conjugate_gradients(self, option):
        with pytest.raises(
            ValueError, match=f"ConjugateGradients: {next(iter(option))}: expected a number of at least"
        ):
            ConjugateGradients(**option)

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ({"steps": -1}, "steps: expected a number of at least 0"),
            ({"step_size": 0.0}, "step_size: expected a number above 0"),
            ({"prior_time": 0.0}, "prior_time: expected a number above 0 and below 1"),
            (
                {"prior": GaussianMixture(Identity((1, 1, 2)), [[0.0, 0.0]], [[1.0, 1.0]])},
                r"prior: expected a prior over latents \(6,\), got \(2,\)",
            ),
        ],
    )
    def test_bad_options_of_langevin(self, option, message):
        with pytest.raises(ValueError, match=f"Langevin: {message}"):
            Langevin(FiberProjection(flow_matching(), subject()), **option)

    @pytest.mark.parametrize("option", [{"over": "both"}, {"solver": ConjugateGradients()}])
    def test_langevin_along_another_projection(self, option):
        with pytest.raises(ValueError, match="Langevin: model: expected a projection over 'latents' with the solver"):
            Langevin(FiberProjection(flow_matching(), subject(), **option))

    def test_langevin_without_steps_is_the_projection(self):
        phi, inner = subject(), FiberProjection(flow_matching(), subject(), iterations=2, damping=1.0)
        h = phi(images(4))
        assert torch.equal(Langevin(inner, 0).sample(h, 2, seeded(1)), inner.sample(h, 2, seeded(1)))

    def test_langevin_binds_its_prior_once(self):
        prior, bound = GaussianMixture(Plain(2), [[0.6, 0.0]], [[0.8, 0.8]]).double(), []
        denoise = prior.denoiser()
        prior.denoiser = lambda h: bound.append(h) or denoise
        model = langevin(circle(), 5, prior=prior)
        refined(model, normal(3, 2), torch.ones(3, 1).double(), normal(3, 5, 2))
        assert len(bound) == 1
