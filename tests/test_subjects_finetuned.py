"""A classifier that is fine-tuned, calibrated and read as a subject."""

import csv
import json

import pytest
import torch
from brought import Labelled
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from safetensors.torch import load_file
from sklearn.metrics import f1_score, roc_auc_score
from torch import nn

from fibermodels.config import build
from fibermodels.models import FiberLoss
from fibermodels.noise import seeded
from fibermodels.subjects import Classifier, Cut, FinetunedClassifier, Timm
from fibermodels.subjects.finetuned import augmented
from fibermodels.subjects.multilabel import (
    asymmetric_loss,
    auroc,
    f1_thresholds,
    fitted_temperature,
    fitted_temperatures,
)
from fibermodels.training import Training, export, load
from fibermodels.training.averaging import AveragedWeights
from fibermodels.training.callbacks import MetricsCSV

CLASSES = ["Red Light", "Green", "Blue"]


@pytest.fixture(autouse=True)
def trusted(monkeypatch):
    monkeypatch.setenv("FIBERMODELS_IMPORTS", "brought")


def encoder(layer="pooled", **options):
    torch.manual_seed(0)
    return Timm("test_convnext", layer, [3, 32, 32], **{"num_classes": 0, "input_size": 32} | options)


def learner(**options):
    phi = encoder()
    return FinetunedClassifier(phi, CLASSES, **options)


def answers(count=400, classes=3, seed=0):
    """Logits, labels drawn from them, some unknown."""
    generator = seeded("answers", seed)
    logits = 3 * torch.randn(count, classes, generator=generator)
    labels = (torch.rand(count, classes, generator=generator) < logits.sigmoid()).float()
    labels[torch.rand(count, classes, generator=generator) < 0.2] = torch.nan
    return logits, labels


@pytest.mark.parametrize("margin", [0.0, 0.1])
def test_the_asymmetric_loss_is_the_papers(margin):
    """Ridnik et al., eq. 7, written out for one positive and one negative label, and a third that is unknown."""
    logits = torch.tensor([[0.4, -1.2, 5.0]], dtype=torch.float64)
    p, q, _ = logits[0].sigmoid()
    q_margin = max(q - margin, 0)
    truth = -((1 - p) ** 2 * p.log() + q_margin**3 * (1 - q_margin).log()) / 3
    loss = asymmetric_loss(logits, torch.tensor([[1.0, 0.0, torch.nan]]), 2.0, 3.0, margin)
    torch.testing.assert_close(loss, truth[None])


def test_the_asymmetric_loss_without_focus_is_cross_entropy():
    logits, labels = answers()
    known = labels.nan_to_num(0.5)
    truth = torch.nn.functional.binary_cross_entropy_with_logits(logits, known, reduction="none")
    truth = torch.where(labels.isnan(), 0.0, truth).mean(1)
    torch.testing.assert_close(asymmetric_loss(logits, labels, gamma_neg=0.0), truth)


def test_unknown_labels_have_no_gradient():
    logits = torch.tensor([[80.0, -80.0, 0.3]], requires_grad=True)
    (gradient,) = torch.autograd.grad(
        asymmetric_loss(logits, torch.tensor([[torch.nan, torch.nan, 0.0]])).sum(), logits
    )
    assert gradient[0, :2].tolist() == [0, 0]
    assert gradient[0, 2] > 0


def test_auroc_is_that_of_sklearn_ties_and_unknown_labels_included():
    logits, labels = answers()
    scores = logits.round()
    for column, area in enumerate(auroc(scores, labels)):
        known = ~labels[:, column].isnan()
        assert float(area) == pytest.approx(roc_auc_score(labels[known, column], scores[known, column]), abs=1e-9)
    assert auroc(scores, torch.ones_like(labels)).isnan().all()


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.6])
def test_temperatures_that_spoiled_the_logits_are_found(temperature):
    logits, labels = answers(20_000, 2)
    spoiled = logits * torch.tensor([temperature, 1 / temperature])
    found = fitted_temperatures(spoiled, labels)
    torch.testing.assert_close(found, torch.tensor([temperature, 1 / temperature]), rtol=0.04, atol=0)


