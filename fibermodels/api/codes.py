"""The features of a sparse dictionary as a subject, of a network in memory, in one call."""

import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import nn

from fibermodels.api.fit import accelerated, as_subject, given_data
from fibermodels.checks import check_number
from fibermodels.data.representations import Representations
from fibermodels.subjects import Codes, SparseAutoencoder
from fibermodels.subjects.sparse_autoencoder import Gate
from fibermodels.training.module import Training
from fibermodels.training.running import TRAINER, quiet

LEARNING_RATE = 2e-3
"""That of `configs/cifar10/sparse.yaml`."""


def codes(
    network: nn.Module,
    images: Any,
    layer: str = "spatial",
    features: int = 512,
    *,
    k: int = 8,
    gate: Gate = "topk",
    kernel: int = 1,
    steps: int = 500,
    batch_size: int = 32,
    units: list[int] | None = None,
    through: bool = False,
    size: int | None = None,
    mean: list[float] | None = None,
    std: list[float] | None = None,
    transform: Any = None,
    input_size: int | None = None,
    seed: int = 0,
    device: str | None = None,
    folder: str | Path | None = None,
    progress: bool = True,
) -> Codes:
    """A subject that says which features of a dictionary a layer uses, `phi(x) = z(layer(x))` (see `subjects.Codes`).

    A `SparseAutoencoder` is trained on the layer's representations of the training images. Its fraction of variance
    explained, the features that are on at a place, and the share of dead ones are measured on validation images and
    printed. `fit`, `explore` and applications take the result as they take a network.

    Args:
        network, images, layer: as in `fit`.
        features: `K`, columns of the dictionary.
        k, gate, kernel: as in `SparseAutoencoder`.
        steps: of the training.
        batch_size: representations of a step.
        units, through: as in `Codes`.
        size, mean, std, transform, input_size: as in `fit`.
        seed: of the splits and the training.
        device: such as `cpu` or `cuda`; None takes the accelerator, if there is one.
        folder: of the stored representations, as in `data.Representations`.
        progress: whether to show a progress bar, and the measurements.

    Returns:
        the subject, with codes `(B, K)` of a vector, `(B, K, L)` of a signal, or `(B, K, H, W)` of a map; of `units`
        alone, if they are given.

    Raises:
        FileNotFoundError: no images.
        ValueError: a number out of its range; images or a layer that do not fit the network.
    """
    check_number("codes", "steps", steps, least=1)
    data = given_data(network, images, size, batch_size, seed)
    subject = as_subject(network, layer, data.split("train").space(), mean, std, transform, input_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        dictionary = SparseAutoencoder(list(subject.feature_shape), features, gate, k, kernel)
    found = Codes(subject, dictionary, units, through)
    dictionary.requires_grad_(True)  # a subject is frozen
    maps = Representations(data, subject, batch_size, None if folder is None else str(folder))
    module = Training(dictionary, learning_rate=LEARNING_RATE, weight_decay=0.0, seed=seed, preview=0)
    with warnings.catch_warnings():
        quiet()
        trainer = Trainer(
            max_steps=steps,
            max_epochs=-1,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=progress,
            **accelerated(device),
            **TRAINER | {"gradient_clip_val": None},
        )
        trainer.fit(module, datamodule=maps)
    found.freeze()
    if progress:
        measured = dictionary.scores(maps.split("val").inputs(slice(2000)), None)
        scores = {name: float(value.mean()) for name, value in measured.items()}
        print(
            f"{features} features of {layer}: {scores['explained']:.1%} of the variance explained, "
            f"{scores['active']:.3g} on at a place, {scores['dead']:.1%} dead"
        )
    return found
