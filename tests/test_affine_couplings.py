"""Affine couplings against FrEIA's, and against autograd."""

import numpy as np
import pytest
import torch

from fibermodels.nn import AffineCouplings
from fibermodels.noise import seeded

DIM, CONTEXT = 7, 3  # odd: the halves differ


def flow(**options):
    torch.manual_seed(0)
    context = options.pop("context", CONTEXT)
    built = AffineCouplings(**{"width": 16, "blocks": 4} | options).build(DIM, context)
    for p in built.parameters():
        p.data += 0.3 * torch.randn(p.shape, generator=seeded(1, p.numel()))
    return built.double()


def inputs(count=5, context=CONTEXT):
    return (torch.randn(count, size, generator=seeded(2, size)).double() for size in (DIM, context))


@pytest.mark.parametrize("layers", [1, 3])
def test_it_is_freias_function(layers):
    """Block by block, with the same weights: values and log-determinants, in both directions."""
    import FrEIA.modules as modules

    ours, (value, context) = flow(layers=layers), inputs()

    def subnet(inputs, outputs):
        hidden = [part for _ in range(layers - 1) for part in (torch.nn.Linear(16, 16), torch.nn.SiLU())]
        return torch.nn.Sequential(
            torch.nn.Linear(inputs, 16), torch.nn.SiLU(), *hidden, torch.nn.Linear(16, outputs)
        ).double()

    for block in ours.blocks:
        np.random.seed(0)
        theirs = modules.AllInOneBlock([(DIM,)], [(CONTEXT,)], subnet).double()
        linears = [part for part in theirs.subnet if isinstance(part, torch.nn.Linear)]
        mine = [part for part in block.leave if isinstance(part, torch.nn.Linear)]
        linears[0].weight.data = torch.cat((block.enter.value, block.enter.context)).T.detach().clone()
        linears[0].bias.data = block.enter.bias.detach().clone()
        for their, my in zip(linears[1:], mine, strict=True):
            their.load_state_dict(my.state_dict())
        scale = (0.1 * block.log_scale).exp().detach()
        theirs.global_scale.data = 2 * torch.expm1(0.5 * 10 * scale).log()[None]  # of 0.1 softplus
        theirs.global_offset.data = block.offset.detach().clone()[None]
        theirs.w_perm.data = torch.eye(DIM).double()[block.order]
        theirs.w_perm_inv.data = theirs.w_perm.data.T.contiguous()

        single = AffineCouplings(16, 1, layers).build(DIM, CONTEXT).double()
        single.blocks[0] = block
        for rev, mapped in ((False, single(value, context)), (True, single.inverse(value, context))):
            (expected,), log_det = theirs([value], [context], rev=rev)
            torch.testing.assert_close(mapped[0], expected)
            torch.testing.assert_close(mapped[1], log_det)


@pytest.mark.parametrize("context", [0, CONTEXT])
def test_log_det_and_inverse(context):
    built, (value, given) = flow(context=context), inputs(context=context)
    mapped, log_det = built(value, given)
    back, back_det = built.inverse(mapped, given)
    torch.testing.assert_close(back, value)
    torch.testing.assert_close(back_det, -log_det)
    jacobians = torch.func.vmap(torch.func.jacrev(lambda v, c: built(v[None], c[None])[0][0]))(value, given)
    torch.testing.assert_close(log_det, torch.linalg.slogdet(jacobians)[1])


def test_gradients_or_not_it_is_one_function():
    built, (value, given) = flow(), inputs()
    with torch.no_grad():
        without = built(value, given)
    for a, b in zip(built(value, given), without, strict=True):
        torch.testing.assert_close(a, b)


def test_it_starts_as_a_permutation():
    value, context = inputs()
    mapped, log_det = AffineCouplings(16, 3).build(DIM, CONTEXT).double()(value, context)
    torch.testing.assert_close(mapped.sort(1).values, value.sort(1).values)
    torch.testing.assert_close(log_det, torch.zeros(len(value)).double())


def test_the_seed_fixes_the_permutations():
    first, same, other = (AffineCouplings(16, 3, seed=seed).build(DIM, CONTEXT) for seed in (1, 1, 2))
    assert all(torch.equal(a.order, b.order) for a, b in zip(first.blocks, same.blocks, strict=True))
    assert not all(torch.equal(a.order, b.order) for a, b in zip(first.blocks, other.blocks, strict=True))


def test_a_missing_context_is_named():
    with pytest.raises(ValueError, match="expected a context of 3 dimensions, got None"):
        flow()(torch.randn(2, DIM).double())