def test_one_temperature_serves_exclusive_classes():
    generator = seeded("exclusive")
    logits = 2 * torch.randn(20_000, 4, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    assert float(fitted_temperature(1.5 * logits, labels)) == pytest.approx(1.5, rel=0.04)


def test_temperatures_stay_within_their_bounds():
    logits, labels = answers(2000, 2)
    found = fitted_temperatures(logits * torch.tensor([9.0, 0.05]), labels)
    assert found.min() >= 0.5
    assert found.max() <= 2
    torch.testing.assert_close(found, torch.tensor([2.0, 0.5]), rtol=0.01, atol=0)
    assert fitted_temperatures(logits, torch.full_like(labels, torch.nan)).tolist() == [1, 1]


def test_thresholds_have_the_best_f1_of_all_candidates():
    logits, labels = answers(150)
    probabilities = (0.5 * logits - 1).sigmoid()  # far from calibrated
    for column, threshold in enumerate(f1_thresholds(probabilities, labels)):
        known = ~labels[:, column].isnan()
        y, p = labels[known, column], probabilities[known, column]
        every = [f1_score(y, p >= (k + 0.5) / 200) for k in range(200)]
        assert f1_score(y, p >= threshold) == pytest.approx(max(every))
    assert f1_thresholds(probabilities, torch.zeros_like(labels)).tolist() == [0.5, 0.5, 0.5]


def test_the_frozen_encoder_gets_no_gradient_and_the_whole_one_does():
    x, y = torch.rand(4, 3, 32, 32), torch.tensor([[1.0, 0.0, torch.nan]] * 4)
    for whole in (False, True):
        model = learner(train_encoder=whole, blocks=2, width=8)
        model.loss(x, y)["asymmetric"].mean().backward()
        assert all(p.grad is not None for p in model.head.parameters())
        assert all((p.grad is not None) == whole for p in model.encoder.parameters())


class Normed(nn.Sequential):
    """A convolution and batch norm, to features `(B, 4)`."""

    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def test_batch_norm_learns_its_statistics_only_if_it_may(monkeypatch):
    monkeypatch.setenv("FIBERMODELS_IMPORTS", "test_subjects_finetuned")
    x, y = torch.rand(16, 3, 8, 8), torch.zeros(16, dtype=torch.long)
    for learns in (False, True):
        phi = Cut("test_subjects_finetuned.Normed", "logits", [3, 8, 8], [0.0] * 3, [1.0] * 3)
        model, norm = FinetunedClassifier(phi, CLASSES, exclusive=True, batch_norm=learns), phi.network[1]
        model.loss(x, y)
        maps = phi.network[0](x)
        expected = 0.1 * maps.mean((0, 2, 3)) if learns else torch.zeros(4)  # the momentum is 0.1, the start 0
        torch.testing.assert_close(norm.running_mean, expected)
        seen = norm.running_mean.clone()
        model.eval().loss(x, y)
        assert torch.equal(norm.running_mean, seen)


def test_a_quarter_turn_and_a_mirror_move_pixels_exactly(monkeypatch):
    x = torch.rand(3, 2, 8, 8)
    torch.testing.assert_close(augmented(x, 0.0, 1.0), x.flip(-1))
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.full(size, 0.75))  # the turn is 180 (2u - 1) degrees
    torch.testing.assert_close(augmented(x, 180.0, 0.0), x.rot90(1, (2, 3)))
    torch.testing.assert_close(augmented(x, 180.0, 1.0), x.rot90(1, (2, 3)).flip(-1))


def test_a_shift_moves_whole_pixels_and_what_comes_in_is_black(monkeypatch):
    x = torch.rand(1, 2, 6, 8)
    monkeypatch.setattr(torch, "randint", lambda low, high, size, **_: torch.tensor([[2], [-1]]))  # right, and up
    moved = augmented(x, 0.0, 0.0, 2)
    torch.testing.assert_close(moved[..., :-1, 2:], x[..., 1:, :-2])
    assert max(moved[..., -1, :].max(), moved[..., :2].max()) < 1e-5


def test_a_turn_keeps_lengths_in_an_image_that_is_not_square(monkeypatch):
    """A disc about the middle is the same disc after any turn."""
    rows, columns = torch.meshgrid(torch.arange(24.0) - 11.5, torch.arange(48.0) - 23.5, indexing="ij")
    disc = torch.exp(-(rows.square() + columns.square()) / 18)[None, None]
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.full(size, 0.9))
    torch.testing.assert_close(augmented(disc, 40.0, 0.0), disc, atol=0.02, rtol=0)
    ellipse = torch.exp(-(rows.square() + columns.square() / 4) / 18)[None, None]
    assert (augmented(ellipse, 40.0, 0.0) - ellipse).abs().max() > 0.2


def test_only_training_images_are_turned():
    x, y = torch.rand(4, 3, 32, 32), torch.ones(4, 3)
    model = learner(rotate=30.0, flip=0.5)
    torch.manual_seed(0)
    first, second = (model.train().loss(x, y)["asymmetric"] for _ in range(2))
    assert not torch.equal(first, second)
    torch.testing.assert_close(model.eval().loss(x, y)["asymmetric"], asymmetric_loss(model.predict(x), y))


