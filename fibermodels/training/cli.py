"""The command `train`: LightningCLI with a folder for every run."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from jsonargparse import set_parsing_settings
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

from fibermodels.commands import Explains, check_files, explained
from fibermodels.config import Recorded, allowed_imports, describe
from fibermodels.core import Subject
from fibermodels.data.cached import CachedLatents
from fibermodels.files import claim, release
from fibermodels.programs import called
from fibermodels.trainable import TrainableFiberModel
from fibermodels.training.checkpoint import adapt_from, read_checkpoint, start_from
from fibermodels.training.dry_run import dry_run, show
from fibermodels.training.module import Training
from fibermodels.training.objective import NonFiniteLoss
from fibermodels.training.options import OPTIONS, check_options
from fibermodels.training.resuming import check_resumed
from fibermodels.training.running import TRAINER, callbacks, quiet, saving
from fibermodels.training.saving import SavedConfig, newest
from fibermodels.training.sharding import FullyShardedStrategy

USAGE = "--config FILE.yaml [--any.key value ...] [--ckpt_path last|auto] | --help | --print_config"

RANKS = ("RANK", "SLURM_PROCID", "LOCAL_RANK")
"""Environment variables in which torchrun, SLURM and Lightning store the number of this process."""


class TrainParser(Explains, LightningArgumentParser):
    """Stores values that the user gave for linked arguments, such as `feature_shape: []` of an unconditional prior."""

    def dump(self, *args: Any, **options: Any) -> str:
        """The configuration as text, linked values included."""
        return str(super().dump(*args, **{"skip_link_targets": False, **options}))


class TrainCLI(LightningCLI):
    """Trains in the folder `RUNS/NAME`, with one subject for all parts, cached latents and averaged weights."""

    lock: IO[str] | None = None
    """What holds the run's folder."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        for name, kind, default, text in OPTIONS:
            parser.add_argument(f"--{name}", type=kind, default=default, help=text)
        parser.add_subclass_arguments(Subject, "subject", required=False, help="the frozen network under study")
        parser.link_arguments("subject", "model.subject", apply_on="instantiate")
        parser.link_arguments("subject", "model.learner.init_args.subject", apply_on="instantiate")
        parser.link_arguments(
            "subject", "model.learner.init_args.feature_shape", compute_fn=self._feature_shape, apply_on="instantiate"
        )
        parser.link_arguments("seed_everything", "model.seed", compute_fn=int)

    def _feature_shape(self, subject: Subject | None) -> list[int] | None:
        """The learner's `feature_shape` as it was given, or else the subject's."""
        given = self.config["fit"].get("model.learner.init_args.feature_shape")
        return list(subject.feature_shape) if given is None and subject is not None else given

    @property
    def options(self) -> Any:
        """The configuration of the run."""
        return self.config["fit"]

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.options["runs"]) / self.options["name"]

    def _parse_ckpt_path(self) -> None:
        """Lightning would read the checkpoint here for arguments, which ours do not contain, before it is checked."""

    def before_instantiate_classes(self) -> None:
        """Finds the checkpoint to resume from.

        Raises:
            FileNotFoundError: there is no such checkpoint.
            ValueError: an option is out of its range; the name leads out of the folder of all runs; there are
                checkpoints, and all are damaged.
            FileExistsError: the folder has an earlier run, and no option allows to write there.
        """
        config, parts = self.options, Path(self.options["name"]).parts
        check_options(config)
        if not parts or parts[0] == "/" or ".." in parts:
            raise ValueError(f"name: expected a name, or a path below '{config['runs']}', got '{config['name']}'")
        last = self.folder / "checkpoints" / "last.ckpt"
        resumes = config["ckpt_path"] == "auto"  # for jobs that a cluster may restart
        if config["ckpt_path"] == "last":
            config["ckpt_path"] = str(last)
        elif resumes:
            found = newest(last.parent, _say)
            if found is None and last.is_file():
                raise ValueError(f"--ckpt_path auto: no checkpoint in '{last.parent}' can be read")
            config["ckpt_path"] = None if found is None else str(found)
        if config["ckpt_path"] and not Path(config["ckpt_path"]).is_file():
            raise FileNotFoundError(f"--ckpt_path: nothing to resume at '{config['ckpt_path']}'")
        may_write = resumes or any(config[name] for name in ("dry_run", "ckpt_path", "overwrite"))
        started = last.exists() or (self.folder / "config.yaml").exists()
        if started and not may_write and not config["trainer"]["fast_dev_run"] and _first_process():
            raise FileExistsError(
                f"'{self.folder}' holds an earlier run: resume it with --ckpt_path last, "
                "choose another --name, or say --overwrite true"
            )

    def instantiate_classes(self) -> None:
        """Builds all objects; a fiber model trains on cached latents unless `cache_draws` is 0."""
        super().instantiate_classes()
        config = self.options
        self._check_images()
        if path := self.config_init["fit"]["ckpt_path"]:  # a run that resumes has these weights already
            self._check_resumed(path)
        else:
            self._take_over(config["start_from"], config["adapt_from"])
        if config["global_batch"]:
            self._share_batch(config["global_batch"])
        fits = isinstance(self.model.learner, TrainableFiberModel) and not config["trainer"]["fast_dev_run"]
        if config["cache_draws"] and fits:
            keys = ("cache_shard_rows", "cache_half", "cache_workers")
            self.datamodule = CachedLatents(
                self.datamodule,
                self.model.learner.latents,
                self.model.subject,
                config["cache_draws"],
                **{key.removeprefix("cache_"): config[key] for key in keys},
            )
        if config["dry_run"]:
            if _first_process():
                gpu = config["gpu_tflops"], config["utilisation"]
                show(dry_run(self.model, self.datamodule, self.trainer, bool(config["ema_decay"]), *gpu))
            sys.exit(0)

    def _check_resumed(self, path: str) -> None:
        """Compares this run with the one that wrote the checkpoint (see `resuming.check_resumed`)."""
        data = describe(self.datamodule) if isinstance(type(self.datamodule), Recorded) else None
        averaged, allowed = bool(self.options["ema_decay"]), self.options["resume_changed"]
        check_resumed(read_checkpoint(path), describe(self.model), data, self.model, averaged, allowed)

    def _check_images(self) -> None:
        """Compares the configured shape of the data's images with that of the learner.

        Raises:
            ValueError: they differ.
        """
        declared, taken = getattr(self.datamodule, "arguments", {}).get("image_shape"), self.model.learner.input_shape
        if declared is not None and tuple(declared) != tuple(taken):
            raise ValueError(
                f"data.image_shape: expected {list(taken)}, the images of the learner (and of the subject), "
                f"got {list(declared)}"
            )

    def _take_over(self, start: str | None, adapt: str | None) -> None:
        if start and adapt:
            raise ValueError("give one of --start_from (the same subject) and --adapt_from (another one), got both")
        if start:
            start_from(self.model, start)
        if adapt:
            anew = adapt_from(self.model, adapt)
            if _first_process():
                print(f"adapt_from: {len(anew)} tensors start anew: {', '.join(anew) or 'none'}", file=sys.stderr)

    def _share_batch(self, images: int) -> None:
        """Divides a batch of `images` among the processes.

        Raises:
            ValueError: they cannot have equal parts.
        """
        each, left = divmod(images, self.trainer.world_size)
        if each < 1 or left:
            raise ValueError(f"global_batch: expected a multiple of {self.trainer.world_size} processes, got {images}")
        self.datamodule.batch_size = each

    def before_fit(self) -> None:
        """Claims the folder.

        With `--overwrite true`, the files of the earlier run stay until the first checkpoint of this one is complete.
        Then those that it has not replaced yet are removed; other files in the folder are left alone.

        Raises:
            FileExistsError: another process trains in the folder.
            ValueError: there are more processes on CPUs than cores.
        """
        config, cores = self.config_init["fit"], os.cpu_count() or 1
        if self.trainer.strategy.root_device.type == "cpu" and self.trainer.num_devices > cores:
            raise ValueError(f"trainer.devices: expected at most {cores}, the cores, got {self.trainer.num_devices}")
        if config["trainer"]["fast_dev_run"] or not _first_process():
            return
        TrainCLI.lock = claim(self.folder)
        anew = config["overwrite"] and not config["ckpt_path"]
        if type(self.trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            self.trainer.strategy.checkpoint_io = saving(self.folder, anew)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self.options
        self.trainer_defaults["callbacks"] = self._callbacks()
        config["ckpt_path"], config["overwrite"] = None, False  # a saved config starts a new run
        if config["trainer"]["default_root_dir"] is None:
            kwargs["default_root_dir"] = str(self.folder)  # where files go without a logger
        logger = TensorBoardLogger(config["runs"], name=config["name"], version="")
        if "logger" in self.config_init["fit"]["trainer"] and self.config_init["fit"]["trainer"]["logger"] is None:
            kwargs["logger"] = logger
        if config["trainer"]["strategy"] == "fsdp":
            kwargs["strategy"] = FullyShardedStrategy()
        try:
            return super().instantiate_trainer(**kwargs)
        except TypeError as error:  # such as devices that are no number
            raise ValueError(f"trainer: {error}") from error

    def _callbacks(self) -> list[Callback]:
        config = self.options
        own = callbacks(self.folder, config["ema_decay"], config["checkpoint_minutes"], config["checkpoint_steps"])
        return own[:-1] if config["trainer"]["fast_dev_run"] else own  # which writes no files


def _say(text: str) -> None:
    if _first_process():
        print(text, file=sys.stderr)


def _first_process() -> bool:
    """Whether this is the first process of a run."""
    return next((int(os.environ[name]) for name in RANKS if name in os.environ), 0) == 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command. Errors of the user give one message and exit status 2.

    Args:
        arguments: None takes those of this process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    quiet()
    with explained(NonFiniteLoss, MisconfigurationException, ModuleNotFoundError):
        check_files(words)
        set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=list(allowed_imports()))
        try:
            _train(words)
        finally:
            if TrainCLI.lock is not None:
                release(TrainCLI.lock)
                TrainCLI.lock = None


def _train(arguments: list[str]) -> None:
    TrainCLI(
        Training,
        LightningDataModule,
        subclass_mode_data=True,
        seed_everything_default=0,
        trainer_defaults={"max_epochs": 10, **TRAINER},
        save_config_callback=SavedConfig,
        save_config_kwargs={"overwrite": True},
        parser_class=TrainParser,
        parser_kwargs={"prog": called("train"), "fit": {"usage": f"{called('train')} {USAGE}"}},
        args=["fit", *arguments],  # sys.argv itself must not change, because DDP's processes start with it
    )
