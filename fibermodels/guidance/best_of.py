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
from fibermodels.core import Pushforward, Subject
from fibermodels.distances import DISTANCES, DistanceName
from fibermodels.spaces import HasInputSpace


class BestOf(Pushforward, HasInputSpace):
    """The nearest of so many draws of a model.

    Args:
        model: any model that pushes noise and a condition to an input.
        subject: the network whose fibers are sampled.
        draws: `m`, at least 1, which leaves the model's samples as they are.
        distance: of representations.

    Raises:
        ValueError: a number out of its range, or an unknown distance.
    """

    def __init__(self, model: Pushforward, subject: Subject, draws: int = 4, distance: DistanceName = "rms") -> None:
        super().__init__()
        check_number("BestOf", "draws", draws, least=1)
        check_choice("BestOf", "distance", distance, DISTANCES)
        self.model, self.subject, self.draws, self.distance = model, subject, draws, DISTANCES[distance]
        self.input_space, self.feature_shape = subject.input_space, tuple(subject.feature_shape)
        self.noise_shape = (draws, *model.noise_shape)
        self.network_calls = draws * model.network_calls

    def push(self, noise: Tensor, h: Tensor) -> Tensor:
        drawn = torch.stack([self.model.push(own, h) for own in noise.unbind(1)])
        seen = torch.stack([self.subject(images) for images in drawn])
        best = self.distance(h.expand_as(seen), seen, 2).argmin(0)
        return drawn[best, torch.arange(len(h), device=h.device)]
