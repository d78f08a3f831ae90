"""Checkpoints in the middle of an epoch: every so often, and when the machine is taken away."""

import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""What a cluster sends before it takes a machine away: SLURM's own, and that of `--signal=USR1@120`."""

EXIT_STATUS = 128 + signal.SIGTERM
"""Of a run that was taken away, as of any process that SIGTERM ends: not that of a finished one."""

AGREE_EVERY = 10
"""Several processes ask each other, after so many steps, whether it is time: that costs a wait."""


class Preemption(Callback):
    """Writes a checkpoint that an exact resumption starts from, between two steps of the optimizer.

    After SIGTERM or SIGUSR1 to any of its processes, the run writes it at the end of the step (of the tenth, with
    several processes) and ends with status 143. A checkpoint replaces the one before it whole or not at all.

    Args:
        path: the checkpoint.
        minutes: between two checkpoints; 0 for none by the clock.
        steps: of the optimizer between two checkpoints; 0 for none by their number.
    """

    def __init__(self, path: str | Path, minutes: float = 0, steps: int = 0) -> None:
        if minutes < 0 or steps < 0:
            raise ValueError(f"checkpoint_minutes, checkpoint_steps: expected 0 or more, got {minutes} and {steps}")
        self.path, self.minutes, self.steps = Path(path), minutes, steps
        self.taken = False
        self.earlier: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Listens. Lightning's own handlers save in the middle of a step, which cannot be resumed exactly."""
        self.saved, self.step = time.monotonic(), trainer.global_step
        self.earlier = {number: signal.signal(number, self._note) for number in SIGNALS}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.taken = True

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Saves where it is time. An epoch's last step is left to the checkpoint of the epoch."""
        stepped, self.step = trainer.global_step != self.step, trainer.global_step
        if not stepped or trainer.is_last_batch:  # in the middle of an accumulated gradient
            return
        late, taken = self._agreed(trainer, module)
        if late or taken or (self.steps and self.step % self.steps == 0):
            trainer.save_checkpoint(self.path, weights_only=False)
            self.saved = time.monotonic()
        if taken:
            self._say(trainer)
            raise SIGTERMException(EXIT_STATUS)

    def _agreed(self, trainer: Trainer, module: LightningModule) -> tuple[bool, bool]:
        """Whether it is time by the clock, and whether the machine is taken away: for one process, for all."""
        late = bool(self.minutes) and time.monotonic() - self.saved >= 60 * self.minutes
        if trainer.world_size == 1:
            return late, self.taken
        if self.step % AGREE_EVERY:
            return False, False
        flags = torch.tensor([late, self.taken], dtype=torch.int32, device=module.device)
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        late, taken = (bool(flag) for flag in flags.tolist())
        return late, taken

    @rank_zero_only
    def _say(self, trainer: Trainer) -> None:
        print(f"taken away at step {trainer.global_step}; resume with --ckpt_path last", file=sys.stderr, flush=True)

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        self._give_back()

    def teardown(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self.earlier.items():
            signal.signal(number, handler)
        self.earlier = {}
