"""What a prior is told in each call, as variables, against autograd, torch's Adam, and samplers written by hand."""

from itertools import count

import pytest
import torch
from cases import FEATURES, randomised, subject
from pipelines import tiny_pipeline
from torch.nn.functional import avg_pool2d

from fibermodels.core import Subject
from fibermodels.diffusion import DDIM, GaussianMixture, Heun, Midpoint, Pretrained, Prompted, Told, token_places
from fibermodels.guidance import Cutouts, FiberDistance, NoiseOptimisation, Unguided
from fibermodels.latents import Identity
from fibermodels.models import Diffusion, FlowMatching
from fibermodels.nn import MLP
from fibermodels.noise import seeded

SHAPE = (3, 28, 28)


def class_conditional(kind=Diffusion, scale=2.0, steps=3):
    """A prior over pixels that was measured on conditions whose mean is not zero."""
    torch.manual_seed(0)
    own = {"drop_condition": 0.5, "guidance_scale": scale}
    model = randomised(kind(Identity(SHAPE), [FEATURES], MLP(16, 1), sampler=DDIM(steps), **own))
    model.network.standardise.measure(1 + 2 * torch.rand(100, FEATURES, generator=seeded("measured")))
    return model.eval().requires_grad_(False)


class Coarse(Subject):
    """Images of the tiny pipelines, eight times smaller."""

    def __init__(self):
        super().__init__()
        self.image_shape, self.feature_shape = (3, 16, 16), (3, 2, 2)

    def forward(self, images):
        return avg_pool2d(images, 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tiny_pipeline(tmp_path_factory.mktemp("pipelines") / "text", "text"))


@pytest.fixture(scope="module")
def every(folder):
    """Priors that take prompts, and the subjects of their images."""
    text = {"prompt": "a chest", "negative_prompt": "noise"}
    return {
        "text": (Pretrained(folder, **text, guidance_scale=3.0), Coarse()),
        "told": (Told(class_conditional(), [0.5 + i for i in range(FEATURES)]), subject()),
        "bound": (class_conditional(), subject()),
        "flow": (class_conditional(FlowMatching), subject()),
    }


KINDS = ("text", "told", "bound", "flow")


def drawn(prior, phi, rows=3, sampler=None):
    model = Unguided(prior, sampler or DDIM(3))
    noise = torch.randn(rows, *model.noise_shape, generator=seeded("noise"))
    return model, noise, 0.5 + torch.rand(rows, *phi.feature_shape, generator=seeded("h"))


def repeated(model, h):
    """The prior's own prompts in every call."""
    return torch.stack([model.prior.prompts(h)] * model.sampler.calls, 1)


