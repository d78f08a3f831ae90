"""Training of a classifier that becomes a subject: the whole network or only a head.

Reference: arXiv 2603.21782, which trains chest X-ray classifiers in this way.
"""

import math
from collections.abc import Iterable
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fibermodels.checks import check_number
from fibermodels.config import build, describe
from fibermodels.core import Subject
from fibermodels.subjects.classifier import Classifier, check_encoder, head
from fibermodels.subjects.multilabel import (
    asymmetric_loss,
    auroc,
    f1_thresholds,
    fitted_temperature,
    fitted_temperatures,
)
from fibermodels.trainable import Supervised


class FinetunedClassifier(Supervised):
    """An encoder with a new head that is trained on labels and then calibrated; its product is a `Classifier`.

    Labels are `(B, K)` in {0, 1, NaN} with a masked asymmetric loss, or classes `(B,)` with cross entropy if
    `exclusive`. The encoder is a subject and stays in evaluation mode, without dropout; its batch norm keeps its
    statistics, unless `batch_norm` lets it learn them.

    Args:
        encoder: maps images to vectors `(B, D)`, such as `Timm(layer="pooled", num_classes=0)`.
        classes: names, in the order of the labels.
        train_encoder: whether to fine-tune the encoder; False trains the head on frozen features.
        batch_norm: whether the encoder's batch norm uses and collects the statistics of training batches, as a network
            that starts at random needs it.
        blocks: residual blocks before the last linear layer of the head.
        width: width of these blocks; None takes the number of the encoder's features.
        exclusive: whether an image has exactly one class.
        gamma_pos, gamma_neg, margin: as in `asymmetric_loss`.
        rotate: largest rotation of training images, in degrees; the corners become black.
        flip: probability that a training image is mirrored.
        shift: largest shift of training images in each direction, in pixels; what comes in is black.

    Raises:
        ValueError: the encoder does not return vectors, or an option is out of range.
    """

    def __init__(
        self,
        encoder: Subject,
        classes: list[str],
        train_encoder: bool = True,
        batch_norm: bool = False,
        blocks: int = 0,
        width: int | None = None,
        exclusive: bool = False,
        gamma_pos: float = 0.0,
        gamma_neg: float = 3.0,
        margin: float = 0.0,
        rotate: float = 0.0,
        flip: float = 0.0,
        shift: int = 0,
    ) -> None:
        super().__init__()
        features = check_encoder(encoder, classes)
        if min(gamma_pos, gamma_neg) < 0 or not 0 <= margin < 1:
            raise ValueError(
                f"gamma_pos, gamma_neg, margin: expected 0 or more, margin below 1, got {gamma_pos, gamma_neg, margin}"
            )
        check_number("FinetunedClassifier", "shift", shift, least=0)
        if not 0 <= rotate <= 180 or not 0 <= flip <= 1:
            raise ValueError(f"rotate, flip: expected degrees in [0, 180] and a probability, got {rotate} and {flip}")
        self.encoder = encoder.requires_grad_(train_encoder)
        self.head = head(features, len(classes), blocks, width)
        self.input_space, self.classes, self.exclusive = encoder.input_space, list(classes), exclusive
        self.batch_norm, self.blocks, self.width = batch_norm, blocks, width
        self.gamma_pos, self.gamma_neg, self.margin = gamma_pos, gamma_neg, margin
        self.rotate, self.flip, self.shift = rotate, flip, shift
        self.train()  # the encoder arrives in evaluation mode

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self.encoder.modules():
            if isinstance(module, _BatchNorm):
                module.train(mode and self.batch_norm)
        return self

    def predict(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(x))
        return logits

    def loss(self, x: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        y = self._checked(x, y)
        logits = self.predict(augmented(x, self.rotate, self.flip, self.shift) if self.training else x)
        if self.exclusive:
            return {"cross_entropy": nn.functional.cross_entropy(logits, y, reduction="none")}
        return {"asymmetric": asymmetric_loss(logits, y, self.gamma_pos, self.gamma_neg, self.margin)}

    def split_scores(self, predictions: Tensor, y: Tensor) -> dict[str, float]:
        """The AUROC of each class with positive and negative examples, and their mean; the accuracy if `exclusive`."""
        if self.exclusive:
            return {"accuracy": float((predictions.argmax(1) == y).double().mean())}
        areas = {
            f"auroc_{name.lower().replace(' ', '_')}": float(area)
            for name, area in zip(self.classes, auroc(predictions, y), strict=True)
            if not area.isnan()
        }
        return {**areas, "auroc": math.fsum(areas.values()) / len(areas)} if areas else {}

    @torch.no_grad()
    def product(self, batches: Iterable[dict[str, Tensor]]) -> Classifier:
        """The frozen subject, with temperatures and thresholds that are fitted on labelled batches.

        Exclusive classes share one temperature; otherwise each class has its own.

        Raises:
            ValueError: there are no batches, or a batch has no labels.
        """
        found = [(self.predict(batch["x"]), self._checked(batch["x"], batch.get("y"))) for batch in batches]
        if not found:
            raise ValueError("FinetunedClassifier: batches: expected images to calibrate on, got none")
        logits, y = (torch.cat(parts) for parts in zip(*found, strict=True))
        bare = build(describe(self.encoder), weights=False)  # its weights are copied below
        classifier = Classifier(bare, self.classes, self.blocks, self.width, self.exclusive)
        classifier.encoder.load_state_dict(self.encoder.state_dict())
        classifier.head.load_state_dict(self.head.state_dict())
        if self.exclusive:
            classifier.temperature.copy_(fitted_temperature(logits, y).expand(len(self.classes)))
        else:
            classifier.temperature.copy_(fitted_temperatures(logits, y))
            classifier.threshold.copy_(f1_thresholds((logits / classifier.temperature).sigmoid(), y))
        return classifier

    def _checked(self, x: Tensor, y: Tensor | None) -> Tensor:
        shape = (len(x),) if self.exclusive else (len(x), len(self.classes))
        if y is None or tuple(y.shape) != shape or y.is_floating_point() == self.exclusive:
            given = "none" if y is None else f"{y.dtype} {tuple(y.shape)}"
            expected = "integers" if self.exclusive else "floats in {0, 1, nan}"
            raise ValueError(
                f"FinetunedClassifier: for {len(self.classes)} classes expected labels {shape}, {expected}, got {given}"
            )
        return y


def augmented(images: Tensor, rotate: float, flip: float, shift: int = 0) -> Tensor:
    """Images, each rotated about its centre by a uniform angle in `[-rotate, rotate]` degrees, mirrored with
    probability `flip`, and moved by whole pixels in `[-shift, shift]`, right and down; bilinear, with black outside."""
    if not rotate and not flip and not shift:
        return images
    height, width = images.shape[-2:]
    angle = math.radians(rotate) * (2 * torch.rand(len(images), device=images.device) - 1)
    mirror = 1 - 2 * (torch.rand(len(images), device=images.device) < flip).to(images)
    aspect = height / width  # the grid's sides are both of length 2
    cosine, sine = angle.cos().to(images), angle.sin().to(images)
    across, down = torch.randint(-shift, shift + 1, (2, len(images)), device=images.device).to(images)
    rows = [
        torch.stack([mirror * cosine, -aspect * sine, -2 * across / width], 1),
        torch.stack([mirror * sine / aspect, cosine, -2 * down / height], 1),
    ]
    grid = nn.functional.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, grid, padding_mode="zeros", align_corners=False)
