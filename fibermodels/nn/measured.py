"""Modules whose buffers are statistics of the training set, measured once before the first step."""

from typing import Any

from torch import nn


class Measured(nn.Module):
    """Its buffers are measured, not trained. Until then they are not part of the saved weights."""

    shape: tuple[int, ...]
    """Of one row of what is measured."""

    def __init__(self) -> None:
        super().__init__()
        self.measured = False
        """Whether the statistics are those of data, and belong to the weights."""
        self.settled = False
        """Whether the weights around it were trained with these statistics already, so that they must stay."""

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        if self.measured:
            super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        self.settled = True
        if any(f"{prefix}{name}" in state_dict for name in self._buffers):
            super()._load_from_state_dict(state_dict, prefix, *rest)
            self.measured = True
