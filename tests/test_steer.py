"""Concepts of linear networks, which exact samplers follow."""

import pytest
import torch
from linear_fibers import Centred, CentredFiber, LinearFiber, Maps, linear, pictures

from fibermodels.applications import (
    steer,
)
from fibermodels.applications.concepts import by_chance, clustered, factorised
from fibermodels.noise import seeded


class TestSteer:
    def test_an_exact_model_follows_the_concept(self):
        subject, x = linear(8), pictures(200)
        h = subject(x)
        found = steer(LinearFiber(subject), subject, x[:5], references=x, coefficients=[0.0, 2.0])
        _, axes = torch.linalg.eigh(torch.cov(h.T))
        assert abs(float(found.basis[0] @ axes[:, -1])) > 0.999
        torch.testing.assert_close(found.followed[0], torch.ones(5), rtol=0, atol=1e-3)
        assert found.judged is None
        assert found.figures()["fiber_rms"] < 1e-4 * found.figures()["fiber_rms_null"]

    @pytest.mark.parametrize("method", ["contrast", "pca"])
    def test_the_class_of_a_concept_rises_in_judges_that_read_it(self, method):
        """The first unit decides for the class. A judge that reads it sees the class rise, one that reads its opposite
        sees it fall as far, and one that reads another unit sees no rise."""
        matrix, x = torch.linalg.qr(linear(8).matrix.T)[0].T, pictures(2000)  # independent units
        matrix[0] *= 4
        subject = Centred(matrix)
        scale = 1 / float(subject(x)[:, 0].std())

        def rise(unit, sign):
            judges = {"a": Centred(torch.stack((-sign * matrix[unit], sign * matrix[unit])) * scale)}
            reader = Centred(torch.stack((-matrix[0], matrix[0])))
            options = {"classifier": reader, "coefficients": [0.0, 4.0], "method": method, "k": 60, "n": 2}
            return steer(CentredFiber(subject), subject, x, None, 1, judges=judges, **options).merits[0]

        up, down, blind = rise(0, 1), rise(0, -1), rise(4, 1)
        assert up.value > 0.4
        assert up.gain[0] > 0.2, "random subspaces vary as the network does, so they hold much of this unit, too"
        assert abs(up.value + down.value) < 1e-4
        assert abs(blind.value) < 0.1

    def test_random_subspaces_lie_where_the_vectors_vary(self):
        known = torch.randn(500, 6, generator=seeded("vary")) * torch.tensor([1.0, 1, 1, 0, 0, 0]) + 7
        bases = by_chance(known, 2, 50, 0)
        torch.testing.assert_close(bases @ bases.mT, torch.eye(2).expand(50, 2, 2), rtol=0, atol=1e-5)
        assert bases[..., 3:].abs().max() < 1e-5
        assert bases.flatten(0, 1).mean(0).abs().max() < 0.3

    def test_what_cannot_be_steered(self):
        subject, x = linear(6), pictures(20)
        with pytest.raises(ValueError, match="steer: label: judges"):
            steer(LinearFiber(subject), subject, x, judges={"a": subject})
        with pytest.raises(ValueError, match="steer: references: expected images that are decided for class 1"):
            steer(LinearFiber(subject), subject, x, x[subject(x).argmax(1) == 1], label=1)
        with pytest.raises(ValueError, match="steer: classifier: expected logits"):
            steer(LinearFiber(subject), subject, x, label=1, classifier=Maps())

    def test_parts_and_clusters_are_those_of_the_data(self):
        """Mixtures without negative weights of three known parts, and three known clusters."""
        generator = seeded("parts")
        parts = torch.eye(3).repeat_interleave(4, 1)
        weights = torch.rand(400, 3, generator=generator) * (torch.rand(400, 3, generator=generator) < 0.5)
        found = factorised(weights @ parts, 3, generator)
        near = (torch.nn.functional.normalize(parts, dim=1) @ found.T).amax(1)
        assert near.min() > 0.99
        label = torch.arange(300) % 3
        vectors = parts[label] + 0.1 * torch.randn(300, 12, generator=generator)
        own = clustered(vectors, 3, generator)
        assert all(len(own[label == j].unique()) == 1 for j in range(3))
        assert len(own.unique()) == 3

    def test_negative_entries_have_no_parts(self, digits):
        _, oracle, subject, x = digits
        with pytest.raises(ValueError, match="steer: method: 'nmf' expects"):
            steer(oracle, subject, x, method="nmf")
