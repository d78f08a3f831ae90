"""Trains small networks in memory, for benchmarks of points, tables and tiny images."""

import json
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning.pytorch import LightningDataModule, Trainer

from fibermodels.component import Component, device_name, fingerprint
from fibermodels.config import describe
from fibermodels.core import Subject
from fibermodels.evaluation.results import Metrics, commit
from fibermodels.files import save_tensors, sha256, write_text
from fibermodels.models import FiberLoss
from fibermodels.trainable import Trainable
from fibermodels.training import Training
from fibermodels.training.averaging import AveragedWeights

ROOT = Path(__file__).parents[1]

Learner = TypeVar("Learner", bound=Trainable)


def trained(
    learner: Learner,
    data: LightningDataModule,
    epochs: int,
    subject: Subject | None = None,
    fiber: FiberLoss | None = None,
    learning_rate: float = 2e-3,
    weight_decay: float = 0.01,
    average: float = 0.0,
    clip: float | None = None,
) -> tuple[Learner, float]:
    """The learner, trained on one core, and the seconds that it took.

    Args:
        learner, subject, fiber, learning_rate, weight_decay: as in `Training`.
        data: its batches.
        epochs: passes over the training split.
        average: decay of the average of the weights; 0 for none.
        clip: the largest norm of a gradient.
    """
    torch.manual_seed(0)
    module = Training(learner, subject, fiber, learning_rate=learning_rate, weight_decay=weight_decay, preview=0)
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        check_val_every_n_epoch=epochs,
        gradient_clip_val=clip,
        callbacks=[AveragedWeights(average)] if average else None,
        **quiet,
    )
    trainer.fit(module, datamodule=data)
    learner.eval().requires_grad_(False)
    return learner, module.seconds


def facts(folder: Path, family: str, dataset: str, subject: Subject, num_targets: int) -> Metrics:
    """What identifies a result of one sample for each target, which a benchmark has drawn by itself."""
    return {
        "name": folder.name,
        "family": family,
        "fiber_weight": 0.0,
        "dataset": dataset,
        "subject": fingerprint(subject),
        "num_targets": num_targets,
        "samples_per_target": 1,
        "seed": 0,
        "device": device_name("cpu"),
        "commit": commit(),
    }


def publish(component: Component, path: Path, dataset: str, scores: dict[str, float], seconds: float) -> None:
    """Writes weights below the root, and their card with scores on test data."""
    target = ROOT / path
    save_tensors(component.state_dict(), target)
    card = {
        "sha256": sha256(target),
        "dataset": dataset,
        "test_scores": {name: round(value, 4) for name, value in scores.items()},
        "training_seconds": round(seconds, 2),
        "training_device": device_name("cpu"),
        "component": describe(component),
    }
    write_text(target.with_suffix(".json"), json.dumps(card, indent=2) + "\n")
    print(f"{path}: {card['test_scores']} after {seconds:.0f} s")
