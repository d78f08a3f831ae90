"""Condition feedback, on models whose error in the condition is known."""

import pytest
import torch
from cases import fiber_autoencoder, flow_matching, images, subject
from torch import Tensor

from fibermodels import distances
from fibermodels.core import Pushforward, Subject
from fibermodels.guidance import ConditionFeedback
from fibermodels.noise import seeded

SHAPE = (1, 1, 8)


class Flat(Subject):
    """The image itself is the representation."""

    image_shape, feature_shape = SHAPE, (8,)

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


class Off(Pushforward):
    """Draws an image whose representation is `h + matrix h + bend(h) + noise`, with noise that stays."""

    image_shape, noise_shape, network_calls = SHAPE, (8,), 1

    def __init__(self, size: float, bend: float = 0.0) -> None:
        super().__init__()
        matrix = torch.randn(8, 8, generator=seeded("off")).double()
        self.matrix = size * matrix / torch.linalg.matrix_norm(matrix, 2)
        self.bend, self.calls = bend, 0

    def push(self, noise: Tensor, h: Tensor) -> Tensor:
        self.calls += 1
        return (h + h @ self.matrix.T + self.bend * torch.sin(5 * h) + 0.1 * noise).unflatten(1, SHAPE)


@pytest.fixture
def h():
    return torch.rand(6, 8, generator=seeded("h")).double()


@pytest.fixture
def noise():
    return torch.randn(6, 8, generator=seeded("noise")).double()


def error(model, noise, h):
    return (model.push(noise, h).flatten(1) - h).square().mean(1).sqrt()


