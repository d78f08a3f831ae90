"""The command line of `train.py`: LightningCLI with a folder for every run."""

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from jsonargparse import set_parsing_settings
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

from fibermodels.config import allowed_imports, reason
from fibermodels.core import Subject, TrainableFiberModel
from fibermodels.data.cached import CachedLatents
from fibermodels.training.averaging import AveragedWeights
from fibermodels.training.callbacks import EpochLine, InterruptNote, MetricsCSV, SampleGrid
from fibermodels.training.checkpoint import adapt_from, start_from
from fibermodels.training.dry_run import dry_run, show
from fibermodels.training.module import NonFiniteLoss, Training
from fibermodels.training.preemption import Preemption
from fibermodels.training.sharding import FullyShardedStrategy

USAGE = "python train.py --config FILE.yaml [--any.key value ...] [--ckpt_path last|auto] | --help | --print_config"

RANKS = ("RANK", "SLURM_PROCID", "LOCAL_RANK")
"""Where torchrun, a cluster and Lightning say which process of a run this is."""


class TrainCLI(LightningCLI):
    """`runs/<name>/` for each run, one subject for all who need it, cached latents, averaged weights."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """What a run needs beside model, data and trainer."""
        parser.add_argument(
            "--adapt_from",
            type=str | None,
            default=None,
            help="a checkpoint of another subject or layer, whose weights the learner starts with wherever they fit",
        )
        parser.add_argument("--name", type=str, default="unnamed", help="the run's name: results go to RUNS/NAME")
        parser.add_argument("--runs", type=str, default="runs", help="folder of all runs")
        parser.add_argument("--overwrite", type=bool, default=False, help="start anew in an existing run folder")
        parser.add_argument("--ema_decay", type=float, default=0.999, help="decay of the averaged weights; 0: none")
        parser.add_argument(
            "--cache_draws",
            type=int,
            default=8,
            help="encode the training set once, in so many draws of colours or augmentations, instead of in every "
            "step; 0: in every step",
        )
        parser.add_argument(
            "--cache_shard_rows",
            type=int,
            default=0,
            help="images per file of an encoded set that is too large for memory; 0: one file, read into memory",
        )
        parser.add_argument("--cache_half", type=bool, default=False, help="keep 16 bits of each number in the shards")
        parser.add_argument("--cache_workers", type=int, default=0, help="processes that read images to encode")
        parser.add_argument(
            "--start_from", type=str | None, default=None, help="a checkpoint whose weights the learner starts with"
        )
        parser.add_argument(
            "--global_batch",
            type=int,
            default=0,
            help="images per batch of all processes together, instead of data.batch_size for each; 0: the latter",
        )
        parser.add_argument(
            "--checkpoint_minutes",
            type=float,
            default=30.0,
            help="save within an epoch, too, every so many minutes; 0: only at its end",
        )
        parser.add_argument(
            "--checkpoint_steps", type=int, default=0, help="save within an epoch every so many steps; 0: not by steps"
        )
        parser.add_argument("--dry_run", type=bool, default=False, help="say what the run would take, and end")
        parser.add_argument("--gpu_tflops", type=float, default=312.0, help="of a GPU, for --dry_run; an A100 in bf16")
        parser.add_argument("--utilisation", type=float, default=0.3, help="share of it that training reaches")
        parser.add_subclass_arguments(Subject, "subject", required=False, help="the frozen network under study")
        parser.link_arguments("subject", "model.subject", apply_on="instantiate")
        parser.link_arguments("subject", "model.learner.init_args.subject", apply_on="instantiate")
        parser.link_arguments("seed_everything", "model.seed", compute_fn=int)

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.config["fit"]["runs"]) / self.config["fit"]["name"]

    def before_instantiate_classes(self) -> None:
        """Finds what to resume, or refuses to write into the folder of an earlier run."""
        config = self.config["fit"]
        last = self.folder / "checkpoints" / "last.ckpt"
        resumes = config["ckpt_path"] == "auto"  # a job that its cluster starts again does not know which start it is
        if resumes:
            config["ckpt_path"] = str(last) if last.is_file() else None
        if config["ckpt_path"] == "last":
            config["ckpt_path"] = str(last)
        if config["ckpt_path"] and not Path(config["ckpt_path"]).is_file():
            raise FileNotFoundError(f"--ckpt_path: nothing to resume at '{config['ckpt_path']}'")
        started = last.exists() or (self.folder / "config.yaml").exists()
        may_write = (
            resumes
            or config["dry_run"]
            or config["ckpt_path"]
            or config["overwrite"]
            or config["trainer"]["fast_dev_run"]
        )
        if started and not may_write and _first_process():
            raise FileExistsError(
                f"'{self.folder}' holds an earlier run: resume it with --ckpt_path last, "
                "choose another --name, or say --overwrite true"
            )

    def instantiate_classes(self) -> None:
        """Builds everything; a fiber model trains on cached latents unless told otherwise."""
        super().instantiate_classes()
        self._adapt()
        draws, learner = self.config["fit"]["cache_draws"], self.model.learner
        if self.config["fit"]["start_from"] and not self.config["fit"]["ckpt_path"]:
            start_from(self.model, self.config["fit"]["start_from"])
        self._share_batch(self.config["fit"]["global_batch"])
        if self.config["fit"]["dry_run"]:
            self._dry_run()
        if draws < 0:
            raise ValueError(f"cache_draws: expected 0 or more, got {draws}")
        if draws and isinstance(learner, TrainableFiberModel) and not self.config["fit"]["trainer"]["fast_dev_run"]:
            fit = self.config["fit"]
            self.datamodule = CachedLatents(
                self.datamodule,
                learner.latents,
                self.model.subject,
                draws,
                shard_rows=fit["cache_shard_rows"],
                half=fit["cache_half"],
                workers=fit["cache_workers"],
            )

    def _dry_run(self) -> None:
        """Prints what the run would take, and ends it."""
        fit = self.config["fit"]
        cached, averaged = bool(fit["cache_draws"]), bool(fit["ema_decay"])
        if _first_process():
            gpu = fit["gpu_tflops"], fit["utilisation"]
            show(dry_run(self.model, self.datamodule, self.trainer, cached, averaged, *gpu))
        sys.exit(0)

    def _share_batch(self, images: int) -> None:
        """Gives each process its part of a batch of so many images."""
        if not images:
            return
        each, left = divmod(images, self.trainer.world_size)
        if each < 1 or left:
            raise ValueError(f"global_batch: expected a multiple of {self.trainer.world_size} processes, got {images}")
        self.datamodule.batch_size = each

    def before_fit(self) -> None:
        """Removes what an earlier run left, if told to start anew: nothing else in the folder."""
        config = self.config_init["fit"]
        anew = config["overwrite"] and not (config["ckpt_path"] or config["trainer"]["fast_dev_run"])
        if anew and _first_process():
            for pattern in ("checkpoints/*.ckpt", "events.out.tfevents*", "metrics.csv", "samples.png"):
                for file in self.folder.glob(pattern):
                    file.unlink()

    def _adapt(self) -> None:
        """Takes over what fits of another subject's run; one that resumes has it already."""
        config = self.config["fit"]
        if config["start_from"] and config["adapt_from"]:
            raise ValueError("give one of --start_from (the same subject) and --adapt_from (another one), got both")
        if config["adapt_from"] and not config["ckpt_path"]:
            anew = adapt_from(self.model, config["adapt_from"])
            if _first_process():
                print(f"adapt_from: {len(anew)} tensors start anew: {', '.join(anew) or 'none'}", file=sys.stderr)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Lightning's trainer with our folder, checkpoints and logs."""
        config, checkpoints = self.config["fit"], str(self.folder / "checkpoints")
        own: list[Callback] = [
            ModelCheckpoint(checkpoints, "last", enable_version_counter=False, save_on_train_epoch_end=True),
            ModelCheckpoint(checkpoints, "best", monitor="val/loss", enable_version_counter=False),
            MetricsCSV(self.folder / "metrics.csv"),
            SampleGrid(self.folder / "samples.png"),
            InterruptNote(),
        ]
        if not config["trainer"]["fast_dev_run"]:  # which leaves nothing behind
            minutes, steps = config["checkpoint_minutes"], config["checkpoint_steps"]
            own.append(Preemption(f"{checkpoints}/last.ckpt", minutes, steps))
        if not sys.stderr.isatty():
            own.append(EpochLine())
        if config["ema_decay"]:
            own.insert(0, AveragedWeights(config["ema_decay"]))
        self.trainer_defaults["callbacks"] = own
        config["ckpt_path"], config["overwrite"] = None, False  # the saved config trains anew, wherever it is told to
        logger = TensorBoardLogger(config["runs"], name=config["name"], version="")
        if "logger" in self.config_init["fit"]["trainer"] and self.config_init["fit"]["trainer"]["logger"] is None:
            kwargs["logger"] = logger
        if config["trainer"]["strategy"] == "fsdp":
            kwargs["strategy"] = FullyShardedStrategy()
        return super().instantiate_trainer(**kwargs)


