"""Training: the only LightningModule.

`Training` fits any `Trainable`: a subject's autoencoder, a latent space, a fiber model. Every step seeds torch's
random numbers from the run's seed, the epoch, the batch and the process. So a run that is resumed with the same number
of processes continues exactly as if it had never stopped.
"""

import time
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from fibermodels.checks import check_choice, check_finite, check_number
from fibermodels.component import device_name
from fibermodels.config import Recorded, describe
from fibermodels.core import FiberModel, Pushforward, Subject
from fibermodels.data.loading import ResumableLoader
from fibermodels.models import FiberLoss
from fibermodels.noise import seeded
from fibermodels.trainable import Supervised, Trainable, TrainableFiberModel
from fibermodels.training.muon import Muon
from fibermodels.training.objective import EpochMeans, Terms, check_terms, energy, labels_of, own_terms, preview
from fibermodels.training.record import FORMAT, check_same, fingerprints, modernise
from fibermodels.training.schedule import freeze_others, one_cycle
from fibermodels.training.sharding import shard
from fibermodels.training.statistics import measure


class Training(LightningModule, metaclass=Recorded):
    """Minimises the mean of the summed loss terms by AdamW or Muon under a one-cycle schedule.

    Args:
        learner: what is trained.
        subject: the frozen network under study; None if the learner is itself the subject or needs none.
        fiber: the fiber loss, for a learner that can push noise to inputs.
        train_only: prefixes of the names of the parameters that are trained, for example those of the condition
            encoder if the inverter was trained for another subject. The others stay as they are. None trains all.
        learning_rate: the peak of the learning rate.
        optimizer: `adamw`; or `muon` (see `Muon`), which is far ahead in short trainings, at rates several times as
            high.
        weight_decay: decoupled, of all parameters.
        beta2: AdamW's memory of squared gradients, in (0, 1): it remembers about `1 / (1 - beta2)` steps.
        warmup: the share of the steps, in (0, 1), during which the learning rate grows; then it falls as a cosine.
        seed: the seed of all random numbers in training.
        preview: the number of validation targets that are sampled and scored by their energy after each epoch. Those in
            the first batch are also scored by their fiber RMS, and shown.

    Raises:
        ValueError: a number is out of range, or learner, subject and fiber loss do not fit together.
    """

    def __init__(
        self,
        learner: Trainable,
        subject: Subject | None = None,
        fiber: FiberLoss | None = None,
        train_only: list[str] | None = None,
        learning_rate: float = 1e-3,
        optimizer: Literal["adamw", "muon"] = "adamw",
        weight_decay: float = 0.01,
        beta2: float = 0.999,
        warmup: float = 0.1,
        seed: int = 0,
        preview: int = 256,
    ) -> None:
        super().__init__()
        fiber, name = fiber or FiberLoss(), type(learner).__name__
        check_number("Training", "learning_rate", learning_rate, above=0)
        check_choice("Training", "optimizer", optimizer, ("adamw", "muon"))
        check_number("Training", "weight_decay", weight_decay, least=0)
        check_number("Training", "beta2", beta2, above=0, below=1)
        check_number("Training", "warmup", warmup, above=0, below=1)
        check_number("Training", "preview", preview, least=0)
        if subject is None and isinstance(learner, FiberModel):
            raise ValueError(f"a {name} needs the subject whose fibers it samples")
        if subject is not None and isinstance(learner, Supervised):
            raise ValueError(f"subject: a {name} trains on labels and takes none")
        if subject is not None and subject.input_space != learner.input_space:
            theirs, own = subject.input_space, learner.input_space
            other = f"{own.word} {own.shape}" if own.word != theirs.word else f"{own.shape}"
            raise ValueError(f"the subject takes {theirs.word} {theirs.shape}, the learner {other}")
        if subject is not None and tuple(learner.feature_shape) not in ((), tuple(subject.feature_shape)):
            raise ValueError(
                f"{name}: feature_shape: expected {list(subject.feature_shape)}, the shape of the subject's "
                f"representations, or [], got {list(learner.feature_shape)}"
            )
        if fiber.weight and not isinstance(learner, Pushforward):
            raise ValueError(f"fiber.weight {fiber.weight}: a {name} pushes no noise to inputs")
        if train_only is not None:
            freeze_others(learner, train_only)
        self.learner, self.subject, self.fiber = learner, subject, fiber
        self.learning_rate, self.optimizer, self.weight_decay = learning_rate, optimizer, weight_decay
        self.beta2, self.warmup = beta2, warmup
        self.seed, self.preview = seed, preview
        self.seconds, self.earlier_steps = 0.0, 0  # with those of the run that it started from
        self.epoch_means = EpochMeans()
        self._started: float | None = None
        self._fingerprints: dict[str, str] | None = None
        self._description: Any = None

    def configure_model(self) -> None:
        """Stores the description and the fingerprints for checkpoints, before the strategy shards the module."""
        if self._fingerprints is None:
            self._description, self._fingerprints = describe(self), self.frozen()
            if self.device_mesh is not None:
                shard(self, self.device_mesh["data_parallel"])

    def configure_optimizers(self) -> Any:
        parameters = [p for p in self.learner.parameters() if p.requires_grad]
        scaled = str(self.trainer.precision).startswith("16")  # a fused optimizer would undo that after the clipping
        numbers: dict[str, Any] = {
            "lr": self.learning_rate,
            "betas": (0.9, self.beta2),
            "weight_decay": self.weight_decay,
        }
        muon = self.optimizer == "muon"
        optimizer = Muon(parameters, **numbers) if muon else torch.optim.AdamW(parameters, **numbers, fused=not scaled)
        steps = self._planned_steps()
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: one_cycle(step / steps, self.warmup))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _planned_steps(self) -> int:
        return max(1, int(self.trainer.estimated_stepping_batches))  # 0 if latents are only encoded

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips gradients as the trainer's options say.

        In bfloat16, Lightning refuses to clip for a fused optimizer, because gradients might be scaled. Here they are
        not.
        """
        if gradient_clip_val and self.trainer.precision == "bf16-mixed" and gradient_clip_algorithm in (None, "norm"):
            torch.nn.utils.clip_grad_norm_(
                [p for group in optimizer.param_groups for p in group["params"]], gradient_clip_val
            )
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        """The objective on one batch; logs every term.

        A CPU checks inputs and losses in every step. An accelerator checks them only in steps that are logged, so other
        steps do not wait for it.
        """
        self._reseed("train", self.current_epoch, index)
        last = self.trainer.is_last_batch or self.global_step + 1 == self.trainer.max_steps
        every: int = self.trainer.log_every_n_steps or 50  # type: ignore[attr-defined]
        logged = last or (index + 1) % every == 0
        checked = logged or self.device.type == "cpu"
        terms = self._terms(batch, index, self.global_step / self._planned_steps(), checked).values
        self._log_training({name: value.detach() for name, value in terms.items()}, logged, last)
        return terms["loss"]

    def on_train_start(self) -> None:
        """Measures the statistics of conditions, starts the clock, and skips the batches that an interrupted run has
        already used."""
        self.measure_condition()
        self._started = time.perf_counter()
        batches, steps = self.trainer.train_dataloader, self.epoch_means.steps
        if isinstance(batches, ResumableLoader):  # Lightning may have made it before it read the checkpoint
            batches.left_out = steps if steps < self.trainer.num_training_batches else 0

    def measure_condition(self) -> None:
        """Measures the statistics of representations, unless the weights contain them already."""
        if self.subject is not None:
            data, say = self.trainer.datamodule, self.trainer.is_global_zero  # type: ignore[attr-defined]
            measure(self.learner, self.subject, data, self.device, say)

    def on_train_epoch_start(self) -> None:
        """Starts the sums of an epoch. Lightning does not call this method if an epoch is resumed in its middle."""
        self._started = time.perf_counter()
        self.epoch_means.restart()

    def validation_step(self, batch: dict[str, Tensor], index: int) -> None:
        """Loss and scores, with the same random numbers after every epoch; samples for the first targets."""
        self._reseed("val", index)
        terms, h, z, _ = self._terms(batch, index)
        check_terms(terms, self._where("val"))
        for name, value in terms.items():
            self.log(f"val/{name}", value, prog_bar=name == "loss", batch_size=len(batch["x"]), sync_dist=True)
        if isinstance(self.learner, Supervised):
            self._predictions.append((self.learner.predict(batch["x"]), labels_of(batch, self.learner)))
        for name, value in self.learner.scores(batch["x"], h).items():
            self.log(f"val/{name}", value.mean(), batch_size=len(value), sync_dist=True)
        if not index:
            self._previewed = 0
        left = -(-self.preview // self.trainer.world_size) - self._previewed
        if h is None or self.subject is None or left <= 0:
            return
        self._previewed += len(h)
        x, h = batch["x"][:left], h[:left]
        if isinstance(self.learner, FiberModel) and not index:
            generator = seeded("preview", self.seed, self.global_rank)
            x_hat, fidelity = preview(self.learner, self.subject, x, h, generator)
            for name, value in fidelity.items():
                self.log(f"val/{name}", value.mean(), prog_bar=True, batch_size=len(value), sync_dist=True)
            self.previewed = torch.stack((x, x_hat))
        if isinstance(self.learner, TrainableFiberModel) and z is not None:
            score = energy(self.learner, z[:left], h)
            self.log("val/energy_score", score, batch_size=len(h), sync_dist=True)

    def on_validation_epoch_start(self) -> None:
        self._predictions: list[tuple[Tensor, Tensor]] = []

    def on_validation_epoch_end(self) -> None:
        """Logs a supervised learner's scores of the whole split, over all processes."""
        if isinstance(self.learner, Supervised) and self._predictions:
            found = (torch.cat(parts) for parts in zip(*self._predictions, strict=True))
            if self.trainer.world_size > 1:
                found = (torch.as_tensor(self.all_gather(part)).flatten(0, 1) for part in found)
            predictions, y = found
            for name, value in self.learner.split_scores(predictions.float(), y).items():
                self.log(f"val/{name}", value)

    def _reseed(self, stage: str, *where: int) -> None:
        """Seeds torch's random numbers on the CPU and on the module's device.

        `torch.manual_seed` seeds every kind of accelerator. For one that is not in use, it stores the call with its
        stack, which would take a millisecond in every training step.
        """
        seed = seeded(stage, self.seed, *where, self.global_rank).initial_seed()
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        elif self.device.type != "cpu":
            torch.manual_seed(seed)

    def _terms(self, batch: dict[str, Tensor], index: int, progress: float = 1.0, checked: bool = True) -> Terms:
        """The terms' means and their sum, the loss; what the loss was told; and latents.

        Raises:
            ValueError: inputs, representations or latents are not finite (if `checked`).
        """
        found = own_terms(self.learner, self.subject, batch)
        terms, h, z = dict(found.values), found.h, found.z
        if checked:
            told = None if isinstance(self.learner, Supervised) else h  # labels may be unknown
            for name, value in (("inputs x", batch.get("x")), ("representations h", told), ("latents z", z)):
                if value is not None:
                    check_finite(value, f"{name} in batch {index} of epoch {self.current_epoch}")
        if self.fiber.weight and isinstance(self.learner, Pushforward) and self.subject is not None and h is not None:
            processes = self.trainer.world_size
            own = (self.learner, self.subject, h, z)
            terms["fiber"] = self.fiber(*own, progress, processes, batch.get("x"), found.drawn)
        means = {name: term.mean() for name, term in terms.items()}
        return Terms({**means, "loss": torch.stack(list(means.values())).sum()}, h, z)

    def _log_training(self, terms: dict[str, Tensor], logged: bool, last: bool) -> None:
        self.epoch_means.add(terms)
        if self.device.type == "cpu":
            check_terms(terms, self._where("train"))
        if not logged:
            return
        totals = dict(zip(terms, self.epoch_means.total(), strict=True))
        check_terms({name: torch.tensor(total) for name, total in totals.items()}, self._where("train"))
        for name, value in terms.items():
            self.log(f"train/{name}_step", value, on_step=True, on_epoch=False, prog_bar=name == "loss", sync_dist=True)
        if last:
            for name, total in totals.items():
                mean = torch.tensor(total / self.epoch_means.steps, device=self.device)
                self.log(f"train/{name}", mean, on_step=False, on_epoch=True, batch_size=1, sync_dist=True)

    def _where(self, stage: str) -> str:
        return f"step {self.global_step} (epoch {self.current_epoch}, {stage})"

    def on_train_epoch_end(self) -> None:
        """Adds the time of the epoch, with its validation."""
        self._read_clock()
        self._started = None
        self.epoch_means.restart()

    def _read_clock(self) -> None:
        if self._started is not None:
            now = time.perf_counter()
            self.seconds, self._started = self.seconds + now - self._started, now

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the description of the run in plain types, which can be read with `weights_only=True`."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        data = getattr(data, "source", data)  # cached latents are made of other data
        self._read_clock()
        sums = self.epoch_means.total()
        if sums and self.trainer.world_size > 1:
            mean: Tensor = self.trainer.strategy.reduce(torch.tensor(sums, device=self.device), reduce_op="mean")
            sums = mean.tolist()
        checkpoint["fibermodels"] = {
            "format": FORMAT,
            "training": self._description or describe(self),
            "data": describe(data) if isinstance(type(data), Recorded) else None,
            "frozen": self.frozen(),
            "seconds": self.seconds,
            "earlier_steps": self.earlier_steps,
            "device": device_name(self.device),
            "epoch": {"sums": sums, "steps": self.epoch_means.steps},
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses to resume with another subject, latent space or prior than the checkpoint's."""
        own = modernise(checkpoint, "the checkpoint")
        self.check_frozen(checkpoint)
        self.seconds, self.earlier_steps = own.get("seconds", 0.0), own.get("earlier_steps", 0)
        self.epoch_means.restart(**own.get("epoch", {}))

    def check_frozen(self, checkpoint: dict[str, Any], but: str = "") -> None:
        """Compares the frozen parts of this run and of a checkpoint (see `record.check_same`)."""
        check_same(self.frozen(), self.subject, checkpoint, but)

    def frozen(self) -> dict[str, str]:
        """Fingerprints of the frozen parts; they are stored before the weights are sharded."""
        return self._fingerprints or fingerprints(self.learner, self.subject)
