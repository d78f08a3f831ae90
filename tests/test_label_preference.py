"""Digits filled with textures, and which of their two labels the fibers of a network keep."""

import math
import sys
from pathlib import Path

import pytest
import torch

from fibermodels.core import FiberSamples, Subject
from fibermodels.metrics.shape_texture import cue_preference
from fibermodels.models import NearestNeighbour
from fibermodels.noise import seeded
from fibermodels.suites import CueDigits
from fibermodels.suites.cue_digits import CLASSES, filled, silhouette, texture_of

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import label_preference  # a script beside the package
from label_preference_figure import roc


class ShapeOnly(Subject):
    """The silhouette."""

    def __init__(self):
        super().__init__()
        self.image_shape, self.feature_shape = (1, 14, 14), (196,)
        self.freeze()

    def forward(self, images):
        return silhouette(images).flatten(1)


class TextureOnly(Subject):
    """The texture that an image has, as ten probabilities."""

    def __init__(self):
        super().__init__()
        self.image_shape, self.feature_shape = (1, 14, 14), (CLASSES,)
        self.freeze()

    def forward(self, images):
        return torch.nn.functional.one_hot(texture_of(images), CLASSES).float()


@pytest.fixture(scope="module")
def world():
    """Targets whose labels differ, and a gallery of their silhouettes with ten textures at new phases, with labels."""
    split = CueDigits(0.0, base="digits").split("test")
    x, cues = split.inputs(slice(60)), split.labels()[:60]
    texture = torch.arange(CLASSES).repeat(len(x))
    phase = 2 * math.pi * torch.rand(len(texture), generator=seeded("phases"))
    shape = silhouette(x).repeat_interleave(CLASSES, 0)
    labels = torch.stack((cues[:, 0].repeat_interleave(CLASSES), texture), 1)
    return x, cues, filled(shape, texture, phase), labels


class TestCueDigits:
    def test_shape_and_texture_can_be_read_from_an_image(self, world):
        x, cues, gallery, labels = world
        assert torch.equal(silhouette(gallery), silhouette(x).repeat_interleave(CLASSES, 0))
        assert (texture_of(gallery) == labels[:, 1]).double().mean() > 0.98
        assert (texture_of(x) == cues[:, 1]).double().mean() > 0.95

    @pytest.mark.parametrize("agreement", [0.0, 0.3, 1.0])
    def test_the_labels_agree_as_often_as_asked(self, agreement):
        labels = CueDigits(agreement, base="digits").split("train").labels()
        share = (labels[:, 0] == labels[:, 1]).double().mean().item()
        assert share == pytest.approx(agreement, abs=4 * (agreement * (1 - agreement) / len(labels)) ** 0.5)

    def test_by_default_the_labels_are_independent(self):
        shape, texture = CueDigits(base="digits").split("train").labels().T
        table = torch.zeros(CLASSES, CLASSES).index_put_((shape, texture), torch.ones(len(shape)), accumulate=True)
        expected = table.sum(1, keepdim=True) * table.sum(0) / table.sum()
        assert ((table - expected).square() / expected).sum() < 81 + 4 * (2 * 81) ** 0.5

    def test_another_share_is_refused(self):
        with pytest.raises(ValueError, match="agreement"):
            CueDigits(1.2)


class TestFibers:
    def exact(self, subject, world):
        """Members of the targets' fibers, with their labels."""
        x, _, gallery, labels = world
        model = NearestNeighbour().remember(gallery, subject(gallery))
        distance, index = model.nearest(subject(x), 1, 0.0)
        assert distance.max() == 0
        return labels[index[:, 0]], gallery[index[:, 0]]

    def test_a_network_of_shapes_keeps_the_shape_and_one_of_textures_the_texture(self, world):
        cues = world[1]
        shapes, textures = (self.exact(subject, world)[0] for subject in (ShapeOnly(), TextureOnly()))
        of_shape, of_texture = (cue_preference(shapes[:, i], cues) for i in (0, 1))  # a reader of each label
        assert of_shape["shape_accuracy"] == of_shape["shape_preference"] == 1
        assert of_texture["texture_accuracy"] < 0.3
        of_shape, of_texture = (cue_preference(textures[:, i], cues) for i in (0, 1))
        assert of_texture["texture_accuracy"] > 0.95
        assert of_texture["shape_preference"] < 0.05
        assert of_shape["shape_accuracy"] < 0.3

    def test_two_networks_that_see_the_same_agree_on_fibers_and_others_do_not(self, world):
        """By classifiers that are right on all targets: one reads the texture, the other one the silhouette."""
        x, cues, _, _ = world
        known = {tuple(shape.tolist()): int(label) for shape, label in zip(ShapeOnly()(x), cues[:, 0], strict=True)}

        def of_shapes(images):
            own = [known[tuple(shape.tolist())] for shape in ShapeOnly()(images)]
            return 9 * torch.nn.functional.one_hot(torch.tensor(own), CLASSES).float()

        agreeing = filled(silhouette(x), cues[:, 0], torch.zeros(len(x)))
        readable = texture_of(agreeing) == cues[:, 0]
        assert readable.double().mean() > 0.95
        members = self.exact(ShapeOnly(), (agreeing, *world[1:]))[1]
        samples = FiberSamples(agreeing, ShapeOnly()(agreeing), members[None], ShapeOnly()(members)[None])
        others = {"twin": of_shapes, "texture": lambda images: 9 * TextureOnly()(images)}
        values, curves = label_preference.agreement(samples, cues[:, 0], of_shapes, others)
        assert values["agreement_twin"] == values["auroc_twin"] == values["auroc_twin_targets"] == 1
        kept = (texture_of(members) == cues[:, 0])[readable].double().mean().item()
        assert values["agreement_texture"] == pytest.approx(kept, abs=1e-4)
        assert values["agreement_texture"] < 0.5
        assert values["both_right_texture"] == readable.sum()
        assert [name for name, _, _ in curves] == ["twin", "texture"]


def test_the_curve_of_a_perfect_score_is_a_corner_and_of_no_score_the_diagonal():
    truth = torch.eye(4)
    false, true = roc(truth, truth)
    assert true[4] == 1
    assert false[4] == 0
    false, true = roc(torch.rand(4000, 4, generator=seeded("r")), truth.repeat(1000, 1))
    assert (false - true).abs().max() < 0.05
