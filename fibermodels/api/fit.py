"""A fiber model of a network in memory, from images or other inputs, in one call."""

import json
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn

from fibermodels.api.fitted import Fitted
from fibermodels.checks import check_number
from fibermodels.component import device_name
from fibermodels.config import describe
from fibermodels.core import Subject
from fibermodels.data.given import as_data
from fibermodels.files import claim, release, write_text
from fibermodels.spaces import ImageSpace, InputSpace
from fibermodels.subjects.live import Live, expected_input, input_channels
from fibermodels.training import Run
from fibermodels.training.planning import Plan, planned
from fibermodels.training.recipe import BATCH, scale_of, training
from fibermodels.training.running import TRAINER, callbacks, quiet, saving


def fit(
    network: nn.Module,
    images: Any,
    layer: str = "spatial",
    minutes: float = 5.0,
    *,
    name: str = "fit",
    runs: str | Path = "runs",
    size: int | None = None,
    mean: list[float] | None = None,
    std: list[float] | None = None,
    transform: Any = None,
    input_size: int | None = None,
    fiber_weight: float | None = None,
    learning_rate: float | None = None,
    batch_size: int = BATCH,
    flip: bool = False,
    seed: int = 0,
    device: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> Fitted:
    """Trains a fiber model: which other inputs does the network not tell apart from a given one?

    The recipe is that of `training.recipe`; its size follows from the images and the minutes. The run is in
    `RUNS/NAME`, as that of the command line: checkpoints, `metrics.csv`, `samples.png` and TensorBoard events.

    Args:
        network: takes images `(B, C, H, W)`, or inputs `(B, *input_shape)`; it stays as it is. A `Subject` keeps its
            own layer and statistics.
        images: a folder, images `(N, C, H, W)` in [0, 1] or bytes, points or rows of a table `(N, D)`, signals
            `(N, C, L)`, a data set, a loader, or a data module (see `as_data`). A tenth of them is for validation, a
            tenth for tests.
        layer: the name of a module, or `spatial`, `pooled` or `logits` (see `subjects.Live`).
        minutes: of training.
        name, runs: of the run, and the folder of all runs.
        size: pixels per side of the images (see `as_data`).
        mean, std: statistics of the network's input per channel, for images in [0, 1], or per entry of a vector. None
            takes those of `transform` or of a network of timm, else the inputs as they are.
        transform: of torchvision, with the network's `Normalize`.
        input_size: pixels per side of the network's input; None does not resize, unless a network of timm takes one
            size only.
        fiber_weight: lambda, of the fiber loss; None takes 1 for images and maps, and 0 for other inputs.
        learning_rate: its peak; None takes .007 for images and maps, .003 or less where the layer is a vector, and
            .002 for other inputs.
        batch_size: images of a step; fewer where the minutes do not allow enough steps.
        flip: whether to mirror half of the training images.
        seed: of all random numbers.
        device: such as `cpu` or `cuda`; None takes the accelerator, if there is one.
        resume: continue an interrupted run of the same name.
        overwrite: replace an earlier run of the same name.
        progress: whether to show progress bars.

    Raises:
        FileExistsError: there is an earlier run, and neither `resume` nor `overwrite` is set.
        FileNotFoundError: no images, or nothing to resume.
        ValueError: a number out of its range; images or a layer that do not fit the network.
    """
    since = time.perf_counter()
    check_number("fit", "minutes", minutes, above=0)
    folder, plan_file = Path(runs) / name, Path(runs) / name / "plan.json"
    last = folder / "checkpoints" / "last.ckpt"
    if last.exists() and not (resume or overwrite):
        raise FileExistsError(f"'{folder}' holds an earlier run: give resume=True, overwrite=True or another name")
    if resume and not (last.exists() and plan_file.exists()):
        raise FileNotFoundError(f"resume: nothing to resume in '{folder}'")
    data = given_data(network, images, size, batch_size, seed, flip)
    train = data.split("train")
    subject = as_subject(network, layer, train.space(), mean, std, transform, input_size)
    where = chosen(device)
    build = partial(
        training,
        subject,
        fiber_weight=fiber_weight,
        learning_rate=learning_rate,
        seed=seed,
        scale=scale_of(data),
    )
    if resume:
        plan = Plan(**json.loads(plan_file.read_text()))
    else:
        plan = planned(build, train.inputs(slice(batch_size)), len(train), minutes, where, since)
    if progress:
        print(f"{plan}; the run is in '{folder}'")
    if data is not images:
        data.batch_size = plan.batch
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build(plan.width, batch=plan.batch)
    lock = claim(folder)
    try:
        write_text(plan_file, json.dumps(plan.values(), indent=2) + "\n")
        with warnings.catch_warnings():
            quiet()
            trainer = _trainer(plan, folder, where, progress)
            trainer.strategy.checkpoint_io = saving(folder, overwrite and not resume)
            trainer.fit(module, datamodule=data, ckpt_path=str(last) if resume else None)
    finally:
        release(lock)
    module.eval().requires_grad_(False)
    steps = module.earlier_steps + trainer.global_step
    return Fitted.of(Run(module, data, steps, device_name(where), describe(module)), folder)


def _trainer(plan: Plan, folder: Path, device: torch.device, progress: bool) -> Trainer:
    return Trainer(
        **accelerated(device),
        enable_progress_bar=progress,
        default_root_dir=str(folder),
        logger=TensorBoardLogger(str(folder.parent), name=folder.name, version=""),
        callbacks=callbacks(folder, plan.ema_decay, minutes=2.0, lines=progress, resume="resume=True"),
        **TRAINER | plan.trainer(),
    )


def chosen(device: str | torch.device | None) -> torch.device:
    """The device that a user has named, else the accelerator, if there is one."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def accelerated(device: str | torch.device | None) -> dict[str, Any]:
    """Options of a trainer that runs on a device, or on that of `chosen`."""
    where = chosen(device)
    return {
        "accelerator": {"cuda": "gpu"}.get(where.type, where.type),
        "devices": 1 if where.index is None else [where.index],
    }


def given_data(
    network: nn.Module, images: Any, size: int | None, batch_size: int, seed: int, flip: bool = False
) -> Any:
    """The data of `fit`, in the size and with the channels that the network takes, where they are known.

    Arguments and errors are those of `fit`.
    """
    known, grey = network.input_space if isinstance(network, Subject) else None, False
    if isinstance(known, ImageSpace):
        size, grey = size or known.shape[-1], known.shape[0] == 1
    elif known is None:
        grey = input_channels(network) == 1
    return as_data(images, size, batch_size, seed, flip, 1 if grey else None)


def as_subject(
    network: nn.Module,
    layer: str,
    space: InputSpace,
    mean: list[float] | None = None,
    std: list[float] | None = None,
    transform: Any = None,
    input_size: int | None = None,
) -> Subject:
    """The subject that `fit` studies, of inputs of a `space`; other arguments as there.

    Raises:
        ValueError: `mean` without `std`; inputs or a layer that do not fit the network.
    """
    if isinstance(network, Subject):
        return network
    if (mean is None) != (std is None):
        raise ValueError(f"mean, std: expected both or none, got {mean} and {std}")
    known = expected_input(network, transform)
    size = [input_size, input_size] if input_size else known.size
    image, other = (list(space.shape), None) if isinstance(space, ImageSpace) else (None, list(space.shape))
    own = (mean or known.mean, std or known.std, size)
    return Live(network, layer, image, *own, input_shape=other)
