"""The applications as methods of a fiber model at hand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor

from fibermodels import applications
from fibermodels.core import FiberModel, Subject


class Applied(ABC):
    """Each method takes images as `Fitted.images` does, and the options of the function of its name in
    `fibermodels.applications`."""

    model: FiberModel
    subject: Subject

    @abstractmethod
    def images(self, given: Any) -> Tensor:
        """Images `(B, C, H, W)` in [0, 1] of the subject's shape."""

    def _apply(self, name: str, images: Any, options: dict[str, Any]) -> Any:
        return applications.APPLICATIONS[name](self.model, self.subject, self.images(images), **options)

    def invariance_map(self, images: Any, **options: Any) -> applications.InvarianceMap:
        """What the network ignores around each image."""
        return self._apply("invariance_map", images, options)

    def audit(self, images: Any, **options: Any) -> applications.Audit:
        """Whether the network decides by a spurious cue."""
        return self._apply("audit", images, options)

    def select(self, images: Any, **options: Any) -> applications.Selection:
        """Which members of each fiber are worth looking at."""
        return self._apply("select", images, options)

    def compare(self, images: Any, other: Applied | None = None, **options: Any) -> applications.Comparison:
        """What this network and another one cannot tell apart; None compares it with itself."""
        if other is not None:
            options |= {"other_model": other.model, "other_subject": other.subject}
        return self._apply("compare", images, options)

    def interpolate(self, images: Any, **options: Any) -> applications.Mixture:
        """Samples of conditions between those of two images."""
        return self._apply("interpolate", images, options)

    def compose(self, images: Any, **options: Any) -> applications.Mixture:
        """Samples of maps that are composed of those of two images."""
        return self._apply("compose", images, options)

    def counterfactual(self, images: Any, **options: Any) -> applications.Counterfactual:
        """What would have to change for another decision."""
        return self._apply("counterfactual", images, options)

    def steer(self, images: Any, **options: Any) -> applications.Steering:
        """What a concept inside the network looks like."""
        return self._apply("steer", images, options)

    def disagree(self, images: Any, **options: Any) -> applications.Disagreement:
        """On which images two classifiers differ most."""
        return self._apply("disagree", images, options)

    def maximise(self, images: Any, **options: Any) -> applications.Maximisation:
        """What a unit responds to."""
        return self._apply("maximise", images, options)
