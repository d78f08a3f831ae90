"""A fine-tuned classifier as a subject."""

import torch
from torch import Tensor, nn

from fibermodels.core import Subject
from fibermodels.nn import ResidualMLP


def head(features: int, classes: int, blocks: int, width: int | None) -> nn.Module:
    """A map from `(B, features)` to `(B, classes)`: a linear layer for 0 blocks, else a residual perceptron."""
    if not blocks:
        return nn.Linear(features, classes)
    return ResidualMLP(features, classes, width or features, blocks, hidden=4 * (width or features))


def check_encoder(encoder: Subject, classes: list[str]) -> int:
    """The number of features.

    Raises:
        ValueError: the encoder does not return vectors, or the class names are missing or not unique.
    """
    if len(encoder.feature_shape) != 1:
        raise ValueError(
            f"encoder: expected one that returns vectors, got representations {list(encoder.feature_shape)}; "
            "give it layer: pooled"
        )
    if not classes or len(set(classes)) != len(classes):
        raise ValueError(f"classes: expected different names, got {classes}")
    return encoder.feature_shape[0]


class Classifier(Subject):
    """Calibrated logits `head(encoder(x)) / T`, one per class: the product of `FinetunedClassifier`.

    Probabilities are their `sigmoid`, or their `softmax` with `exclusive`. To use another layer of the fine-tuned
    network, give the exported file to `Timm` as its weights.

    Args:
        encoder: maps images to vectors `(B, D)`.
        classes: names, in the order of the logits.
        blocks: residual blocks before the last linear layer of the head.
        width: width of these blocks; None takes the number of the encoder's features.
        exclusive: whether an image has exactly one class.
        weights: a safetensors file that `export.py` wrote; None keeps the encoder's weights and a random head.

    Raises:
        FileNotFoundError, ValueError: as `Component.load_weights`; the encoder does not return vectors.
    """

    temperature: Tensor
    threshold: Tensor

    def __init__(
        self,
        encoder: Subject,
        classes: list[str],
        blocks: int = 0,
        width: int | None = None,
        exclusive: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.head = head(check_encoder(encoder, classes), len(classes), blocks, width)
        self.encoder, self.classes, self.exclusive = encoder, list(classes), exclusive
        self.input_space, self.feature_shape = encoder.input_space, (len(classes),)
        self.register_buffer("temperature", torch.ones(len(classes)))
        self.register_buffer("threshold", torch.full((len(classes),), 0.5))
        self.load_weights(weights)
        self.freeze()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(images))
        return logits / self.temperature

    def probabilities(self, images: Tensor) -> Tensor:
        """Probabilities of the classes `(B, K)`."""
        logits = self(images)
        return logits.softmax(1) if self.exclusive else logits.sigmoid()

    def decide(self, images: Tensor) -> Tensor:
        """A decision per class, `(B, K)`: the most probable class with `exclusive`, else all that reach their
        threshold."""
        p = self.probabilities(images)
        if self.exclusive:
            return nn.functional.one_hot(p.argmax(1), p.shape[1]).bool()
        return p >= self.threshold
