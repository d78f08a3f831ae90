"""Fully sharded training: each process stores a part of the parameters, gradients, optimizer state and averages.

`--trainer.strategy fsdp` uses torch's `fully_shard` (FSDP2), which shards every parameter by itself. Names, optimizers,
gradient clipping and averages work as without shards, parameters may be frozen, and it also runs on a CPU.

Reference: Zhao et al., PyTorch FSDP, arXiv 2304.11277; Liang et al., TorchTitan, arXiv 2410.06511, section 2.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from fibermodels.nn import Standardise

UNIT = 1_000_000
"""Blocks with at least this many parameters are gathered by themselves; smaller ones with the module around them."""

STEPS = ("training_step", "validation_step", "measure_condition")
"""Methods that use the weights as `forward` does: the weights are gathered while such a method runs."""


class FullyShardedStrategy(ModelParallelStrategy):
    """Shards over all processes. A checkpoint is one ordinary file, from which any other strategy can resume.

    Args:
        options: the options of Lightning's `ModelParallelStrategy`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False, **options)

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Whether Lightning passes the optimizer's state to this strategy, as it does to most others."""
        return True

    def setup_environment(self) -> None:
        """Sets the number of processes, which is known now, before they form a group."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        state = optimizer.state_dict()
        whole = {
            index: {name: put_together(value) for name, value in values.items()}
            for index, values in state["state"].items()
        }
        return {**state, "state": whole} if self.is_global_zero else {}

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads the file as most other strategies do."""
        return Strategy.load_checkpoint(self, checkpoint_path, weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        options = StateDictOptions(full_state_dict=True, strict=strict)
        if self.model is None:
            raise RuntimeError("FullyShardedStrategy: a state was loaded before there was a module")
        model, state = self.model, checkpoint["state_dict"]
        held = set(state)  # torch adds names to the state
        set_model_state_dict(model, state, options=options)
        for name, module in model.named_modules():  # added statistics are not measured
            if isinstance(module, Standardise):
                module.measured = f"{name}.mean" in held

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Each process takes its shard of every tensor that has its parameter's shape."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            own = {
                index: {
                    name: sharded_like(weights[index], value) if value.shape == weights[index].shape else value
                    for name, value in values.items()
                }
                for index, values in state["state"].items()
            }
            optimizer.load_state_dict({**state, "state": own})


def shard(module: LightningModule, mesh: DeviceMesh) -> None:
    """Shards a module in place: first the large blocks in its lists of modules, then the rest.

    The parameters of a block are gathered during its forward and its backward pass, and all others during a whole step.
    """
    for parent in list(module.modules())[::-1]:  # inner blocks first
        if isinstance(parent, (nn.ModuleList, nn.Sequential)):
            for child in parent:
                if sum(p.numel() for p in child.parameters()) >= UNIT and not isinstance(child, nn.ModuleList):
                    fully_shard(child, mesh=mesh, reshard_after_forward=True)
    fully_shard(module, mesh=mesh, reshard_after_forward=True)  # because averages replace weights in validation
    for name in STEPS:
        register_fsdp_forward_method(module, name)


def own_shard(weight: Tensor) -> Tensor:
    """This process's part of a weight; it shares the weight's memory."""
    with torch.no_grad():
        return weight.to_local() if isinstance(weight, DTensor) else weight.detach()


def put_together(value: Any) -> Any:
    """The whole tensor of a sharded one, on the CPU; other values are unchanged. All processes must call it."""
    return value.full_tensor().cpu() if isinstance(value, DTensor) else value


def sharded_like(weight: Tensor, whole: Tensor) -> Tensor:
    """Distributes a whole tensor as `weight` is distributed."""
    whole = whole.to(weight.device)
    return distribute_tensor(whole, weight.device_mesh, weight.placements) if isinstance(weight, DTensor) else whole


def as_part_of(weight: Tensor, part: Tensor) -> Tensor:
    """The tensor that is distributed as `weight` is, from this process's part of it."""
    if not isinstance(weight, DTensor):
        return part
    return DTensor.from_local(
        part, weight.device_mesh, weight.placements, shape=weight.shape, stride=weight.stride(), run_check=False
    )
