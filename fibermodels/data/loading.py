"""Batches of data sets, which continue exactly after an interruption."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler


class EpochSampler(DistributedSampler[Any]):
    """The order of a data set with `set_epoch` and `__getitems__`; it depends only on the seed and the epoch's number.

    A resumed run therefore gets the same batches as an uninterrupted one. Under DDP, each process gets every `world`-th
    index, so the batches of all processes together are those of a single process.
    """

    def __init__(self, dataset: Any, seed: int = 0, shuffle: bool = True) -> None:
        ranked = dist.is_available() and dist.is_initialized()
        world, rank = (dist.get_world_size(), dist.get_rank()) if ranked else (1, 0)
        super().__init__(dataset, world, rank, shuffle=shuffle, seed=seed)
        self.draws_anew = shuffle
        self.start = 0  # number of indices that the next pass skips

    def __iter__(self) -> Iterator[Any]:
        start, self.start = self.start, 0
        return iter(list(super().__iter__())[start:])

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        if self.draws_anew:
            self.dataset.set_epoch(epoch)  # type: ignore[attr-defined]


class ResumableLoader(DataLoader[Any]):
    """A loader that saves its position in the epoch, so an interrupted run resumes at the next batch.

    Lightning creates the iterator of a resumed run before it sets the epoch. Nothing is therefore read until the first
    batch is requested; otherwise workers would read another epoch.
    """

    given = 0
    """Batches of the epoch that were returned."""
    left_out = 0
    """Batches that the next pass skips."""

    def __iter__(self) -> Any:
        return self._batches()

    def _batches(self) -> Iterator[Any]:
        self.given, self.left_out = self.left_out, 0
        if isinstance(self.sampler, EpochSampler):
            self.sampler.start = self.given * (self.batch_size or 1)
        for batch in super().__iter__():
            self.given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """The position in the epoch, for Lightning's checkpoints."""
        return {"batches": self.given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.left_out = state["batches"]


def loader(sampler: EpochSampler, batch_size: int, workers: int = 0) -> DataLoader[Any]:
    """Batches of a data set; an incomplete last batch is dropped if the order is random.

    Args:
        sampler: the order.
        batch_size: inputs per batch and process.
        workers: processes that read ahead; they start in every epoch. 0 reads in this process.
    """
    drop_last = sampler.draws_anew and len(sampler) >= batch_size
    return ResumableLoader(
        sampler.dataset,
        batch_size,
        sampler=sampler,
        collate_fn=_as_it_is,
        drop_last=drop_last,
        num_workers=workers,
        pin_memory=workers > 0 and torch.cuda.is_available(),
    )


def stream(dataset: Any, batches: list[list[int]], workers: int = 0) -> Iterator[Any]:
    """Batches of a data set by their indices, in order; `workers` processes read ahead."""
    read: Iterable[Any] = (dataset.__getitems__(rows) for rows in batches)
    if workers and len(batches) > 1:
        read = DataLoader(dataset, batch_sampler=batches, num_workers=workers, collate_fn=_as_it_is)
    yield from read


def _as_it_is(batch: Any) -> Any:
    return batch
