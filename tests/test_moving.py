"""Moves down a cost, and towards neighbours, of linear classifiers."""

import pytest
import torch
from linear_fibers import SIDE, Linear, LinearFiber, Whole, linear, logits, pictures

from fibermodels.applications import (
    counterfactual,
    disagree,
    maximise,
    move,
)
from fibermodels.guidance import Cost, FiberDistance
from fibermodels.noise import seeded


class Held(Cost):
    """The square change of the second unit."""

    def forward(self, subject, images, h):
        return 1e4 * (subject(images) - h)[:, 1].square()


class TestMoving:
    def test_a_move_takes_the_direction_of_the_weights(self):
        """Two classes of a linear classifier: the cross-entropy falls along the difference of their weights."""
        classifier = logits(2, "classes")
        found = counterfactual(Whole(), Linear(torch.eye(SIDE**2)), pictures(4), 1, classifier, near=0.0, steps=10)
        change = (found.move.end - found.move.start).flatten(1)
        weights = classifier.matrix[1] - classifier.matrix[0]
        torch.testing.assert_close(torch.cosine_similarity(change, weights[None]), torch.ones(4), rtol=0, atol=1e-3)
        torch.testing.assert_close(change.norm(dim=1), (found.move.random - found.move.start).flatten(1).norm(dim=1))

    def test_counterfactuals_are_valid_and_random_moves_are_not(self):
        """A judge with nearly the same weights agrees; a mask keeps all other pixels."""
        classifier = logits(3, "three")
        near = Linear(classifier.matrix + torch.randn(3, SIDE**2, generator=seeded("noise")) / SIDE)
        x = pictures(40)
        x = x[classifier(x).argmax(1) != 2]
        options = {"label": 2, "judges": {"near": near}, "near": 0.1, "steps": 20, "step_size": 0.02}
        found = counterfactual(Whole(), classifier, x, space="pixel", **options)
        by_judges, own, _ = found.merits
        assert own.value == 1
        assert by_judges.value > 0.9
        assert max(by_judges.null, own.null) < 0.6
        boxed = counterfactual(Whole(), classifier, x, space="pixel", mask=[0, 0, 3, 6], **options)
        assert boxed.move.distance(inside=False).max() == 0 < boxed.move.distance().min()

    def test_the_way_to_the_nearest_unlike_neighbour(self):
        """With the exact sampler, all is linear: the end is the first eighth of the way that is decided otherwise."""
        classifier, subject, x = logits(2, "classes"), Linear(torch.eye(SIDE**2)), pictures(60)
        kind = classifier(x).argmax(1)
        own, references = x[kind == 0][:8], x[20:]
        found = counterfactual(Whole(), subject, own, 1, classifier, references=references)
        known = references[classifier(references).argmax(1) == 1]
        nearest = known[torch.cdist(own.flatten(1), known.flatten(1)).argmin(1)]
        for i in range(8):
            way = [torch.lerp(own[i], nearest[i], part / 8) for part in range(9)]
            first = next(each for each in way if classifier(each[None]).argmax() == 1)
            torch.testing.assert_close(found.move.end[i], first, rtol=0, atol=1e-4)
        lengths = [(each - found.move.start).flatten(1).norm(dim=1) for each in (found.move.end, found.move.random)]
        torch.testing.assert_close(*lengths)
        assert found.merits[0].value == 1
        with pytest.raises(ValueError, match="references: expected images that are decided for class 1"):
            counterfactual(Whole(), subject, own, 1, classifier, references=own)
        with pytest.raises(ValueError, match="space: 'neighbour' needs references"):
            counterfactual(Whole(), subject, own, 1, classifier, space="neighbour")

    @pytest.mark.parametrize("space", ["condition", "noise", "pixel"])
    def test_any_cost_is_lowered_in_any_space(self, space):
        """A cost that a user wrote: the distance to grey, which a move near to the start lowers less."""
        x, subject = pictures(3), Linear(torch.eye(SIDE**2))
        model = LinearFiber(linear()) if space == "noise" else Whole()
        told = linear() if space == "noise" else subject

        def grey(images):
            return (images - 0.5).flatten(1).square().mean(1)

        size = 0.02 if space == "pixel" else 0.3
        free, held = (move(model, told, x, grey, space, near=near, step_size=size) for near in (0.0, 100.0))
        assert (grey(free.end) < 0.5 * grey(free.start)).all()
        assert (held.distance() < free.distance()).all()
        assert len(free.path) == 5
        torch.testing.assert_close(free.path[0], free.start)

    def test_what_cannot_move(self, digits):
        _, oracle, subject, x = digits
        with pytest.raises(ValueError, match="space: 'noise' needs a model that pushes noise"):
            counterfactual(oracle, subject, x, space="noise")
        with pytest.raises(ValueError, match="mask: expected"):
            counterfactual(oracle, subject, x, space="pixel", mask=[0, 0, 40, 4])
        with pytest.raises(ValueError, match="counterfactual: label"):
            counterfactual(oracle, subject, x, label=48)
        with pytest.raises(ValueError, match="disagree: second: expected a classifier"):
            disagree(oracle, subject, x)

    def test_classifiers_disagree_where_their_weights_differ(self):
        """Equal classifiers have no gap; others reach a larger one than any given image has."""
        one, two = logits(3, "one"), logits(3, "two")
        x = pictures(20)
        options = {"k": 5, "space": "pixel", "near": 0.0, "steps": 30, "step_size": 0.05}
        found = disagree(Whole(), one, x, two, judge=one, **options)
        gap, agrees = found.merits
        assert gap.value > 0.95
        assert gap.value > gap.null
        assert agrees.value == 1 > agrees.null
        same = disagree(Whole(), one, x, logits(3, "one"), **options)
        assert same.merits[0].value == same.merits[0].null == 0
        costly = disagree(Whole(), one, x, two, cost=FiberDistance("l2_squared"), **options | {"steps": 1})
        apart, start = one.matrix - two.matrix, costly.move.start.flatten(1)
        change = (costly.move.end - costly.move.start).flatten(1)
        slope = start @ apart.T @ apart  # of |(A - B) x|^2 / 2
        torch.testing.assert_close(torch.cosine_similarity(change, slope), torch.ones(5), rtol=0, atol=1e-3)

    def test_a_unit_changes_alone(self):
        """The condition of a linear network moves along one unit: the unit changes by all steps, others do not."""
        subject = linear(6)
        found = maximise(LinearFiber(subject), subject, pictures(30), unit=2, k=4, steps=10, step_size=0.1)
        up, change, fidelity = found.merits
        h = subject(pictures(30))
        exact = 5.5 * 0.1 * 6**0.5 * float(h.std() / h[:, 2].std())  # steps from 1 to .1, of all units together
        torch.testing.assert_close(change.value, exact, rtol=2e-2, atol=0)
        assert change.null < 1e-3
        assert up.value > up.null
        assert fidelity.name == "fiber rms"
        assert fidelity.value < 1e-3 * fidelity.null, "an exact sampler follows the condition that it is told"

    def test_a_cost_holds_other_units(self):
        """Two units that share weights: pixels that raise one raise the other, unless a cost of a user holds it."""
        own = linear(1, "own").matrix
        subject = Linear(torch.cat((own, own + linear(1, "other").matrix)))
        options = {"unit": 0, "k": 4, "space": "pixel", "steps": 40, "step_size": 0.01}
        free, held = (maximise(Whole(), subject, pictures(30), cost=cost, **options) for cost in (None, Held()))
        alone, together = (each.merits[1].value / each.others for each in (held, free))
        assert alone > 20 * together
        assert held.merits[1].value > 1
