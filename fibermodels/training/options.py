"""The options of `train` beside model, data and trainer, and the ranges of those that are numbers."""

from collections.abc import Mapping
from typing import Any

from fibermodels.checks import check_number

OPTIONS: tuple[tuple[str, Any, Any, str], ...] = (
    ("name", str, "unnamed", "name of the run; its files go to RUNS/NAME"),
    ("runs", str, "runs", "folder of all runs"),
    ("overwrite", bool, False, "start anew in the folder of an earlier run"),
    ("start_from", str | None, None, "checkpoint or exported weights with the initial weights of the learner"),
    (
        "adapt_from",
        str | None,
        None,
        "checkpoint or exported weights for another subject or layer; the learner takes the weights that fit",
    ),
    ("resume_changed", bool, False, "resume although settings differ from those of the checkpoint"),
    ("ema_decay", float, 0.999, "decay of the averaged weights; 0: no averages"),
    (
        "cache_draws",
        int,
        8,
        "encode the training set once, with this many draws of colours or augmentations; 0: encode in every step. "
        "Training also encodes in every step if the latent space encodes at no cost, or if the encoded set would take "
        "more than 4 GB of memory and --cache_shard_rows is not given",
    ),
    (
        "cache_shard_rows",
        int,
        0,
        "images per file of an encoded set that is too large for memory; 0: one file, which is read into memory",
    ),
    ("cache_half", bool, False, "store 16 bits of each number in these files"),
    ("cache_workers", int, 0, "processes that read the images to encode"),
    (
        "global_batch",
        int,
        0,
        "images per batch of all processes together; 0: each process takes data.batch_size images",
    ),
    ("checkpoint_minutes", float, 30.0, "minutes between checkpoints within an epoch; 0: none by time"),
    ("checkpoint_steps", int, 0, "steps between checkpoints within an epoch; 0: none by steps"),
    ("dry_run", bool, False, "print the memory, time and steps of the run, and end"),
    ("gpu_tflops", float, 312.0, "peak TFLOP/s of one GPU, for --dry_run; the default is an A100 in bfloat16"),
    ("utilisation", float, 0.3, "share of this peak that training reaches, for --dry_run"),
)
"""Name, type, default and help of the options beside model, data and trainer."""

FILES = ("runs", "start_from", "adapt_from", "ckpt_path")
"""Options that are paths."""

LEAST = {"cache_draws": 0, "global_batch": 0}
"""The smallest values of numbers."""

TRAINER_LEAST = {
    "gradient_clip_val": 0,
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "log_every_n_steps": 0,
}
"""The same for options of the trainer that Lightning does not check."""


def check_options(config: Mapping[str, Any]) -> None:
    """Refuses empty paths, and numbers out of their range.

    Args:
        config: the configuration of a run.

    Raises:
        ValueError: naming the option.
    """
    for name in FILES:
        if config[name] == "":
            raise ValueError(f"{name}: expected a path, got ''")
    for name, least in LEAST.items():
        check_number("train", name, config[name], least=least)
    for name, least in TRAINER_LEAST.items():
        check_number("trainer", name, config["trainer"][name], least=least)
