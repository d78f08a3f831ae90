"""The encoder of representations into maps."""

import pytest
import torch

from fibermodels.nn import FeatureMap


def encoder(feature_shape, **options):
    torch.manual_seed(0)
    return FeatureMap(feature_shape, 5, (8, 8), **{"width": 7, "zero": False} | options).double()


def test_it_starts_at_zero_and_is_trained_from_there():
    encode = encoder((3, 2, 2), zero=True)
    output = encode(torch.randn(2, 3, 2, 2).double())
    assert output.shape == (2, 5, 8, 8)
    assert not output.any()
    (output - 1).square().mean().backward()
    assert encode.layers[-1].weight.grad.abs().sum() > 0


def test_a_place_of_the_map_acts_on_its_place():
    """A change in the upper left quarter of a 4x4 map leaves the lower right of 8x8 as it was, at the same scale."""
    encode, h = encoder((3, 4, 4)), torch.randn(1, 3, 4, 4).double()
    swapped = h.clone()
    swapped[:, :, 0, 0] = h[:, [1, 2, 0], 0, 0]  # the root mean square stays
    change = (encode(swapped) - encode(h)).abs().sum(1)[0]
    assert change[0, 0] > 0
    assert not change[7, 7]


def test_a_vector_is_the_map_of_equal_places():
    vector, maps = encoder((3,)), encoder((3, 2, 2))
    maps.load_state_dict(vector.state_dict())
    h = torch.randn(2, 3).double()
    torch.testing.assert_close(vector(h), maps(h[:, :, None, None].expand(-1, -1, 2, 2)))


@pytest.mark.parametrize("shape", [(6,), (3, 2, 2)])
def test_the_scale_is_seen_apart_from_the_direction(shape):
    """The convolutions are given the direction, of mean square 1, and the logarithm of the scale."""
    encode, h, seen = encoder(shape), torch.randn(2, *shape).double(), []
    encode.layers.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    for factor in (1.0, 1e4):
        encode(factor * h)
    torch.testing.assert_close(seen[1][:, :-1], seen[0][:, :-1])
    torch.testing.assert_close(seen[1][:, -1] - seen[0][:, -1], torch.full((2, 8, 8), 1e4).double().log())
    if len(shape) == 1:
        torch.testing.assert_close(seen[0][:, :-1].square().mean((1, 2, 3)), torch.ones(2).double())


def test_representations_of_zero_have_finite_gradients():
    h = torch.zeros(2, 6).double().requires_grad_()
    (gradient,) = torch.autograd.grad(encoder((6,))(h).sum(), h)
    assert gradient.isfinite().all()


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"\[D\] or \[C, h, w\], got \[3, 4\]"):
        encoder((3, 4))
    with pytest.raises(ValueError, match="width"):
        encoder((3,), width=0)
    with pytest.raises(ValueError, match=r"expected representations \(B, 3, 2, 2\), got \(2, 3\)"):
        encoder((3, 2, 2))(torch.zeros(2, 3).double())