class TestConditionFeedback:
    def test_one_step_is_exact_for_a_model_that_is_off_by_a_constant(self, h, noise):
        assert error(Off(0), noise, h).min() > 0.01
        torch.testing.assert_close(error(ConditionFeedback(Off(0), Flat(), 1), noise, h), torch.zeros(6).double())

    def test_the_error_is_multiplied_by_the_models_own_in_every_step(self, h, noise):
        """The residual after k steps is `(-matrix)^k` times the first one, while that is below it."""
        model = Off(0.3)
        first = h - model.push(noise, h).flatten(1)
        expected = first @ torch.linalg.matrix_power(-model.matrix, 3).T
        torch.testing.assert_close(
            error(ConditionFeedback(model, Flat(), 3), noise, h), expected.square().mean(1).sqrt()
        )

    def test_secants_solve_a_linear_model(self, h, noise):
        """As many secants as dimensions: Anderson's mixing is then a Krylov method, exact but for its ridge."""
        plain = error(ConditionFeedback(Off(0.8), Flat(), 11), noise, h)
        mixed = error(ConditionFeedback(Off(0.8), Flat(), 11, memory=8), noise, h)
        assert (mixed < 1e-2 * plain).all()

    @pytest.mark.parametrize("size", [0.5, 2.0, 5.0])
    @pytest.mark.parametrize("memory", [0, 2])
    def test_no_row_gets_worse(self, h, noise, size, memory):
        """Also where the fixed point repels."""
        model, last = Off(size, bend=0.3), error(Off(size, bend=0.3), noise, h)
        for steps in range(1, 6):
            now = error(ConditionFeedback(model, Flat(), steps, memory=memory), noise, h)
            assert (now <= last).all()
            last = now

    def test_a_row_within_the_tolerance_stays_and_nothing_is_called_when_all_are(self, h, noise):
        model = Off(0.3)
        start = error(model, noise, h)
        tolerance = start.median().item()
        after = error(ConditionFeedback(model, Flat(), 1, tolerance=tolerance), noise, h)
        torch.testing.assert_close(after[start <= tolerance], start[start <= tolerance])
        assert (after[start > tolerance] < start[start > tolerance]).all()
        model.calls = 0
        ConditionFeedback(model, Flat(), 5, tolerance=10.0).push(noise, h)
        assert model.calls == 1

    def test_calls_are_as_stated(self, h, noise):
        model = Off(0.3)
        wrapped = ConditionFeedback(model, Flat(), 4)
        wrapped.push(noise, h)
        assert model.calls == wrapped.network_calls == 5

    def test_no_steps_is_the_model(self):
        phi, model = subject(), flow_matching()
        h = phi(images(5))
        assert torch.equal(ConditionFeedback(model, phi, 0).sample(h, 2, seeded(1)), model.sample(h, 2, seeded(1)))

    def test_its_gradient_runs_through_all_steps(self, h, noise):
        """In the condition: for a linear model, what two steps compose to."""
        model, h = Off(0.3), h.requires_grad_()
        image = ConditionFeedback(model, Flat(), 2).push(noise, h)
        (gradient,) = torch.autograd.grad(image[:, 0, 0, 3].sum(), h)
        eye = torch.eye(8).double()
        slope = eye + model.matrix  # d image / d told
        told = eye
        for _ in range(2):
            told = told + eye - slope @ told
        torch.testing.assert_close(gradient[0], (slope @ told)[3])

    def test_over_the_decoder_the_latents_stay(self):
        """The density is called once, with the target; a correction moves what the decoder is told."""
        phi, h = subject(), subject()(images(5))
        model = flow_matching(latents=fiber_autoencoder())
        noise = torch.randn(5, *model.noise_shape, generator=seeded("over"))
        wrapped = ConditionFeedback(model, phi, 1, over="decoder")
        assert wrapped.network_calls == model.network_calls
        z = model.transport(noise, h)
        first = model.latents.decode(z, h)
        second = model.latents.decode(z, h + (h - phi(first)))
        nearer = distances.rms(h, phi(second)) < distances.rms(h, phi(first))
        expected = torch.where(nearer[:, None, None, None], second, first)
        torch.testing.assert_close(wrapped.push(noise, h), expected)
        assert ConditionFeedback(model, phi, 1).network_calls == 2 * model.network_calls

    def test_over_the_decoder_it_needs_a_density(self):
        with pytest.raises(ValueError, match="over: 'decoder' expects a density over a latent space, got a Off"):
            ConditionFeedback(Off(0), Flat(), over="decoder")
        with pytest.raises(ValueError, match="over must be one of"):
            ConditionFeedback(flow_matching(), subject(), over="latents")

    @pytest.mark.parametrize("option", [{"steps": -1}, {"step_size": 0.0}, {"memory": -1}, {"tolerance": float("nan")}])
    def test_bad_options(self, option):
        with pytest.raises(ValueError, match=f"ConditionFeedback: {next(iter(option))}: expected a number"):
            ConditionFeedback(flow_matching(), subject(), **option)

    def test_images_that_do_not_fit_the_subject(self, h, noise):
        phi = Flat()
        phi.image_shape = (1, 2, 4)
        with pytest.raises(ValueError, match="the subject takes images .1, 2, 4., the model makes .1, 1, 8."):
            ConditionFeedback(Off(0.3), phi).push(noise, h)

    def test_samples_and_representations_that_are_not_finite(self, h, noise):
        """A trial that is not finite is only a failed step; the model's own sample must be finite."""

        class Broken(Flat):
            def forward(self, images):
                return super().forward(images) / 0

        with pytest.raises(ValueError, match="ConditionFeedback: their representations by Broken: expected finite"):
            ConditionFeedback(Off(0.3), Broken()).push(noise, h)
        with pytest.raises(ValueError, match="ConditionFeedback: samples of Off: expected finite numbers"):
            ConditionFeedback(Off(0.3), Flat()).push(noise / 0, h)
        with pytest.raises(ValueError, match="h: expected finite numbers"):
            ConditionFeedback(Off(0.3), Flat()).sample(h / 0)

    def test_features_of_more_dimensions(self):
        """A spatial map of features is corrected as a whole."""

        class Map(Flat):
            feature_shape = (2, 2, 2)

            def forward(self, images):
                return images.view(-1, 2, 2, 2)

        class OffMap(Off):
            def push(self, noise, h):
                return super().push(noise, h.flatten(1))

        h, noise = torch.rand(3, 2, 2, 2).double(), torch.randn(3, 8, generator=seeded(1)).double()
        x = ConditionFeedback(OffMap(0.3), Map(), 8, memory=2).push(noise, h)
        torch.testing.assert_close(x.view(3, 2, 2, 2), h, atol=1e-4, rtol=0)
