"""Agreement of classifiers, cosine per location, ranks and cues: by hand, and in blocks as in one piece."""

import math

import pytest
import torch

from fibermodels import metrics
from fibermodels.core import FiberSamples
from fibermodels.metrics import agreement, fidelity
from fibermodels.metrics.shape_texture import cue_preference, decide
from fibermodels.noise import seeded


def of(h, h_hat):
    """Samples of blank images with these representations."""
    x = torch.zeros(len(h), 3, 2, 2)
    return FiberSamples(x, h, torch.zeros(len(h_hat), *x.shape), h_hat)


ONE_HOT = torch.eye(6)


def test_top_matches_by_hand():
    h = torch.stack((ONE_HOT[0], ONE_HOT[1]))
    ranked = torch.tensor([3.0, 5.0, 4.0, 2.0, 1.0, 0.0])  # 0 third, 1 first
    last = torch.tensor([0.0, 1.0, 4.0, 2.0, 1.5, 3.0])  # 0 last, 1 fifth
    samples = of(h, torch.stack((torch.stack((ranked, ranked)), torch.stack((last, last)))))
    assert metrics.cosine(samples) < 1
    assert agreement.top1_match(samples) == 1 / 4
    assert agreement.top5_match(samples) == 3 / 4
    labels = torch.tensor([2, 1])
    assert agreement.top_accuracy(samples.h, labels) == 1 / 2
    assert agreement.top_accuracy(samples.h_hat, labels) == 2 / 4
    assert agreement.top_accuracy(samples.h_hat, labels, 5) == 1
    assert math.isnan(agreement.top5_match(of(h[:, :5], samples.h_hat[..., :5]))), "five of five is always right"


def test_probability_differences_by_hand():
    h, h_hat = torch.tensor([[0.0, 0.0]]), torch.tensor([[[math.log(3), 0.0]]])
    assert agreement.probability_difference(of(h, h_hat)) == pytest.approx(100 * (0.25 + 0.25))
    assert agreement.probability_difference_sigmoid(of(h, h_hat)) == pytest.approx(100 * 0.25)
    assert agreement.probability_difference(of(h, h[None] + 7)) == pytest.approx(0, abs=1e-4)


def test_decisions_by_hand():
    h = torch.tensor([[2.0, -2.0, 0.5]])
    h_hat = torch.tensor([[[1.0, 1.0, -0.5]], [[3.0, -1.0, 1.0]]])
    half = torch.tensor([0.5])
    assert agreement.decision_match(of(h, h_hat), half) == pytest.approx(4 / 6)
    later = torch.tensor([0.5, 0.8, 0.8])  # from 1.39 of the logits on
    assert agreement.decision_match(of(h, h_hat), later) == 1
    labels = torch.tensor([[1.0, float("nan"), 1.0]])
    assert agreement.decision_accuracy(h_hat, labels, half) == 3 / 4
    assert agreement.decision_accuracy(h, labels, later) == 1 / 2
    assert math.isnan(agreement.decision_accuracy(h, torch.full((1, 3), float("nan")), half))
    with pytest.raises(ValueError, match="thresholds: expected 1 or 3, one for each output of the classifier, got 2"):
        agreement.decision_match(of(h, h_hat), torch.tensor([0.5, 0.5]))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 6]), "got 6 outputs for labels up to 6"),
        (torch.zeros(2, 5), "expected 5 outputs, one for each label of the data, got 6"),
    ],
)
def test_labels_of_other_classes(labels, message):
    with pytest.raises(ValueError, match=message):
        agreement.check_labels(torch.zeros(2, 6), labels, "classifier")


def test_cosine_per_location_by_hand():
    h = torch.zeros(1, 2, 1, 2)
    h[0, :, 0, 0], h[0, :, 0, 1] = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 100.0])
    h_hat = torch.zeros(1, 1, 2, 1, 2)
    h_hat[0, 0, :, 0, 0], h_hat[0, 0, :, 0, 1] = torch.tensor([0.0, 3.0]), torch.tensor([0.0, 0.2])
    samples = of(h, h_hat)
    assert metrics.cosine_per_location(samples) == pytest.approx(1 / 2)
    expected = 20 / (math.sqrt(1 + 100**2) * math.sqrt(9 + 0.04))
    assert metrics.cosine(samples) == pytest.approx(expected)
    assert math.isnan(metrics.cosine_per_location(of(torch.ones(1, 2), torch.ones(1, 1, 2))))


def test_ranks_of_maps_in_blocks_are_those_of_one_piece(monkeypatch):
    generator = seeded("maps")
    h = torch.randn(90, 4, 3, 3, generator=generator)
    h_hat = h + 2.5 * torch.randn(2, 90, 4, 3, 3, generator=generator)
    samples = of(h, h_hat)
    distances = torch.cdist(h_hat.flatten(2), h.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")
    own = distances.diagonal(dim1=1, dim2=2)
    expected = (1 / (1 + (distances < own[..., None]).sum(2))).mean().item()
    assert 0.05 < expected < 0.95
    assert metrics.mean_reciprocal_rank(samples) == pytest.approx(expected)
    monkeypatch.setattr(fidelity, "ELEMENTS", 36 * 40)  # blocks of 40, the last one of 10
    assert metrics.mean_reciprocal_rank(samples) == pytest.approx(expected)


def test_categories_are_decided_by_mean_probability():
    """One class with much beats many with little; the largest sum would have decided otherwise."""
    logits = torch.log(torch.tensor([[0.3, 0.2, 0.2, 0.2, 0.1]]))
    assert decide(logits, [[0], [1, 2, 3]]).tolist() == [0]
    assert decide(logits, [[4], [1, 2, 3]]).tolist() == [1]
    assert decide(logits).tolist() == [0]
    with pytest.raises(ValueError, match="expected classes below the classifier's 5 outputs, got classes up to 5"):
        decide(logits, [[0], [5]])


def test_cue_preference_by_hand():
    cues = torch.tensor([[0, 1], [0, 1], [2, 0], [1, 1], [2, 1]])
    decided = torch.tensor([0, 1, 2, 1, 0])  # shape, texture, shape, no conflict, neither
    found = cue_preference(decided, cues)
    assert found == pytest.approx({"shape_accuracy": 2 / 4, "texture_accuracy": 1 / 4, "shape_preference": 2 / 3})
    neither = cue_preference(torch.full((5,), 3), cues)
    assert neither["shape_accuracy"] == 0
    assert math.isnan(neither["shape_preference"])
    assert cue_preference(torch.stack((decided, decided)), cues) == pytest.approx(found)


def test_whether_a_classifier_knows_the_labels():
    """Random decisions pass in one of a hundred cases, by definition."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 10
    right = torch.nn.functional.one_hot(labels, 10).float()
    assert agreement.knows(right, labels)
    assert agreement.knows(right.roll(1, 1), labels[:50])  # too few to say
    assert not agreement.knows(right.roll(1, 1), labels)
    passed = sum(agreement.knows(torch.rand(200, 10, generator=generator), labels) for _ in range(2000))
    assert 5 <= passed <= 45
    assert agreement.knows(right[:, :1].expand(200, 10), torch.zeros(200, dtype=torch.long))  # one class says nothing
