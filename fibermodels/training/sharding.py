"""Fully sharded training: parameters, gradients, optimizer state and averages split over the processes.

`--trainer.strategy fsdp` takes torch's `fully_shard` (FSDP2, one shard per parameter), which, unlike the older
wrapper, leaves names, optimizers, gradient clipping and elementwise averages as they are, works with frozen
parameters, and runs on the CPU, too.

Reference: Zhao et al., PyTorch FSDP, arXiv 2304.11277; Liang et al., TorchTitan, arXiv 2410.06511, section 2.
"""

from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

UNIT = 1_000_000
"""Parameters of a block that is gathered by itself; smaller ones are gathered with what holds them."""

STEPS = ("training_step", "validation_step")
"""What Lightning calls of a module instead of `forward`."""


class FullyShardedStrategy(ModelParallelStrategy):
    """One group of all processes; a checkpoint is one ordinary file, as of any other run.

    Args:
        options: as of Lightning's `ModelParallelStrategy`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False, **options)

    def setup_environment(self) -> None:
        """Before the processes meet: how many there are is known by now."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()


def shard(module: LightningModule, mesh: DeviceMesh) -> None:
    """Shards a module in place: the members of its lists of blocks that are large, then the rest.

    Parameters outside the blocks are whole from the beginning of a step to its end; those of a block, during its
    forward and its backward pass.
    """
    for parent in list(module.modules())[::-1]:  # inner blocks before those that hold them
        if isinstance(parent, (nn.ModuleList, nn.Sequential)):
            for child in parent:
                if sum(p.numel() for p in child.parameters()) >= UNIT and not isinstance(child, nn.ModuleList):
                    fully_shard(child, mesh=mesh, reshard_after_forward=True)
    fully_shard(module, mesh=mesh, reshard_after_forward=True)  # averages are swapped between two validation steps
    for name in STEPS:
        register_fsdp_forward_method(module, name)
