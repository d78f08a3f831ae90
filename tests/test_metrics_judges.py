"""Judges: in batches as in one piece, right names, and floors."""

import pytest
import torch
from cases import images
from cases import subject as decoloriser
from torch import nn

from fibermodels.core import FiberSamples, Subject
from fibermodels.evaluation.judging import Judges, is_published
from fibermodels.metrics import agreement, features
from fibermodels.metrics.classifiers import classifier_scores
from fibermodels.metrics.features import feature_scores
from fibermodels.metrics.frechet import Moments, first_channels, frechet_distance
from fibermodels.metrics.judges import seen_by
from fibermodels.metrics.kid import kernel_distance
from fibermodels.noise import seeded
from fibermodels.subjects import Torchvision


class Maps(Subject):
    """A small convolution: maps, or what is left of them when they are flattened."""

    def __init__(self, channels: int = 5, layer: str = "spatial", seed: int = 0) -> None:
        Subject.__init__(self)  # also of what stands in for another subject
        torch.manual_seed(seed)
        self.layer = layer
        self.image_shape = (3, 28, 28)
        self.convolution = nn.Conv2d(3, channels, 7, 7)
        self.feature_shape = {"spatial": (channels, 4, 4), "logits": (channels,), "unit": ()}[layer]
        self.freeze()

    def forward(self, x):
        maps = self.convolution(x)
        return {"spatial": maps, "logits": maps.mean((2, 3)), "unit": maps.mean((1, 2, 3))}[self.layer]


@pytest.fixture(scope="module")
def samples():
    """30 targets, 3 noisy copies each."""
    x, phi = images(30), decoloriser()
    x_hat = (x + 0.2 * torch.randn(3, *x.shape, generator=seeded("noisy"))).clamp(0, 1)
    return FiberSamples(x, phi(x), x_hat, torch.stack([phi(slot) for slot in x_hat]))


OTHERS = images(60)[30:]


def law(features):
    own = Moments()
    own.update(features)
    return own


def mean(values):
    return sum(values) / len(values)


@pytest.mark.parametrize("batch_size", [4, 100])
def test_features_are_compared_slot_by_slot(samples, batch_size):
    network = Maps()
    found = feature_scores(network, "maps", samples, lambda part: OTHERS[part], batch_size=batch_size)
    x, slots, others = network(samples.x), [network(slot) for slot in samples.x_hat], network(OTHERS)
    pooled = {id(maps): maps.mean((2, 3)) for maps in (x, *slots, others)}

    def fid(maps):
        return frechet_distance(law(pooled[id(x)]), law(pooled[id(maps)]))

    assert found["fid_maps"] == pytest.approx(mean([fid(slot) for slot in slots]), rel=1e-6)
    assert found["fid_maps_floor"] == pytest.approx(fid(others), rel=1e-6)
    flat = law(first_channels(x))
    expected = mean([frechet_distance(flat, law(first_channels(slot))) for slot in slots])
    assert found["sfid_maps"] == pytest.approx(expected, rel=1e-5)
    kernels = [kernel_distance(pooled[id(x)], pooled[id(slot)], paired=True) for slot in slots]
    assert found["kid_maps"] == pytest.approx(mean(kernels), rel=1e-4)
    assert found["kid_maps_std"] == pytest.approx(torch.tensor(kernels).std(correction=0).item(), rel=1e-3)
    assert found["kid_maps_floor"] == pytest.approx(kernel_distance(pooled[id(x)], pooled[id(others)]), rel=1e-4)
    assert 0 < found["pairwise_distance_maps"] < 2


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_folds_compare_samples_with_targets_of_the_other_half(samples, batch_size):
    """EquiDiff's sFID; copies of the targets have a FID of 0, and across folds that of real images."""
    network = Maps()
    x = network(samples.x).mean((2, 3))
    slots = [network(slot).mean((2, 3)) for slot in samples.x_hat]
    found = feature_scores(network, "maps", samples, batch_size=batch_size)
    crossed = [frechet_distance(law(x[i::2]), law(slot[1 - i :: 2])) for slot in slots for i in (0, 1)]
    assert found["fid_maps_folds"] == pytest.approx(mean(crossed), rel=1e-5)
    floor = frechet_distance(law(x[::2]), law(x[1::2]))
    assert found["fid_maps_folds_floor"] == pytest.approx(floor, rel=1e-5)
    copies = FiberSamples(samples.x, samples.h, samples.x[None], samples.h[None])
    same = feature_scores(network, "maps", copies, batch_size=batch_size)
    assert same["fid_maps"] == pytest.approx(0, abs=1e-5)
    assert same["fid_maps_folds"] == pytest.approx(floor, rel=1e-5)


