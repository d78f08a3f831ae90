"""Averages of the trained weights. Each process averages its own shard."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from fibermodels.checks import check_number
from fibermodels.training.sharding import as_part_of, own_shard, put_together, sharded_like


def decay_at(updates: int, decay: float) -> float:
    """`min(decay, (1 + n) / (10 + n))` after `n` updates, and 0 for the first update, which copies the weights.

    With a constant decay of .999, the average after 200 steps would still consist of the initial weights to 82 %.
    """
    return min(decay, (1 + updates) / (10 + updates)) if updates else 0.0


class AveragedWeights(Callback):
    """An exponential moving average of the weights, for validation and checkpoints.

    After each step, `a + (1 - decay) (w - a)` replaces the average `a` of the weights `w`; the decay grows over the
    first steps (see `decay_at`). Only trained weights have averages; buffers have none. A checkpoint contains the
    averages in `state_dict` and the weights in `current_model_state`.

    Args:
        decay: a number in (0, 1), reached after about `10 / (1 - decay)` steps.
    """

    def __init__(self, decay: float) -> None:
        check_number("AveragedWeights", "decay", decay, above=0, below=1)
        self.decay = decay
        self._forget()

    def _forget(self) -> None:
        self.names: list[list[str]] = []
        self.weights: list[Tensor] = []
        self.shards: list[Tensor] = []
        self.averages: list[Tensor] = []
        self.updates, self.latest = 0, 0
        self.resumed: dict[str, Tensor] = {}

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """A training starts with no averages."""
        if stage == "fit":
            self._forget()

    @torch.no_grad()
    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Starts the averages. A resumed module has loaded the averages; here it gets its own weights back."""
        names: dict[Tensor, list[str]] = {}
        for name, weight in module.named_parameters(remove_duplicate=False):
            if weight.requires_grad:
                names.setdefault(weight, []).append(name)
        self.weights, self.names = list(names), list(names.values())
        self.shards = [own_shard(weight) for weight in self.weights]
        self.averages = [shard.clone() for shard in self.shards]
        for i, (name, *_) in enumerate(self.names):
            if name in self.resumed:
                self.shards[i].copy_(own_shard(sharded_like(self.weights[i], self.resumed[name])))
        self.resumed = {}

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        if trainer.global_step == self.latest:
            return
        self.latest = trainer.global_step
        torch._foreach_lerp_(self.averages, self.shards, 1 - decay_at(self.updates, self.decay))
        self.updates += 1

    def on_validation_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._swap()

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for average, shard in zip(self.averages, self.shards, strict=True):
            kept = shard.clone()
            shard.copy_(average)
            average.copy_(kept)

    @torch.no_grad()
    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        for average, shard in zip(self.averages, self.shards, strict=True):
            shard.copy_(average)

    def state_dict(self) -> dict[str, Any]:
        return {"latest_update_step": self.latest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.latest = state_dict["latest_update_step"]

    @torch.no_grad()
    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Stores the averages in place of the weights. All processes gather the shards; one has the other state."""
        if not self.averages:
            return
        state = checkpoint["state_dict"]
        averages, current = {}, {}
        for names, weight, average in zip(self.names, self.weights, self.averages, strict=True):
            whole = put_together(as_part_of(weight, average))
            for name in names:
                if name in state:
                    averages[name], current[name] = whole, state[name]
        checkpoint["state_dict"] = {**state, **averages}
        checkpoint["current_model_state"] = current
        checkpoint["averaging_state"] = {"n_averaged": torch.tensor(self.updates)}

    def on_load_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keeps the weights until training starts, when the module is on its device and sharded."""
        self.resumed = dict(checkpoint.get("current_model_state", {}))
        self.updates = int(checkpoint.get("averaging_state", {}).get("n_averaged", 0))
