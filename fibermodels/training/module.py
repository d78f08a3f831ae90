"""Training: the only LightningModule, and what it writes.

`Training` fits any `Trainable`: the subject's autoencoder, a latent space, a fiber model. Every step
seeds all random numbers from the run's seed, the epoch and the batch's number, so a run that resumes
continues exactly as if it had never stopped; and several processes draw what one would (see `rows`).
"""

import difflib
import math
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from fibermodels import distances
from fibermodels.component import fingerprint, reading
from fibermodels.config import Recorded, describe
from fibermodels.core import FiberModel, Pushforward, Subject, Supervised, Trainable, TrainableFiberModel
from fibermodels.data.loading import ResumableLoader
from fibermodels.models import FiberLoss
from fibermodels.noise import seeded
from fibermodels.training.rows import SharedRows
from fibermodels.training.sharding import shard

FORMAT = 1
"""Version of what a checkpoint holds under the key `fibermodels`."""


LAYER = "subject's layer"
"""What a checkpoint calls the reading of the subject's network."""


def own_part(checkpoint: Any, what: str) -> dict[str, Any]:
    """What this project adds to a checkpoint.

    Raises:
        ValueError: `what` is not a checkpoint of this project, or of another format.
    """
    own = checkpoint.get("fibermodels") if isinstance(checkpoint, dict) else None
    if not isinstance(own, dict) or "state_dict" not in checkpoint:
        raise ValueError(f"{what} is not a checkpoint of fibermodels")
    if own.get("format") != FORMAT:
        raise ValueError(f"{what} has checkpoint format {own.get('format')}; this version reads {FORMAT}")
    return own


class NonFiniteLoss(RuntimeError):
    """A loss term became NaN or infinite."""


def freeze_others(learner: Trainable, names: list[str]) -> None:
    """Leaves gradients to those parameters alone whose names begin with one of `names`.

    Raises:
        ValueError: a name with which no trainable parameter's name begins.
    """
    trained = {name: p for name, p in learner.named_parameters() if p.requires_grad}
    for start in names:
        if not any(name.startswith(start) for name in trained):
            known = sorted({".".join(name.split(".")[: start.count(".") + 1]) for name in trained})
            near = difflib.get_close_matches(start, known) or known
            raise ValueError(f"train_only: no trainable parameter's name begins with '{start}'; there are {near[:12]}")
    for name, parameter in trained.items():
        parameter.requires_grad_(name.startswith(tuple(names)))


