"""Optimise the noise from which a model starts, through the whole model.

    e* = argmin_e  cost(G(e, h)),    e from N(0, I)

`G` is any `Pushforward`: a flow map, a conditional flow, or a prior with its sampler (`Unguided`). The noise may leave
its law; `keep_norm` holds it at the radius from which it started.

Two papers are configurations of this class:

    EquiDiff    optimizer="sgd", learning_rate=10, steps=512, stop=0.01, cost=LowPass(FiberDistance("l2_squared"))
    DiG-IN      optimizer="adam", keep_norm=True, clip=0.05, last=3, cost=Cutouts(cost), judge=cost

EquiDiff multiplies its cost by a number lambda that its text does not state: `WeightedSum([cost], [lambda])`, where the
threshold is `0.01 * lambda`, or a learning rate of `10 * lambda`.

References: EquiDiff, algorithm 1 and section 3.3; Augustin et al., DiG-IN, arXiv 2311.17833, section 3.
"""

import torch
from torch import Tensor

from fibermodels.checks import check_number
from fibermodels.core import FiberModel, Pushforward, Subject
from fibermodels.guidance.costs import Cost, FiberDistance
from fibermodels.guidance.descent import OptimizerName, check_descent, descend
from fibermodels.guidance.guided import Unguided
from fibermodels.guidance.objective import each
from fibermodels.noise import pushed


class NoiseOptimisation(FiberModel):
    """Gradient descent on the noise of a model, for every sample by itself; the answer is the best image seen.

    Args:
        model: the model; its weights do not change. `Unguided` with `checkpointing` needs the memory of one step.
        subject: the network whose fibers are sampled.
        cost: what is lowered; None takes the fiber's distance.
        steps: steps of the optimiser; 0 is the model itself.
        learning_rate: of the optimiser.
        optimizer: `sgd`, `adam`, `nadam` or `adagrad`.
        condition_learning_rate: of the condition that the model is told. The condition starts as the target, and the
            cost keeps the target; 0 does not change it.
        keep_norm: give every sample's noise its first norm back after each step.
        stop: a sample is done once its cost is below this number.
        clip: the largest absolute entry of a sample's gradient; a larger gradient is scaled down. None does not clip.
        last: how many of the sampler's last clean estimates the cost is averaged over, with weights 1, 2, ...;
            more than one needs an `Unguided`.
        judge: the cost that selects the best image and decides when to stop; None takes `cost` of the final image.

    Raises:
        ValueError: a number out of its range; `last` above 1 with another model, or above its steps; when sampling,
            a condition that the model ignores, costs that are not finite or not differentiable.
    """

    def __init__(
        self,
        model: Pushforward,
        subject: Subject,
        cost: Cost | None = None,
        steps: int = 100,
        learning_rate: float = 0.05,
        optimizer: OptimizerName = "adam",
        condition_learning_rate: float = 0.0,
        keep_norm: bool = False,
        stop: float | None = None,
        clip: float | None = None,
        last: int = 1,
        judge: Cost | None = None,
    ) -> None:
        super().__init__()
        check_descent("NoiseOptimisation", optimizer, steps, learning_rate)
        check_number("NoiseOptimisation", "condition_learning_rate", condition_learning_rate, least=0)
        check_number("NoiseOptimisation", "last", last, least=1)
        check_number("NoiseOptimisation", "clip", clip, above=0)
        if last > 1 and not (isinstance(model, Unguided) and last <= model.sampler.steps):
            raise ValueError(
                f"NoiseOptimisation: last = {last} needs an Unguided with as many steps, got {type(model).__name__}"
            )
        self.model, self.subject, self.cost, self.judge = model, subject, cost or FiberDistance(), judge
        self.steps, self.learning_rate, self.condition_learning_rate = steps, learning_rate, condition_learning_rate
        self.optimizer: OptimizerName = optimizer
        self.keep_norm, self.stop, self.clip, self.last = keep_norm, stop, clip, last
        self.network_calls = model.network_calls * (steps + 1)

    def _sample(self, h: Tensor, n: int, generator: torch.Generator | None, x: Tensor | None) -> Tensor:
        return pushed(self.optimise, self.model.noise_shape, h, n, generator)

    def optimise(self, noise: Tensor, h: Tensor) -> Tensor:
        """The best images `(B, C, H, W)` on the way from noise `(B, *noise_shape)`, without gradients."""
        norms = noise.flatten(1).norm(dim=1)

        def look(rows: Tensor, noise: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
            return self.evaluate(noise, h[rows], h[rows] if condition is None else condition)

        def restore(variables: list[Tensor]) -> None:
            now = variables[0].flatten(1).norm(dim=1).clamp(min=torch.finfo(norms.dtype).tiny)
            variables[0].mul_(each(norms / now, noise))

        start, rates = [noise], [self.learning_rate]
        if self.condition_learning_rate:
            start, rates = [noise, h], [self.learning_rate, self.condition_learning_rate]
        project = restore if self.keep_norm else None
        return descend(look, start, rates, self.steps, self.optimizer, self.stop, self.clip, project)

    def evaluate(self, noise: Tensor, h: Tensor, condition: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The loss `(B,)`, the images and the costs `(B,)` that judge them, differentiable in noise and condition."""
        if self.last > 1 and isinstance(self.model, Unguided):
            estimates = self.model.estimates(noise, condition, self.last)
        else:
            estimates = self.model.push(noise, condition)[None]
        costs = torch.stack([self.cost(self.subject, images, h) for images in estimates])
        weights = torch.arange(1, self.last + 1, device=costs.device, dtype=costs.dtype)
        loss = (weights[:, None] * costs).sum(0) / weights.sum()
        if self.judge is None:
            return loss, estimates[-1], costs[-1]
        with torch.no_grad():
            return loss, estimates[-1], self.judge(self.subject, estimates[-1], h)
