"""The draw that is nearest to the fiber, of several: rejection sampling with a tolerance that each target sets.

    x_1, ..., x_m ~ q(x | h),   x_hat = x_i  with  i = argmin_j d(phi(x_j), h)

Drawing until `d < epsilon` samples `q(x | h, d < epsilon)`, the model's law near the fiber; here `m` sets the tolerance
instead, so the cost is known. A sample is an unchanged draw of the model. So what the model gets right stays right, and
nothing is added that only the subject sees, as gradients do. What is on the fiber and unlikely under the model is drawn
seldom, and the gain grows as slowly as the lowest of `m` distances falls.

References: Pritchard et al., Mol. Biol. Evol. 16 (1999), rejection by a distance of statistics (approximate Bayesian
computation); Biau, Cerou & Guyader, Ann. Inst. H. Poincare 51 (2015), the nearest draws in place of a tolerance.
"""

import torch
from torch import Tensor

from fibermodels.checks import check_choice, check_number
from fibermodels.core import FiberModel, Subject
from fibermodels.distances import DISTANCES, DistanceName
from fibermodels.noise import ROWS
from fibermodels.spaces import HasInputSpace


class BestOf(FiberModel, HasInputSpace):
    """The nearest of so many draws of a model.

    Args:
        model: any fiber model.
        subject: the network whose fibers are sampled.
        draws: `m`, at least 1, which leaves the model's samples as they are.
        distance: of representations.

    Raises:
        ValueError: a number out of its range, or an unknown distance.
    """

    def __init__(self, model: FiberModel, subject: Subject, draws: int = 4, distance: DistanceName = "rms") -> None:
        super().__init__()
        check_number("BestOf", "draws", draws, least=1)
        check_choice("BestOf", "distance", distance, DISTANCES)
        self.model, self.subject, self.draws, self.distance = model, subject, draws, DISTANCES[distance]
        self.input_space = subject.input_space
        self.network_calls = draws * model.network_calls

    def _sample(self, h: Tensor, n: int, generator: torch.Generator | None, x: Tensor | None) -> Tensor:
        drawn = self.model.sample(h, n * self.draws, generator, x)
        flat = drawn.flatten(0, 1)
        seen = torch.cat([self.subject(part) for part in flat.split(ROWS)]).unflatten(0, drawn.shape[:2])
        distances = self.distance(h.expand_as(seen), seen, 2).unflatten(0, (n, self.draws))
        best = distances.argmin(1) + self.draws * torch.arange(n, device=h.device)[:, None]
        return drawn[best, torch.arange(len(h), device=h.device)]
