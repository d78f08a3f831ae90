"""Digits in colours that agree with their labels by chance, and priors that are told a class."""

import pytest
import torch

from fibermodels.config import build, describe
from fibermodels.diffusion import DDIM, Told
from fibermodels.guidance import DPS, Guided, Unguided
from fibermodels.latents import Identity
from fibermodels.models import Diffusion
from fibermodels.nn import MLP
from fibermodels.noise import seeded
from fibermodels.suites import CausalClassifier, CausalDigits
from fibermodels.suites.causal_digits import FLIPPED, colour_of, painted, recoloured


def data(agreement, **options):
    return CausalDigits(agreement, base="digits", **options)


class TestCausalDigits:
    @pytest.mark.parametrize("agreement", [0.1, 0.8, 1.0])
    def test_the_colour_agrees_with_the_label_as_often_as_asked(self, agreement):
        own = data(agreement).split("train")
        share = (colour_of(own.inputs()) == own.labels()).double().mean().item()
        assert share == pytest.approx(agreement, abs=3 * (agreement * (1 - agreement) / len(own)) ** 0.5 + 1e-9)

    def test_environments_have_the_same_digits_and_labels(self):
        first, second = (data(agreement).split("test") for agreement in (0.1, 0.9))
        assert torch.equal(first.labels(), second.labels())
        assert torch.equal(first.inputs().sum(1), second.inputs().sum(1))
        assert not torch.equal(first.inputs(), second.inputs())

    def test_a_quarter_of_the_labels_is_wrong(self):
        from sklearn.datasets import load_digits

        own = data(0.5).split("train")
        known = {tuple(row.round().tolist()): digit < 5 for row, digit in zip(*_bundled(load_digits), strict=True)}
        right = [
            known[tuple(row.tolist())] == bool(y) for row, y in zip(_small(own.inputs()), own.labels(), strict=True)
        ]
        assert sum(right) / len(right) == pytest.approx(1 - FLIPPED, abs=0.04)

    def test_an_input_has_light_in_one_channel(self):
        x = data(0.5).split("val").inputs()
        assert x.shape[1:] == (2, 14, 14)
        assert ((x.sum((2, 3)) > 0).sum(1) == 1).all()
        assert torch.equal(colour_of(recoloured(x)), 1 - colour_of(x))
        assert torch.equal(painted(x.sum(1, keepdim=True), colour_of(x)), x)

    def test_digits_of_another_size_are_refused(self):
        with pytest.raises(ValueError, match=r"agreement"):
            data(1.2)


def _bundled(load):
    """What the split makes of the bundled digits, as its own rows."""
    from fibermodels.data.digits import load_labelled

    parts = [load_labelled("digits", split) for split in ("train", "val", "test")]
    grey, digit = (torch.cat(each) for each in zip(*parts, strict=True))
    assert sorted(digit.tolist()) == sorted(load().target.tolist())
    return (1000 * grey[:, 0, ::2, ::2].flatten(1)), digit.tolist()


def _small(x):
    return (1000 * x.sum(1).flatten(1)).round()


class TestCausalClassifier:
    def test_a_grey_one_cannot_see_the_colour_and_the_other_can(self):
        x = data(0.5).split("val").inputs()
        blind, seeing = CausalClassifier(grey=True), CausalClassifier()
        torch.testing.assert_close(blind(x), blind(recoloured(x)))
        assert (seeing(x) - seeing(recoloured(x))).abs().mean() > 0.01
        assert build(describe(blind)).grey


class TestTold:
    def conditional(self):
        torch.manual_seed(0)
        prior = Diffusion(Identity(input_shape=[3]), [2], MLP(16, 1), sampler=DDIM(4))
        torch.nn.init.normal_(prior.network.layers.leave.weight, std=0.5)
        return prior.eval()

    def test_it_samples_as_the_prior_does_when_told_the_same(self):
        prior = self.conditional()
        told, c = Told(prior, [1.0, -2.0]), torch.tensor([[1.0, -2.0]])
        model = Unguided(told, DDIM(4))
        same = prior.sample(c.expand(5, 2), 3, seeded("s"))
        assert torch.equal(model.sample(torch.zeros(5, 7), 3, seeded("s")), same)
        other = Unguided(Told(prior, [0.0, 3.0]), DDIM(4)).sample(torch.zeros(5, 7), 3, seeded("s"))
        assert not torch.allclose(other, same)

    def test_guidance_aims_at_h_and_not_at_the_class(self):
        from fibermodels.subjects import Cut

        subject = Cut("torch.nn.Linear", "logits", network_args={"in_features": 3, "out_features": 1}, input_shape=[3])
        x = torch.randn(6, 3, generator=seeded("x"))
        h = subject(x)
        told = Told(self.conditional(), [1.0, 0.0])
        far, near = (
            Guided(told, subject, DPS(), sampler=DDIM(20), strength=s).sample(h, 4, seeded("s")) for s in (0.0, 1.0)
        )
        errors = [(subject(each.flatten(0, 1)).view(4, 6, 1) - h).square().mean() for each in (far, near)]
        assert errors[1] < 0.5 * errors[0]
        twin = build(describe(told))
        assert torch.equal(twin.condition, told.condition)