def _first_process() -> bool:
    """Whether this is the first process of a run: others are added by DDP, by torchrun or by a cluster."""
    return next((int(os.environ[name]) for name in RANKS if name in os.environ), 0) == 0


def main() -> None:
    """Runs `train.py`. Errors that a user can mend are one message and exit status 2."""
    expected = (  # true of what we do, and meant
        "does not have many workers",
        "isinstance.treespec",
        "log_every_n_steps",
        "in eval mode at the start of training",
        "exists and is not empty",
        "args parameter is intended to run from within Python",
    )
    warnings.filterwarnings("ignore", "|".join(f".*{text}.*" for text in expected))
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=list(allowed_imports()))
    try:
        TrainCLI(
            Training,
            LightningDataModule,
            subclass_mode_data=True,
            seed_everything_default=0,
            trainer_defaults={
                "max_epochs": 10,
                "gradient_clip_val": 1.0,
                "num_sanity_val_steps": 0,
                "enable_model_summary": False,
            },
            save_config_kwargs={"overwrite": True},
            parser_kwargs={"fit": {"prog": "train.py", "usage": USAGE}},
            args=["fit", *sys.argv[1:]],  # the one subcommand; sys.argv itself is what DDP's processes start with
        )
    except (ValueError, FileNotFoundError, FileExistsError, NonFiniteLoss, MisconfigurationException) as error:
        print(f"error: {reason(str(error))}", file=sys.stderr)
        sys.exit(2)