def trained(folder, epochs=6, data=None, **options):
    module = Training(learner(**options), learning_rate=3e-3)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        num_sanity_val_steps=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[
            AveragedWeights(0.5),
            ModelCheckpoint(str(folder), "last", enable_version_counter=False),
            MetricsCSV(folder / "metrics.csv"),
        ],
    )
    trainer.fit(module, datamodule=data or Labelled())
    return module


def test_training_on_labels_reports_the_auroc_of_the_whole_split(tmp_path):
    trained(tmp_path)
    run = load(tmp_path / "last.ckpt")
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    parts = list(run.data.split("val").batches(100))
    logits, y = (torch.cat(found) for found in ([run.model.predict(b["x"]) for b in parts], [b["y"] for b in parts]))
    areas = [roc_auc_score(y[k, c], logits[k, c].detach()) for c in range(3) for k in [~y[:, c].isnan()]]
    assert float(rows[-1]["val/auroc_red_light"]) == pytest.approx(areas[0], abs=1e-5)
    assert float(rows[-1]["val/auroc"]) == pytest.approx(sum(areas) / 3, abs=1e-5)
    assert 0.7 < float(rows[-1]["val/auroc"]) < 1


def test_what_is_exported_is_a_calibrated_subject(tmp_path):
    """And its file gives the fine-tuned network to be cut elsewhere."""
    trained(tmp_path, epochs=3)
    card = export(tmp_path / "last.ckpt", tmp_path / "classifier")
    assert card["test_scores"]["auroc"] > 0.65
    described = json.loads((tmp_path / "classifier.json").read_text())["component"]
    phi = build(
        described | {"init_args": described["init_args"] | {"weights": str(tmp_path / "classifier.safetensors")}}
    )
    run = load(tmp_path / "last.ckpt")
    (batch,) = run.data.split("val").batches(100)
    logits = run.model.predict(batch["x"])
    assert isinstance(phi, Classifier)
    assert phi.feature_shape == (3,)
    torch.testing.assert_close(phi(batch["x"]), logits / fitted_temperatures(logits, batch["y"]))
    torch.testing.assert_close(phi.threshold, f1_thresholds(phi.probabilities(batch["x"]), batch["y"]))
    assert torch.equal(phi.decide(batch["x"]), phi.probabilities(batch["x"]) >= phi.threshold)
    names = {name.split(".")[0] for name in load_file(tmp_path / "classifier.safetensors")}
    assert names == {"encoder", "head", "temperature", "threshold"}
    spatial = encoder("spatial", weights=str(tmp_path / "classifier.safetensors"))
    x = batch["x"]
    maps = run.model.encoder.network.forward_features(spatial.preprocess(x))
    torch.testing.assert_close(spatial(x), maps)
    assert not torch.allclose(encoder("spatial")(x), maps, atol=1e-3)


def test_exclusive_classes_train_by_cross_entropy(tmp_path):
    module = trained(tmp_path, epochs=4, data=Labelled(exclusive=True), exclusive=True)
    with (tmp_path / "metrics.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    assert float(last["val/accuracy"]) > 0.5
    data = Labelled(exclusive=True)
    phi = module.learner.product(data.split("val").batches(16))
    assert phi.temperature.unique().numel() == 1
    (batch,) = data.split("test").batches(100)
    torch.testing.assert_close(phi.probabilities(batch["x"]).sum(1), torch.ones(40))
    assert torch.equal(phi.decide(batch["x"]).int().argmax(1), phi(batch["x"]).argmax(1))


def test_data_without_labels_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"a FinetunedClassifier trains on labels 'y'; the data's batches hold \['x'\]"
    ):
        trained(tmp_path, 1, Labelled(labelled=False))


def test_a_subject_beside_labels_is_refused():
    with pytest.raises(ValueError, match="trains on labels and takes none"):
        Training(learner(), encoder())
    with pytest.raises(ValueError, match="pushes no noise"):
        Training(learner(), fiber=FiberLoss(1.0))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.ones(2, 5), r"for 3 classes expected labels \(2, 3\), floats .* got torch.float32 \(2, 5\)"),
        (torch.ones(2, dtype=torch.long), r"got torch.int64 \(2,\)"),
        (None, "got none"),
    ],
)
def test_labels_that_do_not_fit_are_named(y, message):
    with pytest.raises(ValueError, match=message):
        learner().loss(torch.rand(2, 3, 32, 32), y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": encoder("spatial")}, r"expected one that returns vectors, got representations \[64, 1, 1\]"),
        ({"classes": ["a", "a"]}, "classes: expected different names"),
        ({"gamma_neg": -1.0}, "gamma_pos, gamma_neg, margin"),
        ({"flip": 2.0}, "rotate, flip"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        FinetunedClassifier(**{"encoder": encoder(), "classes": CLASSES} | options)