def test_distances_from_samples_of_a_reference(samples):
    """Slot by slot, as those from targets; a result has none from itself, and its own targets do not matter."""
    network = Maps()
    other = (samples.x_hat[:2] + 0.3 * torch.randn(2, *samples.x.shape, generator=seeded("reference"))).clamp(0, 1)
    more = torch.cat([other, OTHERS[:5].expand(2, -1, -1, -1, -1)], 1)  # of further targets, which are not used
    found = feature_scores(network, "maps", samples, batch_size=7, reference=more)
    pairs = [(network(other[i % 2]), network(slot)) for i, slot in enumerate(samples.x_hat)]
    vectors = [tuple(maps.mean((2, 3)) for maps in pair) for pair in pairs]
    fid = mean([frechet_distance(law(a), law(b)) for a, b in vectors])
    sfid = mean([frechet_distance(law(first_channels(a)), law(first_channels(b))) for a, b in pairs])
    assert found["fid_maps_reference"] == pytest.approx(fid, rel=1e-6)
    assert found["sfid_maps_reference"] == pytest.approx(sfid, rel=1e-5)
    kid = mean([kernel_distance(a, b, paired=True) for a, b in vectors])
    assert found["kid_maps_reference"] == pytest.approx(kid, rel=1e-4)
    without = feature_scores(network, "maps", samples, batch_size=7)
    assert {key: value for key, value in found.items() if not key.endswith("_reference")} == without
    own = feature_scores(network, "maps", samples, reference=samples.x_hat)
    assert own["fid_maps_reference"] == pytest.approx(0, abs=1e-5)


def test_blocks_of_the_kernel_distance(samples, monkeypatch):
    monkeypatch.setattr(features, "BLOCK", 10)
    network = Maps()
    found = feature_scores(network, "maps", samples, batch_size=4)
    parts = [
        kernel_distance(network(x).mean((2, 3)), network(y).mean((2, 3)), paired=True)
        for slot in samples.x_hat
        for x, y in zip(samples.x.split(10), slot.split(10), strict=True)
    ]
    assert found["kid_maps"] == pytest.approx(mean(parts), rel=1e-4)
    whole = feature_scores(network, "maps", samples)
    assert found["fid_maps"] == pytest.approx(whole["fid_maps"], rel=1e-6), "blocks are of the kernel alone"


def test_more_noise_is_further_away(samples):
    more = (samples.x + 0.5 * torch.randn(3, *samples.x.shape, generator=seeded("more"))).clamp(0, 1)
    noisier = FiberSamples(samples.x, samples.h, more, samples.h_hat)
    less, more = (feature_scores(Maps(), "maps", each) for each in (samples, noisier))
    for name in ("fid_maps", "sfid_maps", "kid_maps", "pairwise_distance_maps"):
        assert more[name] > less[name]


def test_a_single_target_has_only_diversity(samples):
    one = FiberSamples(samples.x[:1], samples.h[:1], samples.x_hat[:, :1], samples.h_hat[:, :1])
    assert set(feature_scores(Maps(), "maps", one)) == {"pairwise_distance_maps"}


def test_a_classifier_sees_what_it_would_see_itself(samples):
    network = Maps(8, "logits")
    with torch.no_grad():  # whose decisions differ between images
        network.convolution.bias -= network(samples.x).mean(0)
    seen = seen_by(network, samples, batch_size=7)
    torch.testing.assert_close(seen.h, network(samples.x))
    torch.testing.assert_close(seen.h_hat[1], network(samples.x_hat[1]))
    labels = network(samples.x).argmax(1)
    found = classifier_scores(network, samples, labels, batch_size=7)
    assert found["top1_match"] == found["top1_accuracy"] == agreement.top1_match(seen)
    assert found["top1_accuracy_targets"] == found["top5_accuracy_targets"] == 1
    assert 0 < found["top1_match"] < found["top5_match"]


