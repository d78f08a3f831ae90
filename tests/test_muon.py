"""Muon: orthogonal updates against the singular value decomposition, and its steps against two optimizers of torch."""

import pytest
import torch
from torch import nn

from fibermodels.training.muon import Muon, is_large, orthogonal


@pytest.mark.parametrize("shape", [(16, 64), (64, 16), (32, 32)])
def test_an_update_has_the_directions_of_the_gradient_and_one_length(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape, dtype=torch.double)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    inner = u.mT @ orthogonal(matrix) @ v.mT
    assert (inner - inner.diag().diag()).abs().max() < 1e-6
    assert ((inner.diag() > 0.6) & (inner.diag() < 1.25)).all()


def test_matrices_move_as_by_the_muon_of_torch():
    torch.manual_seed(0)
    start, gradients = torch.randn(24, 40), torch.randn(5, 24, 40)
    own, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    ours = Muon([own], lr=0.01, weight_decay=0.1)
    reference = torch.optim.Muon([theirs], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for gradient in gradients:
        own.grad, theirs.grad = gradient.clone(), gradient.clone()
        ours.step()
        reference.step()
    moved, expected = own.detach() - start, theirs.detach() - start
    assert (moved - expected).norm() < 0.02 * expected.norm()  # torch iterates in bfloat16


def test_a_convolution_moves_as_its_matrix():
    torch.manual_seed(0)
    start, gradient = torch.randn(16, 4, 3, 3), torch.randn(16, 4, 3, 3)
    maps, matrix = nn.Parameter(start.clone()), nn.Parameter(start.flatten(1).clone())
    for weight in (maps, matrix):
        weight.grad = gradient.reshape(weight.shape).clone()
        Muon([weight], lr=0.01).step()
    assert torch.equal(maps.detach().flatten(1), matrix.detach())


def test_everything_else_moves_as_by_adamw():
    torch.manual_seed(0)
    small = [torch.randn(16), torch.randn(3, 16), torch.randn(16, 3), torch.randn(3, 32, 3, 3), torch.randn(())]
    own = [nn.Parameter(each.clone()) for each in small]
    theirs = [nn.Parameter(each.clone()) for each in small]
    options = {"lr": 0.01, "betas": (0.8, 0.9), "weight_decay": 0.1}
    ours, reference = Muon(own, **options), torch.optim.AdamW(theirs, **options)
    for _ in range(3):
        for a, b in zip(own, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        ours.step()
        reference.step()
    assert not any(is_large(each) for each in own)
    assert all(torch.equal(a, b) for a, b in zip(own, theirs, strict=True))


def test_gradients_stay_and_the_state_continues_exactly():
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(16, 16)), nn.Parameter(torch.randn(16))]
    copies = [nn.Parameter(each.detach().clone()) for each in weights]
    first, second = Muon(weights, lr=0.01), Muon(copies, lr=0.01)
    for step in range(4):
        for a, b in zip(weights, copies, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        assert first.step(lambda: 7.0) == 7.0
        assert all(each.grad is not None for each in weights)
        if step == 1:
            third = Muon(copies, lr=0.01)
            third.load_state_dict(second.state_dict())
            second = third
        second.step()
    assert all(torch.equal(a, b) for a, b in zip(weights, copies, strict=True))
