"""What `train.py` can be told beside model, data and trainer."""

from typing import Any, NamedTuple


class Option(NamedTuple):
    """An option of the command line."""

    name: str
    kind: Any
    default: Any
    help: str


OPTIONS = (
    Option("name", str, "unnamed", "the run's name: results go to RUNS/NAME"),
    Option("runs", str, "runs", "folder of all runs"),
    Option("overwrite", bool, False, "start anew in an existing run folder"),
    Option("start_from", str | None, None, "a checkpoint whose weights the learner starts with"),
    Option(
        "adapt_from",
        str | None,
        None,
        "a checkpoint or published weights of another subject or layer; the learner starts with what fits",
    ),
    Option("ema_decay", float, 0.999, "decay of the averaged weights; 0: none"),
    Option(
        "cache_draws",
        int,
        8,
        "encode the training set once, in so many draws of colours or augmentations, instead of in every step; 0: in "
        "every step. It is encoded in every step, too, where the latent space encodes at no cost, or where the encoded "
        "set would take more than 4 GB of memory and --cache_shard_rows is not given",
    ),
    Option(
        "cache_shard_rows",
        int,
        0,
        "images per file of an encoded set that is too large for memory; 0: one file, read into memory",
    ),
    Option("cache_half", bool, False, "keep 16 bits of each number in the shards"),
    Option("cache_workers", int, 0, "processes that read images to encode"),
    Option(
        "global_batch",
        int,
        0,
        "images per batch of all processes together, instead of data.batch_size for each; 0: the latter",
    ),
    Option("checkpoint_minutes", float, 30.0, "save within an epoch, too, every so many minutes; 0: only at its end"),
    Option("checkpoint_steps", int, 0, "save within an epoch every so many steps; 0: not by steps"),
    Option("dry_run", bool, False, "say what the run would take, and end"),
    Option("gpu_tflops", float, 312.0, "of a GPU, for --dry_run; an A100 in bf16"),
    Option("utilisation", float, 0.3, "share of it that training reaches"),
)