def test_a_classifier_of_other_classes_has_no_accuracy(samples):
    network, more = Maps(8, "logits"), FiberSamples(*(torch.cat([t] * 30, d) for t, d in parts(samples)))
    with torch.no_grad():
        network.convolution.bias -= network(samples.x).mean(0)
    labels = (network(more.x).argmax(1) + 1) % 8
    with pytest.warns(UserWarning, match=r"classifier_a: it is right on 0\.0% of \d+ targets, no more than a constant"):
        found = classifier_scores(network, more, labels, name="a")
    assert "top1_match_a" in found
    assert not [name for name in found if "accuracy" in name]


def parts(samples):
    """The four tensors, each with the dimension of its targets."""
    return (samples.x, 0), (samples.h, 0), (samples.x_hat, 1), (samples.h_hat, 1)


def test_what_took_no_part_is_summed_up_without_the_own_classifier(samples):
    own, *others = (Maps(8, "logits", seed) for seed in range(3))
    values = Judges(own, {f"net{i}": each for i, each in enumerate(others)}).scores(samples, Split())
    found = [agreement.top1_match(seen_by(each, samples)) for each in others]
    assert values["unseen_match_mean"] == pytest.approx(mean(found))
    assert values["unseen_match_min"] == min(found)
    assert "unseen_match_mean" not in Judges(own).scores(samples, Split())


def test_several_labels(samples):
    labels = (Maps(4, "logits")(samples.x).sigmoid() > 0.4).float()
    labels[0, 0] = float("nan")
    found = classifier_scores(Maps(4, "logits"), samples, labels, name="chest", thresholds=(0.4,))
    assert found["decision_accuracy_targets_chest"] == 1
    assert found["decision_match_chest"] == pytest.approx(found["decision_accuracy_chest"], abs=0.02)
    assert "top1_match_chest" not in found


def test_cues(samples):
    network = Maps(8, "logits")
    categories = [[0, 1], [2, 3, 4], [5], [6, 7]]
    decided = network(samples.x).softmax(1)
    decided = torch.stack([decided[:, own].mean(1) for own in categories], 1).argmax(1)
    cues = torch.stack((decided, (decided + 1) % 4), 1)
    found = classifier_scores(network, samples, cues, categories)
    assert found["shape_preference_targets"] == 1
    assert found["shape_accuracy"] < 1
    swapped = classifier_scores(network, samples, cues.flip(1), categories)
    assert swapped["texture_accuracy"] == found["shape_accuracy"]
    assert classifier_scores(network, samples, decided, categories)["top1_accuracy_targets"] == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Judges(Maps()), "expected a network that returns logits"),
        (lambda: Judges(others={"a": Maps()}), "classifier a: expected a network that returns logits"),
        (lambda: Judges(features={"a": Maps(layer="unit")}), r"features a: expected a network that returns vectors"),
        (lambda: Judges(features={"a_floor": Maps()}), "judge 'a_floor': expected a name"),
        (lambda: Judges(others={"my net": Maps(layer="logits")}), "judge 'my net': expected a name"),
    ],
)
def test_networks_that_are_not_fit_to_judge(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_images_of_another_size(samples):
    small = FiberSamples(samples.x[..., :9], samples.h, samples.x_hat[..., :9], samples.h_hat)
    with pytest.raises(ValueError, match=r"Maps, as a judge: expected shape \(B, 3, 28, 28\)"):
        feature_scores(Maps(), "maps", small)


def test_only_the_features_of_the_published_distance_are_called_fid(samples):
    class Pretrained(Maps, Torchvision):
        """Maps in the place of torchvision's network, whose weights are not here."""

        def __init__(self, model="inception_v3", layer="pooled", weights="pretrained", units=None):
            Maps.__init__(self, layer="logits")

    assert is_published(Pretrained())
    for other in ({"weights": None}, {"model": "resnet50"}, {"layer": "logits"}, {"units": [1]}):
        assert not is_published(Pretrained(**other))
    assert not is_published(Maps())
    found = Judges(features={"inception": Pretrained()}).scores(samples, Split())
    assert {"fid", "kid", "pairwise_distance_inception"} <= set(found)
    assert not {"fid_inception", "fid_floor"} & set(found), "no floor: there are no other images"


class Split:
    """A split of 30 images, without labels."""

    def __len__(self):
        return 30

    def inputs(self, indices):
        return images(30)[indices]

    def labels(self):
        return None
