"""Sparse autoencoders against loops, a known dictionary and closed forms, and their codes as a subject."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from fibermodels.config import build, describe
from fibermodels.files import save_tensors
from fibermodels.noise import seeded
from fibermodels.subjects import Codes, Live, SparseAutoencoder, SpatialMean
from fibermodels.subjects.sparse_autoencoder import BANDWIDTH, SPEED, START

SHAPE = [4, 3, 5]


def autoencoder(shape=SHAPE, **options):
    """Weights away from their start."""
    torch.manual_seed(0)
    found = SparseAutoencoder(shape, **{"features": 12, "k": 3} | options)
    for p in found.parameters():
        p.data += 0.1 * torch.randn(p.shape, generator=seeded("weights"))
    return found


def maps(count=6, shape=SHAPE):
    return torch.randn(count, *shape, generator=seeded("maps")) + 0.5


def known(count, dictionary, active=2):
    """Rows that are sums of a few columns of a dictionary `(D, K)`, with weights from 1 to 2, and their codes."""
    generator = seeded("known", count)
    codes = torch.zeros(count, dictionary.shape[1])
    for row in codes:
        row[torch.randperm(len(row), generator=generator)[:active]] = 1 + torch.rand(active, generator=generator)
    return codes @ dictionary.T, codes


def fitted(learner, x, steps=300, lr=1e-2):
    adam = torch.optim.Adam(learner.train().parameters(), lr)
    for rows in torch.randint(len(x), (steps, 128), generator=seeded("batches")):
        adam.zero_grad()
        sum(term.mean() for term in learner.loss(x[rows], None).values()).backward()
        adam.step()
    return learner.eval()


class TestCodes:
    def test_the_largest_of_each_place_are_kept(self):
        own, x = autoencoder(), maps()
        a, z = own.activations(x).detach().numpy(), own.encode(x).detach().numpy()
        for i, row, column in np.ndindex(len(x), *SHAPE[1:]):
            here, kept = a[i, :, row, column], z[i, :, row, column]
            best = sorted(here, reverse=True)[:3]
            np.testing.assert_allclose(kept, [max(v, 0) if v in best else 0 for v in here], rtol=1e-6)

    def test_jumprelu_opens_above_its_thresholds(self):
        own, x = autoencoder(gate="jumprelu"), maps()
        a = own.activations(x)
        torch.testing.assert_close(own.encode(x), torch.where(a > (SPEED * own.level).exp(), a, 0.0))

    def test_a_place_is_encoded_and_decoded_by_one_dictionary(self):
        """A 1 x 1 encoder does not see the neighbours, a 3 x 3 encoder does, and no decoder does."""
        x, changed = maps(1), maps(1)
        changed[..., 0, 0] += 5
        for kernel, reach in ((1, 0), (3, 1)):
            own = autoencoder(kernel=kernel)
            different = (own.activations(x) != own.activations(changed)).any(1)[0]
            expected = torch.zeros(3, 5, dtype=torch.bool)
            expected[: reach + 1, : reach + 1] = True
            assert (different == expected).all()
        z = torch.rand(2, 12, 3, 5, generator=seeded("z"))
        found = own.decode(z)
        for row, column in np.ndindex(3, 5):
            one = nn.functional.one_hot(torch.tensor(column), 5) * nn.functional.one_hot(torch.tensor(row), 3)[:, None]
            torch.testing.assert_close(own.decode(z * one)[..., row, column], found[..., row, column])

    @pytest.mark.parametrize("shape", [[4], [4, 7], SHAPE])
    def test_any_representation(self, shape):
        own, x = autoencoder(shape), maps(5, shape)
        z = own.encode(x)
        assert z.shape == (5, 12, *shape[1:])
        assert own.decode(z).shape == x.shape
        assert ((z > 0).sum(1) <= 3).all()

    def test_the_scale_of_the_inputs_changes_nothing(self):
        x = maps(64)
        a, b = fitted(autoencoder(), x, 20), fitted(autoencoder(), 100 * x + 7, 20)
        torch.testing.assert_close(b.encode(100 * x + 7), 100 * a.encode(x), rtol=1e-2, atol=0.5)
        scores = [own.scores(given, None)["explained"].mean() for own, given in ((a, x), (b, 100 * x + 7))]
        torch.testing.assert_close(scores[0], scores[1], rtol=1e-3, atol=0)

    def test_a_step_of_the_threshold_has_the_slope_of_the_window(self):
        """Within half a window of the threshold, `d z / d theta = -a / width`; elsewhere it is 0."""
        own = SparseAutoencoder([1], features=1, k=1, gate="jumprelu", patience=1)
        theta = (SPEED * own.level).exp().item()
        for a, inside in ((theta + 0.04, True), (theta - 0.04, True), (theta + 0.06, False), (0.0, False)):
            own.level.grad = None
            own._gated(torch.tensor(a).reshape(1, 1, 1, 1)).sum().backward()
            slope = own.level.grad.item() / (SPEED * theta)  # that in theta
            assert math.isclose(slope, -a / BANDWIDTH if inside else 0, rel_tol=1e-4, abs_tol=1e-7)

    def test_thresholds_start_above_the_goal(self):
        """So many times the goal are on in the first batch, whatever its scale."""
        for scale in (1, 100):
            own, x = autoencoder(gate="jumprelu", k=1).train(), scale * maps(64)
            own.loss(x, None)
            assert (own.encode(x) > 0).sum(1).double().mean() == pytest.approx(START, abs=0.01)


class TestTraining:
    @pytest.mark.parametrize("gate", ["topk", "jumprelu"])
    def test_a_known_dictionary_is_found(self, gate):
        dictionary = normalize(torch.randn(12, 20, generator=seeded("dictionary")), dim=0)
        x, _ = known(4000, dictionary)
        torch.manual_seed(0)
        own = fitted(SparseAutoencoder([12], 24, gate, k=2, patience=50), x, 500)
        test, codes = known(500, dictionary)
        scores = {name: value.mean().item() for name, value in own.scores(test, None).items()}
        nearest = (normalize(own.dictionary.detach(), dim=0).T @ dictionary).max(0).values
        assert nearest.mean() > 0.9
        assert scores["explained"] > 0.9
        assert abs(scores["active"] - 2) < 0.5
        on = own.encode(test)[:, (normalize(own.dictionary.detach(), dim=0).T @ dictionary).argmax(0)] > 0
        assert ((on == (codes > 0)).float().mean()) > 0.95

    def test_the_share_of_variance_is_that_of_numpy(self):
        own = fitted(autoencoder(), maps(64), 20)
        x = maps(50)
        rest = (x - own.decode(own.encode(x))).detach().double().numpy()
        total = (x - x.mean((0, 2, 3), keepdim=True)).double().numpy()
        expected = 1 - (rest**2).sum() / (total**2).sum()
        assert own.scores(x, None)["explained"].mean().item() == pytest.approx(expected, rel=1e-4)

    def test_dead_features_come_back(self):
        """Features whose pre-activations are small lose against the others; only their own loss moves them."""
        dictionary = normalize(torch.randn(12, 20, generator=seeded("dictionary")), dim=0)
        x, _ = known(2000, dictionary)
        dead = {}
        for revived in (0, 8):
            torch.manual_seed(0)
            own = SparseAutoencoder([12], 24, k=2, patience=20, revived=revived)
            own.encoder.weight.data[12:] *= 1e-3
            fitted(own, x, 300)
            dead[revived] = (own.encode(x) > 0).any(0).logical_not().sum().item()
        assert dead[0] >= 8
        assert dead[8] <= dead[0] / 2

    def test_weights_are_read_again(self, tmp_path):
        own = fitted(autoencoder(gate="jumprelu"), maps(64), 5)
        save_tensors(own.state_dict(), tmp_path / "own.safetensors")
        arguments = own.arguments | {"weights": str(tmp_path / "own.safetensors")}
        torch.testing.assert_close(SparseAutoencoder(**arguments).encode(maps()), own.encode(maps()), rtol=0, atol=0)


class TestSubject:
    @pytest.fixture
    def cut(self):
        torch.manual_seed(0)
        return Live(nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU()), "1", [3, 7, 11])

    def test_it_encodes_what_the_network_says(self, cut):
        own, x = autoencoder(), torch.rand(2, 3, 7, 11, generator=seeded("x"))
        codes = Codes(cut, own)
        assert codes.feature_shape == (12, 3, 5)
        torch.testing.assert_close(codes(x), own.encode(cut(x)), rtol=0, atol=0)
        torch.testing.assert_close(Codes(cut, own, [7, 2])(x), own.encode(cut(x))[:, [7, 2]], rtol=0, atol=0)
        torch.testing.assert_close(Codes(cut, own, through=True)(x), codes(x))

    def test_only_through_the_gate_a_feature_that_is_off_has_a_gradient(self, cut):
        own = autoencoder(k=1)
        x = torch.rand(1, 3, 7, 11, generator=seeded("x"))
        off = [int(i) for i in (own.encode(cut(x))[0] > 0).flatten(1).any(1).logical_not().nonzero()[:1, 0]]
        given = x.clone().requires_grad_()
        slopes = [
            torch.autograd.grad(value.sum(), given)[0]
            for value in (
                Codes(cut, own, off)(given),
                Codes(cut, own, off, through=True)(given),
                own.activations(cut(given))[:, off],
            )
        ]
        assert not slopes[0].any()
        assert slopes[1].any()
        torch.testing.assert_close(slopes[1], slopes[2])

    def test_errors_name_the_argument(self, cut):
        with pytest.raises(ValueError, match="units: expected numbers from 0 to 11, got \\[12\\]"):
            Codes(cut, autoencoder(), [1, 12])
        with pytest.raises(ValueError, match="autoencoder: expected one of representations"):
            Codes(cut, autoencoder([5, 3, 5]))
        with pytest.raises(ValueError, match="kernel: expected 1, or 3 for maps"):
            SparseAutoencoder([4], kernel=3)
        with pytest.raises(ValueError, match="k"):
            SparseAutoencoder([4], features=2, k=3)

    def test_it_is_rebuilt_from_its_description(self):
        own = Codes(SpatialMean([6, 2, 2]), autoencoder([6]), [3, 1])
        again = build(describe(own))
        again.load_state_dict(own.state_dict())
        x = maps(5, [6, 2, 2])
        torch.testing.assert_close(again(x), own(x), rtol=0, atol=0)