def reseed(seed: int, device: torch.device) -> None:
    """Seeds what draws random numbers on the CPU and on `device`.

    `torch.manual_seed` does it for every kind of accelerator: where one is absent it notes the call,
    with the stack, for the day it appears. In every training step, that takes a millisecond.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type != "cpu":
        torch.manual_seed(seed)


def one_cycle(progress: float, rise: float) -> float:
    """The learning rate's share of its peak: a cosine up from 1/25 to 1 over `rise`, then one down to 0.

    A function of the progress alone, so a run that resumes with more epochs stretches it.
    """
    if progress < rise:
        return 1 - 0.48 * (1 + math.cos(math.pi * progress / rise))
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - rise) / (1 - rise))))


def labels_of(batch: dict[str, Tensor], learner: Trainable) -> Tensor:
    """The labels `y` of a batch.

    Raises:
        ValueError: it has none.
    """
    if "y" not in batch:
        raise ValueError(
            f"a {type(learner).__name__} trains on labels 'y'; the data's batches hold {sorted(batch)} alone"
        )
    return batch["y"]


class Training(LightningModule, metaclass=Recorded):
    """Minimises the mean of the summed loss terms with AdamW under a one-cycle schedule.

    Args:
        learner: what is trained.
        subject: the frozen network under study; None only where the subject itself is trained, with labels or without.
        fiber: the fiber loss, for a learner that can push noise to images.
        train_only: how the names of the learner's parameters begin that are trained, the others staying as they
            are: an encoder, say, on an inverter of another subject. None trains all.
        lr: peak learning rate.
        weight_decay: AdamW's decoupled weight decay.
        rise: share of the steps over which the learning rate rises; then it falls as a cosine.
        seed: of all that is random in training.
        preview: validation targets sampled and scored by their energy after each epoch; those in the first
            batch are scored by their fiber loss, too, and shown.
        same_noise: several processes train with the random numbers of one: each draws those of all, and keeps its
            rows. That takes memory for the noise of the whole batch; False lets each draw its own.
    """

    def __init__(
        self,
        learner: Trainable,
        subject: Subject | None = None,
        fiber: FiberLoss | None = None,
        train_only: list[str] | None = None,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        rise: float = 0.1,
        seed: int = 0,
        preview: int = 256,
        same_noise: bool = True,
    ) -> None:
        super().__init__()
        fiber = fiber or FiberLoss()
        if not lr > 0:
            raise ValueError(f"lr: expected a positive number, got {lr}")
        if not 0 < rise < 1:
            raise ValueError(f"rise: expected a share in (0, 1), got {rise}")
        if subject is None and isinstance(learner, FiberModel):
            raise ValueError(f"a {type(learner).__name__} needs the subject whose fibers it samples")
        if subject is not None and isinstance(learner, Supervised):
            raise ValueError(f"subject: a {type(learner).__name__} trains on labels and takes none")
        if subject is not None and subject.image_shape != learner.image_shape:
            raise ValueError(f"the subject takes images {subject.image_shape}, the learner {learner.image_shape}")
        if fiber.weight and not isinstance(learner, Pushforward):
            raise ValueError(f"fiber.weight {fiber.weight}: a {type(learner).__name__} pushes no noise to images")
        if train_only is not None:
            freeze_others(learner, train_only)
        self.learner, self.subject, self.fiber = learner, subject, fiber
        self.lr, self.weight_decay, self.rise = lr, weight_decay, rise
        self.seed, self.preview, self.same_noise = seed, preview, same_noise
        self.seconds = 0.0
        self._started: float | None = None
        self._pending: list[Tensor] = []
        self._sums: list[float] = []
        self._steps = 0
        self._fingerprints: dict[str, str] | None = None
        self._description: Any = None
        self._rows: AbstractContextManager[Any] = nullcontext()

    def configure_model(self) -> None:
        """Before the first step: what a checkpoint says of the module, then shards, where the strategy wants them."""
        if self._fingerprints is None:
            self._description, self._fingerprints = describe(self), self.frozen()
            if self.device_mesh is not None:
                shard(self, self.device_mesh["data_parallel"])

    def configure_optimizers(self) -> Any:
        """AdamW over the parameters that need gradients, stepped by the schedule."""
        parameters = [p for p in self.learner.parameters() if p.requires_grad]
        scaled = str(self.trainer.precision).startswith("16")  # a fused optimizer would undo that after the clipping
        optimizer = torch.optim.AdamW(parameters, lr=self.lr, weight_decay=self.weight_decay, fused=not scaled)
        steps = max(1, int(self.trainer.estimated_stepping_batches))  # none where latents are only encoded
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: one_cycle(step / steps, self.rise))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """As the trainer says. Under bfloat16 Lightning refuses to clip for a fused optimizer, as if
        gradients were scaled; they are not."""
        if gradient_clip_val and self.trainer.precision == "bf16-mixed" and gradient_clip_algorithm in (None, "norm"):
            torch.nn.utils.clip_grad_norm_(
                [p for group in optimizer.param_groups for p in group["params"]], gradient_clip_val
            )
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        """The objective on one batch; logs every term."""
        self._reseed("train", self.current_epoch, index)
        self._rows = self._shared_rows(batch)
        with self._rows:
            terms = self._terms(batch, self.global_step / max(1, int(self.trainer.estimated_stepping_batches)))
        means = self._means(terms)
        self._log_training({name: value.detach() for name, value in means.items()}, index)
        return means["loss"]

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """As ever; what gradient checkpointing draws again is what it drew."""
        with self._rows:
            super().backward(loss, *args, **kwargs)

    def _shared_rows(self, batch: dict[str, Tensor]) -> AbstractContextManager[Any]:
        """In which random numbers are those of a single process."""
        world = self.trainer.world_size
        if world == 1 or not self.same_noise:
            return nullcontext()
        return SharedRows(len(next(iter(batch.values()))), world, self.global_rank)

    def on_train_start(self) -> None:
        """Starts the clock, and goes to the place in the epoch where a run was interrupted."""
        self._started = time.perf_counter()
        batches = self.trainer.train_dataloader  # Lightning may have made it before it read the checkpoint
        if isinstance(batches, ResumableLoader):
            batches.left_out = self._steps if self._steps < self.trainer.num_training_batches else 0

    def on_train_epoch_start(self) -> None:
        """Forgets what an epoch that was interrupted had summed up. One that is resumed in its middle goes on."""
        self._started = time.perf_counter()
        self._pending, self._sums, self._steps = [], [], 0

    def validation_step(self, batch: dict[str, Tensor], index: int) -> None:
        """Loss and scores with the same random numbers after every epoch; samples once."""
        self._reseed("val", index)
        with self._shared_rows(batch):
            self._validate(batch, index)

    def _validate(self, batch: dict[str, Tensor], index: int) -> None:
        means = self._means(self._terms(batch))
        self._check_finite("val", means)
        for name, value in means.items():
            self.log(f"val/{name}", value, prog_bar=name == "loss", batch_size=len(batch["x"]), sync_dist=True)
        if isinstance(self.learner, Supervised):
            self._predictions.append((self.learner.predict(batch["x"]), labels_of(batch, self.learner)))
        h = self._represent(batch)
        for name, value in self.learner.scores(batch["x"], h).items():
            self.log(f"val/{name}", value.mean(), batch_size=len(value), sync_dist=True)
        if not index:
            self._previewed = 0
        left = -(-self.preview // self.trainer.world_size) - self._previewed
        if h is None or self.subject is None or left <= 0:
            return
        self._previewed += len(h)
        rows = slice(left)
        if isinstance(self.learner, FiberModel) and not index:
            self._preview(self.learner, self.subject, batch["x"][rows], h[rows])
        if isinstance(self.learner, TrainableFiberModel):
            self._log_energy(self.learner, batch["x"][rows], h[rows])

    def on_validation_epoch_start(self) -> None:
        """Forgets the predictions of an earlier epoch."""
        self._predictions: list[tuple[Tensor, Tensor]] = []

    def on_validation_epoch_end(self) -> None:
        """A supervised learner's figures of the whole split, over all processes."""
        if isinstance(self.learner, Supervised) and self._predictions:
            found = (torch.cat(parts) for parts in zip(*self._predictions, strict=True))
            predictions, y = (self._from_all(part) for part in found)
            for name, value in self.learner.split_scores(predictions.float(), y).items():
                self.log(f"val/{name}", value)

    def _from_all(self, part: Tensor) -> Tensor:
        """The rows of every process, each of which has as many."""
        if self.trainer.world_size == 1:
            return part
        gathered = self.all_gather(part)
        return torch.as_tensor(gathered).flatten(0, 1)

    def _reseed(self, stage: str, *where: int) -> None:
        rank = 0 if self.same_noise else self.global_rank
        reseed(seeded(stage, self.seed, *where, rank).initial_seed(), self.device)

    def _represent(self, batch: dict[str, Tensor]) -> Tensor | None:
        """What the loss is given beside the images: representations, or a supervised learner's labels."""
        if isinstance(self.learner, Supervised):
            return labels_of(batch, self.learner)
        if "h" in batch or self.subject is None:
            return batch.get("h")
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):  # a condition that is not rounded
            return self.subject(batch["x"])

    def _terms(self, batch: dict[str, Tensor], progress: float = 1.0) -> dict[str, Tensor]:
        terms, h, z = self.own_terms(batch)
        if self.fiber.weight and isinstance(self.learner, Pushforward) and self.subject is not None and h is not None:
            terms["fiber"] = self.fiber(self.learner, self.subject, h, z, progress, self.trainer.world_size)
        return terms

    def own_terms(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor | None, Tensor | None]:
        """The learner's own loss terms, representations, and latents, where there are such."""
        h = self._represent(batch)
        if isinstance(self.learner, TrainableFiberModel) and h is not None:
            z = batch["z"] if "z" in batch else self.learner.draw_latents(batch["x"], h)
            return dict(self.learner.latent_loss(z, h)), h, z
        return dict(self.learner.loss(batch["x"], h)), h, None

    @staticmethod
    def _means(terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """The mean of every term, and their sum, the loss."""
        means = {name: term.mean() for name, term in terms.items()}
        return {**means, "loss": torch.stack(list(means.values())).sum()}

    def _log_training(self, means: dict[str, Tensor], index: int) -> None:
        """Logs, and looks for NaN, every `log_every_n_steps` steps and before the epoch ends: the steps
        between do not wait for an accelerator to say what the loss was. A CPU is asked in every step."""
        trainer = self.trainer
        self._pending.append(torch.stack(list(means.values())))
        if self.device.type == "cpu":
            self._check_finite("train", means)
        last = trainer.is_last_batch or self.global_step + 1 == trainer.max_steps
        every: int = trainer.log_every_n_steps or 50  # type: ignore[attr-defined]
        if not last and (index + 1) % every:
            return
        now = dict(zip(means, self._pending[-1], strict=True))
        self._add_up()
        self._check_finite("train", dict(zip(means, torch.tensor(self._sums), strict=True)))  # a sum with a NaN is one
        for name, value in now.items():
            self.log(f"train/{name}_step", value, on_step=True, on_epoch=False, prog_bar=name == "loss", sync_dist=True)
        if last:
            for name, total in zip(means, self._sums, strict=True):
                mean = torch.tensor(total / self._steps, device=self.device)
                self.log(f"train/{name}", mean, on_step=False, on_epoch=True, batch_size=1, sync_dist=True)

    def _add_up(self) -> None:
        """Adds the steps since the last call to the epoch's sums, which a checkpoint keeps."""
        if not self._pending:
            return
        steps = torch.stack(self._pending).cpu().double()
        self._sums = (steps.sum(0) + (torch.tensor(self._sums).double() if self._sums else 0)).tolist()
        self._steps += len(steps)
        self._pending = []

    def _check_finite(self, stage: str, values: dict[str, Tensor]) -> None:
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if bad:
            terms = " and ".join(name for name in bad if name != "loss") or "sum"
            raise NonFiniteLoss(
                f"the loss term {terms} is not finite at step {self.global_step} "
                f"(epoch {self.current_epoch}, {stage}); the checkpoints of earlier epochs are kept"
            )

    @torch.no_grad()
    def _preview(self, model: FiberModel, subject: Subject, x: Tensor, h: Tensor) -> None:
        """Logs whether the condition is used, and leaves the samples where a callback finds them."""
        x_hat = model.sample(h, 1, seeded("preview", self.seed))[0]
        h_hat = subject(x_hat)
        fidelity = {
            "fiber_rms": distances.rms(h, h_hat),
            "fiber_rms_shuffled": distances.rms(h.roll(1, 0), h_hat),
        }
        for name, value in fidelity.items():
            self.log(f"val/{name}", value.mean(), prog_bar=True, batch_size=len(value), sync_dist=True)
        self.previewed = torch.stack((x, x_hat))

    @torch.no_grad()
    def _log_energy(self, model: TrainableFiberModel, x: Tensor, h: Tensor) -> None:
        """Logs a score that compares any two families over one latent space."""
        z = model.draw_latents(x, h)
        draws = [model.transport(torch.randn(len(h), *model.noise_shape, device=h.device), h) for _ in range(2)]
        energy = distances.energy_score(z, *draws).mean()
        self.log("val/energy_score", energy, batch_size=len(h), sync_dist=True)

    def on_train_epoch_end(self) -> None:
        """Reads the clock: validation counts, for it is part of what a user waits for."""
        self._read_clock()
        self._started = None
        self._sums, self._steps = [], 0

    def _read_clock(self) -> None:
        if self._started is not None:
            now = time.perf_counter()
            self.seconds, self._started = self.seconds + now - self._started, now

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what rebuilds the run: plain types, readable under `weights_only=True`."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        data = getattr(data, "source", data)  # cached latents are made of something
        self._read_clock()
        self._add_up()
        checkpoint["fibermodels"] = {
            "format": FORMAT,
            "training": self._description or describe(self),
            "data": describe(data) if isinstance(type(data), Recorded) else None,
            "frozen": self.frozen(),
            "seconds": self.seconds,
            "epoch": {"sums": self._sums_of_all(), "steps": self._steps},
        }

    def _sums_of_all(self) -> list[float]:
        """The epoch's sums so far, averaged over processes."""
        if not self._sums or self.trainer.world_size == 1:
            return self._sums
        mean: Tensor = self.trainer.strategy.reduce(torch.tensor(self._sums, device=self.device), reduce_op="mean")
        return mean.tolist()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses to resume on another subject, latent space or prior than the checkpoint's."""
        self.check_frozen(checkpoint)
        own = own_part(checkpoint, "the checkpoint")
        self.seconds = own.get("seconds", 0.0)
        epoch = own.get("epoch", {"sums": [], "steps": 0})
        self._sums, self._steps = epoch["sums"], epoch["steps"]

    def check_frozen(self, checkpoint: dict[str, Any], but: str | None = None) -> None:
        """Compares what both depend on and do not train.

        Args:
            checkpoint: of the other run.
            but: the name of what may differ, with all that is said of it.

        Raises:
            ValueError: the checkpoint was trained with another subject, latent space or prior.
        """
        theirs = own_part(checkpoint, "the checkpoint")["frozen"]
        for name, mine in self.frozen().items():
            if name not in theirs and name == LAYER:  # a checkpoint of an earlier version
                continue
            if (but is None or not name.startswith(but)) and theirs.get(name) != mine:
                raise ValueError(
                    f"the checkpoint was trained with another {name} (fingerprint {theirs.get(name)}) than this "
                    f"configuration names ({mine}): use the configuration, and the files, it was started with"
                )

    def frozen(self) -> dict[str, str]:
        """Fingerprints of what the run depends on and does not train."""
        if self._fingerprints is not None:  # what is sharded is not to be read
            return self._fingerprints
        parts: dict[str, torch.nn.Module | None] = {"subject": self.subject}
        if isinstance(self.learner, TrainableFiberModel):
            titles = {"latents": "latent space"}
            parts |= {titles.get(name, name): part for name, part in self.learner.frozen_parts().items()}
        found = {name: fingerprint(part) for name, part in parts.items() if part is not None}
        return found if self.subject is None else found | {LAYER: reading(self.subject)}
