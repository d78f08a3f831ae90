"""Bytes and steps of a run that follow from its configuration alone."""

from dataclasses import dataclass

from fibermodels.training.module import Training


@dataclass(frozen=True)
class Sizes:
    """Parameters by part, and the bytes that go with them."""

    parts: dict[str, tuple[int, int]]
    """Trained and frozen parameters of each part."""
    weights: int
    """Bytes of parameters and buffers."""
    trained: int
    """Bytes of what is trained: also of its gradients, and of its averages; the optimizer has twice as many."""

    @classmethod
    def of(cls, module: Training) -> "Sizes":
        """Counts every parameter once."""
        parts: dict[str, tuple[int, int]] = {}
        for name, p in module.named_parameters():
            part = ".".join(name.split(".")[: 2 if name.startswith("learner.") else 1])
            trained, frozen = parts.get(part, (0, 0))
            parts[part] = (trained + p.numel(), frozen) if p.requires_grad else (trained, frozen + p.numel())
        state = [*module.parameters(), *module.buffers()]
        weights = sum(value.numel() * value.element_size() for value in state)
        return cls(parts, weights, sum(p.numel() * p.element_size() for p in module.parameters() if p.requires_grad))

    def memory(self, averaged: bool, processes: int = 1, unit: int = 0) -> float:
        """Bytes per process without activations, sharded over `processes`; `unit` bytes are gathered at a time."""
        copies = 4 if averaged else 3  # gradient, two moments, average
        return (self.weights + copies * self.trained) / processes + (unit if processes > 1 else 0)

    def checkpoint(self, averaged: bool) -> int:
        """Bytes of a checkpoint at most: averages or weights with all that is frozen, weights, two moments."""
        return self.weights + (3 if averaged else 2) * self.trained


@dataclass(frozen=True)
class Steps:
    """How often a run steps."""

    images: int
    """Of the training set."""
    batch: int
    """Images per process and batch."""
    processes: int
    accumulated: int
    epochs: int
    limit: int
    """Steps at most; -1 for none."""

    @property
    def per_epoch(self) -> int:
        """Steps of the optimizer: incomplete batches are dropped, an incomplete accumulation is not."""
        each = -(-self.images // self.processes)
        return -(-max(1, each // self.batch) // self.accumulated)

    @property
    def total(self) -> int:
        """Of the whole run."""
        planned = self.per_epoch * self.epochs if self.epochs >= 0 else self.limit
        return planned if self.limit < 0 else min(planned, self.limit)

    @property
    def samples(self) -> int:
        """Images seen, by all processes."""
        return self.total * self.batch * self.processes * self.accumulated
