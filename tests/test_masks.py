"""Masks, class activations and components of a class, with a mark that is planted in known pixels."""

import pytest
import torch
from linear_fibers import SIDE, Linear, Whole, correlation, logits, pictures
from torch import Tensor, nn
from torchvision.utils import save_image

from fibermodels.applications import counterfactual, maximise, move
from fibermodels.applications.class_weights import components, pooled
from fibermodels.applications.masks import activated, softened, weights_of
from fibermodels.core import Subject
from fibermodels.noise import seeded

CORNER = (..., slice(0, 2), slice(4, 6))
"""The pixels of the mark."""


class Quarters(Subject):
    """Maps `(5, 3, 3)`: the mean of each square of 2 x 2 pixels, weighted by channels, with a last linear layer.

    The channels see the squares at the four other corners, and channel 4 that of the mark.
    """

    def __init__(self) -> None:
        super().__init__()
        self.image_shape, self.feature_shape = (1, SIDE, SIDE), (5, 3, 3)
        where = torch.zeros(5, 3, 3)
        for channel, (row, column) in enumerate(((0, 0), (2, 0), (2, 2), (1, 1), (0, 2))):
            where[channel, row, column] = 1
        self.where: Tensor
        self.register_buffer("where", where)
        self.head = nn.Linear(5, 2)
        self.head.weight.data = torch.tensor([[0.0] * 5, [1.0, 1.0, 1.0, 1.0, 3.0]])
        self.head.bias.data = torch.tensor([0.0, -0.05])
        self.freeze()

    def forward(self, images: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(images, 2) * self.where


class Decider(Subject):
    """The logits of `Quarters`."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = Quarters()
        self.image_shape, self.feature_shape = self.maps.image_shape, (2,)

    def forward(self, images: Tensor) -> Tensor:
        return self.maps.head(pooled(self.maps(images)))


def marked(count: int) -> tuple[Tensor, Tensor]:
    """Pictures of which a third has a light mark, and whether each has it."""
    x, has = pictures(count), torch.rand(count, generator=seeded("marks")) < 1 / 3
    x[has] = torch.where(torch.zeros(1, SIDE, SIDE).index_put_(_corner(), torch.tensor(1.0)) > 0, 1.0, x[has])
    return x, has


def _corner() -> tuple[Tensor, ...]:
    found = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    found[CORNER] = True
    return found.nonzero(as_tuple=True)


def test_a_component_of_the_class_is_the_planted_mark():
    """The first component has the mark's variance. Its activation tells marked images, and it rises with the mark."""
    subject, (x, has) = Quarters(), marked(300)
    found = components("maximise", subject, subject(x), 1)
    activation = pooled(subject(x)) @ found.T
    assert correlation(activation[:, 0], has.float()) > 0.98
    for other in range(1, len(found)):
        assert abs(correlation(activation[:, other], has.float())) < 0.3
    raised = maximise(Whole(), subject, x[~has], unit=0, label=1, references=x, k=4, space="pixel", steps=2)
    change = (raised.up.end - raised.up.start).abs()
    assert change[CORNER].mean() > 5 * change[:, :, 2:].max()
    assert raised.merits[0].value > raised.merits[0].null


def test_components_are_those_of_the_covariance():
    """By hand: eigenvectors of the covariance of `w * f`, whose activations are not correlated."""
    subject, (x, _) = Quarters(), marked(300)
    weights = subject.head.weight[1]
    own = pooled(subject(x))[subject.head(pooled(subject(x))).argmax(1) == 1]
    variances, axes = torch.linalg.eigh(torch.cov((own * weights).T))
    found = components("maximise", subject, subject(x), 1)
    torch.testing.assert_close((own @ found.T).var(0), variances.flip(0), rtol=1e-3, atol=1e-9)
    assert ((found / weights).sum(1) > 0).all()
    torch.testing.assert_close((found[0] / weights @ axes[:, -1]).abs(), torch.tensor(1.0), rtol=0, atol=1e-4)


@pytest.mark.parametrize("space", ["condition", "noise", "pixel"])
def test_nothing_changes_outside_of_a_mask(space, tmp_path):
    """A tensor for each image, a tensor for all, and a file; between 0 and 1, a pixel takes a part of the change."""
    x, subject = pictures(3), Linear(torch.eye(SIDE**2))
    each = torch.rand(3, SIDE, SIDE, generator=seeded("mask")) < 0.5
    save_image(each[0].float()[None], tmp_path / "mask.png")
    model = Whole()
    if space == "noise":
        model.push = lambda noise, h: (noise + h).unflatten(1, model.image_shape)
    for mask, where in ((each, each), (each[0], each[:1]), (str(tmp_path / "mask.png"), each[:1])):
        found = move(model, subject, x, lambda x: x.flatten(1).mean(1), space, steps=3, mask=mask)
        changed = (found.path != found.start).any(0)[:, 0]
        assert not (changed & ~where).any()
        assert changed[where.expand_as(changed)].all()
        assert found.distance(inside=False).max() == 0 < found.distance().min()
    whole, part = (weights_of(own, x) for own in (None, each.float() / 4))
    torch.testing.assert_close(whole, torch.ones(3, SIDE, SIDE))
    one, some = (
        move(model, subject, x, lambda x: x.flatten(1).mean(1), space, steps=1, mask=own) for own in (whole, part)
    )
    assert space == "noise" or torch.equal(some.start, one.start)
    assert (some.path != some.start).any(0)[:, 0].equal(each)


def test_a_soft_border():
    """Twice averaged over squares: the border is a slope from 1 to 0, of the same area, as wide inside as outside."""
    sharp = torch.zeros(1, 32, 32)
    sharp[:, :, 16:] = 1
    soft = softened(sharp)
    line = torch.tensor([0, 1, 3, 6, 10, 15, 19, 22, 24, 25]) / 25
    torch.testing.assert_close(soft[0, 7, 11:21], line)
    torch.testing.assert_close(soft.mean(), sharp.mean())
    assert soft[0, :, :12].max() == 0
    assert soft[0, :, 20:].min() == 1, "the image's own border has no slope"


def test_the_class_activation_is_where_the_evidence_is():
    """For a class by the mark alone, the mark's square is inside, and a counterfactual changes nothing outside."""
    subject, (x, _) = Quarters(), marked(8)
    weights = torch.tensor([0.0, 0, 0, 0, 1]).expand(8, -1)
    inside = activated(subject(x), weights, SIDE, SIDE)
    assert (inside[CORNER] == 1).all()
    assert (inside.flatten(1).sum(1) == SIDE**2 // 2).all()
    found = counterfactual(Whole(), subject, x, 0, Decider(), space="pixel", mask="cam", steps=3)
    assert found.move.distance(inside=False).max() == 0 < found.move.distance().min()
    raised = maximise(Whole(), subject, x, unit=4, k=3, space="pixel", mask="cam", steps=3)
    assert (raised.up.weights[CORNER] == 1).all()


def test_masks_that_do_not_fit(tmp_path):
    x = pictures(3)
    for wrong in ([0, 0, 40, 4], [0, 0, 2], torch.full((SIDE, SIDE), 1.5), torch.ones(2, SIDE, SIDE)):
        with pytest.raises(ValueError, match="mask: expected"):
            weights_of(wrong, x)
    with pytest.raises(FileNotFoundError, match="mask: there is no file"):
        weights_of(str(tmp_path / "none.png"), x)
    with pytest.raises(ValueError, match="mask: 'cam' needs a subject with maps"):
        maximise(Whole(), Linear(torch.eye(SIDE**2)), x, space="pixel", mask="cam")
    with pytest.raises(ValueError, match="maximise: expected a network with a linear layer"):
        maximise(Whole(), logits(2, "none"), x, label=0)
    with pytest.raises(ValueError, match="maximise: references: expected at least 2"):
        maximise(Whole(), Quarters(), torch.zeros(3, 1, SIDE, SIDE), label=1)