@pytest.mark.parametrize("kind", KINDS)
class TestPrompted:
    def test_its_own_prompts_give_its_denoiser(self, every, kind):
        prior, phi = every[kind]
        _, z, h = drawn(prior, phi)
        t = torch.tensor([0.2, 0.6, 1.0])
        assert isinstance(prior, Prompted)
        for found, expected in zip(
            prior.denoise_prompted(z, t, prior.prompts(h)), prior.denoiser(h)(z, t), strict=True
        ):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("sampler", [DDIM(3), DDIM(3, 0.5), Heun(2), Midpoint(2)])
    def test_the_same_prompts_in_all_calls_give_the_same_sample(self, every, kind, sampler):
        model, noise, h = drawn(*every[kind], sampler=sampler)
        found = model.estimates(noise, h, 1, repeated(model, h))[0]
        torch.testing.assert_close(found, model.push(noise, h), rtol=1e-4, atol=1e-5)

    def test_each_call_has_its_own(self, every, kind):
        """The sampler by hand, with another prompt and null-text in each step."""
        model, noise, h = drawn(*every[kind])
        prompts = repeated(model, h)
        prompts = prompts + 0.3 * torch.randn(prompts.shape, generator=seeded("moved"))
        z, schedule = noise, model.prior.schedule
        times = model.sampler.times(schedule, z)
        for i in range(3):
            t, s = times[i].expand(3), times[i + 1].expand(3)
            data, own = model.prior.denoise_prompted(z, t, prompts[:, i])
            z = schedule.alpha(s)[:, None] * data + schedule.sigma(s)[:, None] * own
        found = model.estimates(noise, h, 1, prompts)[0]
        torch.testing.assert_close(found, model.prior.decode(z, h), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(found, model.push(noise, h), atol=1e-4)

    def test_the_gradient_reaches_every_variable_and_is_a_difference_quotient(self, every, kind):
        prior, phi = every[kind]
        prior, phi = prior.double(), phi.double()
        try:
            model, noise, h = drawn(prior, phi)
            noise, h = noise.double(), h.double()
            prompts = repeated(model, h).requires_grad_()
            cost = FiberDistance()(phi, model.estimates(noise, h, 1, prompts)[0], h).sum()
            (slope,) = torch.autograd.grad(cost, prompts)
            assert (slope.flatten(3).abs().amax(3) > 0).all(), "every row, call, and both null-text and prompt"
            way, step = torch.randn(prompts.shape, generator=seeded("way")).double(), 1e-5
            with torch.no_grad():
                up, down = (
                    FiberDistance()(phi, model.estimates(noise, h, 1, prompts + s * way)[0], h).sum()
                    for s in (step, -step)
                )
            assert ((up - down) / (2 * step)).item() == pytest.approx((slope * way).sum().item(), rel=1e-4)
        finally:
            prior.float()
            phi.float()

    def test_checkpointing_changes_no_gradient(self, every, kind):
        found = []
        for checkpointing in (False, True):
            model, noise, h = drawn(*every[kind])
            model.checkpointing = checkpointing
            prompts = repeated(model, h).requires_grad_()
            (slope,) = torch.autograd.grad(model.estimates(noise, h, 2, prompts).square().sum(), prompts)
            found.append(slope)
        torch.testing.assert_close(*found, rtol=0, atol=0)

    def test_two_steps_are_those_of_torchs_adam(self, every, kind):
        """Of noise, prompts and null-texts with rates of their own, for one row by hand."""
        prior, phi = every[kind]
        model, noise, h = drawn(prior, phi)
        rates = {"learning_rate": 0.05, "null_learning_rate": 0.02, "prompt_learning_rate": 0.1}
        found = NoiseOptimisation(model, phi, steps=2, **rates).optimise(noise, h)
        e, c = noise[1:2].clone().requires_grad_(), h[1:2]
        null, prompt = (each.clone().requires_grad_() for each in repeated(model, c).unbind(2))
        adam = torch.optim.Adam(
            [{"params": each, "lr": rate} for each, rate in zip((e, null, prompt), rates.values(), strict=True)]
        )
        seen = []
        for _ in range(3):
            image = model.estimates(e, c, 1, torch.stack((null, prompt), 2))[0]
            cost = FiberDistance()(phi, image, c)
            seen.append((cost.item(), image.detach()))
            adam.zero_grad()
            cost.sum().backward()
            adam.step()
        torch.testing.assert_close(found[1:2], min(seen, key=lambda pair: pair[0])[1], rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize("rate", ["null_learning_rate", "prompt_learning_rate"])
    def test_each_of_them_alone_lowers_the_cost(self, every, kind, rate):
        prior, phi = every[kind]
        model, noise, h = drawn(prior, phi)
        before, after = (
            NoiseOptimisation(model, phi, steps=steps, learning_rate=1e-9, **{rate: 0.03}).optimise(noise, h)
            for steps in (0, 3)
        )
        assert (FiberDistance()(phi, after, h) < FiberDistance()(phi, before, h)).all()


class TestOptions:
    def test_without_rates_prompts_are_not_asked_for(self, every, monkeypatch):
        prior, phi = every["bound"]
        monkeypatch.setattr(type(prior), "prompts", None)
        model, noise, h = drawn(prior, phi)
        NoiseOptimisation(model, phi, steps=1).optimise(noise, h)

    def test_rates_that_can_do_nothing_are_refused(self, every):
        phi, plain = subject(), Unguided(class_conditional(scale=1.0), DDIM(2))
        for model, options, words in (
            (
                plain,
                {"null_learning_rate": 0.1},
                "null_learning_rate: expected 0 for a prior with guidance_scale 1, got 0.1",
            ),
            (
                Unguided(class_conditional(scale=0.0), DDIM(2)),
                {"prompt_learning_rate": 0.1},
                "prompt_learning_rate: expected 0 for a prior with guidance_scale 0, got 0.1",
            ),
            (
                plain,
                {"prompt_learning_rate": 0.1, "condition_learning_rate": 0.2},
                "condition_learning_rate: expected 0 beside prompts and null-texts, got 0.2",
            ),
            (
                Unguided(GaussianMixture(Identity(SHAPE), [[0.0] * 2352], [[1.0] * 2352]), DDIM(2)),
                {"prompt_learning_rate": 0.1},
                "an Unguided over a prior that takes prompts, got GaussianMixture",
            ),
            (plain, {"prompt_learning_rate": -1.0}, "prompt_learning_rate: expected a number of at least 0, got -1.0"),
        ):
            with pytest.raises(ValueError, match=words):
                NoiseOptimisation(model, phi, **options)

    def test_prompts_of_another_number_or_shape_are_refused(self, every):
        model, noise, h = drawn(*every["text"])
        prompts = repeated(model, h)
        with pytest.raises(ValueError, match="one for each of the 3 calls, got 2"):
            model.estimates(noise, h, 1, prompts[:, :2])
        with pytest.raises(ValueError, match="null-text and prompt of each row, got"):
            model.estimates(noise, h, 1, prompts[..., :4])

    def test_a_prior_that_is_told_nothing_says_so(self, folder, tmp_path):
        pixels = Pretrained(str(tiny_pipeline(tmp_path / "pixel", "pixel")))
        with pytest.raises(ValueError, match="expected a network that reads text"):
            pixels.prompts(torch.zeros(2, 3))
        silent = Diffusion(Identity(SHAPE), [], MLP(16, 1))
        with pytest.raises(ValueError, match="expected a conditional model, got one that is told nothing"):
            silent.prompts(torch.zeros(2, 3))
        analytic = GaussianMixture(Identity(input_shape=[2]), [[0.0, 0.0]], [[1.0, 1.0]])
        with pytest.raises(ValueError, match="Told: prior: expected one that takes prompts, got GaussianMixture"):
            Told(analytic, [1.0]).prompts(torch.zeros(2, 3))


def test_the_null_text_of_a_class_is_a_hidden_class():
    """What the network sees of it is what training hid a condition as."""
    model, h = class_conditional(), torch.rand(4, FEATURES, generator=seeded("hidden"))
    null, prompt = model.prompts(h).unbind(1)
    hidden = model.network.condition(h, torch.zeros(4))
    torch.testing.assert_close(model.network.condition(null), hidden, rtol=0, atol=0)
    assert torch.equal(prompt, h)


def test_places_of_words_are_those_of_the_tokenizer(folder):
    """The tiny tokenizer has a token for every letter."""
    assert token_places(folder, "a cat sat", "cat") == [2, 3, 4]
    assert token_places(folder, "a cat", "a") == [1]
    with pytest.raises(ValueError, match="words: expected a part of the prompt 'a cat', got 'dog'"):
        token_places(folder, "a cat", "dog")


class TestFreshCutouts:
    def test_every_step_has_others_and_the_same_again_in_the_next_run(self):
        phi, seen = subject(), []
        model, noise, h = drawn(*(class_conditional(), phi))

        class Watched(Cutouts):
            def cut(self, images, size):
                found = super().cut(images, size)
                seen.append(super().cut(torch.linspace(0, 1, 28 * 28).view(1, 1, 28, 28), size))
                return found

        cost = Watched(FiberDistance(), 2, 0.5)
        once = NoiseOptimisation(model, phi, cost, steps=3).optimise(noise, h)
        again = NoiseOptimisation(model, phi, cost, steps=3).optimise(noise, h)
        first, second = seen[:4], seen[4:]
        assert torch.equal(once, again)
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        assert all(not torch.equal(a, b) for i, a in enumerate(first) for b in first[:i])

    def test_the_steps_are_those_of_the_cost_by_hand(self):
        phi = subject()
        model, noise, h = drawn(*(class_conditional(), phi))
        cost = Cutouts(FiberDistance("squared"), 2, 0.5)
        found = NoiseOptimisation(model, phi, cost, 2, 0.5, "sgd", judge=FiberDistance("squared")).optimise(noise, h)
        e, seen = noise.clone().requires_grad_(), []
        for step in count():
            image = model.push(e, h)
            seen.append((FiberDistance("squared")(phi, image, h).detach(), image.detach()))
            if step == 2:
                break
            (slope,) = torch.autograd.grad(cost.at(step)(phi, image, h).sum(), e)
            e = (e - 0.5 * slope).detach().requires_grad_()
        best = torch.stack([costs for costs, _ in seen]).argmin(0)
        expected = torch.stack([seen[i][1][row] for row, i in enumerate(best.tolist())])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
