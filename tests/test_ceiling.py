"""How far a representation decides a judge's decisions, where the law of the decisions is known."""

import pytest
import torch
from cifar10_ceiling import limits, standardised, temperatures, trained


@pytest.fixture(scope="module")
def known():
    """A law `p` of two judges' decisions for each of many representations, and two independent decisions from it."""
    generator = torch.Generator().manual_seed(0)
    p = (2 * torch.randn(20_000, 2, 10, generator=generator)).softmax(-1)
    draws = [torch.multinomial(p.flatten(0, 1), 1, generator=generator).view(-1, 2) for _ in range(2)]
    return p, *draws


def test_the_share_that_a_sample_meets_is_that_of_independent_draws(known):
    p, decisions, others = known
    found = limits(p.log(), decisions)
    met = (decisions == others).double().mean(0)
    assert found["sampled"] == pytest.approx(met, abs=0.015)
    assert found["sampled_expected"] == pytest.approx(met, abs=0.015)


def test_no_rule_meets_more_than_the_guess(known):
    p, decisions, _ = known
    found = limits(p.log(), decisions)
    assert found["guessed"] == pytest.approx(p.amax(-1).double().mean(0), abs=0.015)
    assert (found["guessed"] > found["sampled"]).all()


def test_the_temperature_undoes_a_scale_of_the_logits(known):
    p, decisions, _ = known
    scaled = p.log() * torch.tensor([2.0, 0.5])[:, None]
    assert temperatures(scaled, decisions).flatten().tolist() == pytest.approx([2.0, 0.5], abs=0.1)


@pytest.mark.parametrize("shape", [(12,), (12, 4, 4)], ids=["vectors", "maps"])
def test_a_probe_finds_what_decides(shape):
    torch.manual_seed(0)
    h = torch.randn(2000, *shape)
    pooled = h.flatten(2).mean(2) if len(shape) == 3 else h
    decisions = torch.stack((pooled[:, :10].argmax(1), torch.randint(10, (2000,))), 1)
    train, test = standardised([h[:1500], h[1500:]])
    guessed = limits(trained(train, decisions[:1500], epochs=12)(test), decisions[1500:])["guessed"]
    assert guessed[0] > 0.5  # the representation decides this judge
    assert guessed[1] < 0.2  # and says nothing of the other
