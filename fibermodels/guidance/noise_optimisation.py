"""Optimise the noise that a model starts from, through the whole model.

    e* = argmin_e  cost(G(e, h)),    e from N(0, I)

`G` is any `Pushforward`: a flow map, a conditional flow, or a prior with its sampler (`Unguided`). What it makes
stays in its range, so the image cannot leave what the model knows, whereas the noise may leave its law:
`keep_norm` holds it at the radius it started from.

Two papers as configurations:

    EquiDiff    optimizer="sgd", lr=10, steps=512, stop=0.01, cost=LowPass(FiberDistance("squared"))
    DiG-IN      optimizer="adam", keep_norm=True, clip=0.05, last=3, cost=Cutouts(cost), judge=cost

EquiDiff's distance is the sum of squares, and `squared` is their mean: `WeightedSum` has the factor.

References: EquiDiff, algorithm 1 and section 3.3; Augustin et al., DiG-IN, arXiv 2311.17833, section 3.
"""

import torch
from torch import Tensor

from fibermodels.core import FiberModel, Pushforward, Subject
from fibermodels.guidance.costs import Cost, FiberDistance
from fibermodels.guidance.descent import OptimizerName, check_descent, descend
from fibermodels.guidance.guided import Unguided
from fibermodels.noise import pushed


class NoiseOptimisation(FiberModel):
    """Gradient descent on the noise of a model, for every sample by itself; its answer is the best image seen.

    Args:
        model: the model; its weights stay as they are. `Unguided` with `checkpointing` needs the memory of one
            step of its sampler only.
        subject: the network whose fibers are sampled.
        cost: what is lowered; None takes the fiber's distance.
        steps: steps of the optimiser; 0 is the model itself.
        lr: its learning rate.
        optimizer: `sgd`, `adam` or `nadam`.
        condition_lr: learning rate of the condition that the model is given, which starts as the target (the
            cost keeps the target); 0 leaves it.
        keep_norm: give every sample's noise its first norm back after each step.
        stop: a sample is done once its cost is below.
        clip: the largest absolute entry of a sample's gradient, which is scaled down to it; None does not clip.
        last: descend the mean cost of the last so many clean estimates of the sampler, with weights 1, 2, ...;
            above 1, it takes an `Unguided`.
        judge: the cost that tells the best image and when to stop; None takes that of the final image in `cost`.

    Raises:
        ValueError: bad numbers; `last` above 1 with another model, or above its steps; when sampling, `condition_lr`
            with a model that ignores its condition, costs that are not finite or not differentiable.
    """

    def __init__(
        self,
        model: Pushforward,
        subject: Subject,
        cost: Cost | None = None,
        steps: int = 100,
        lr: float = 0.05,
        optimizer: OptimizerName = "adam",
        condition_lr: float = 0.0,
        keep_norm: bool = False,
        stop: float | None = None,
        clip: float | None = None,
        last: int = 1,
        judge: Cost | None = None,
    ) -> None:
        super().__init__()
        check_descent("NoiseOptimisation", optimizer, steps, lr)
        if not condition_lr >= 0:
            raise ValueError(f"NoiseOptimisation: condition_lr must be at least 0, got {condition_lr}")
        if clip is not None and not clip > 0:
            raise ValueError(f"NoiseOptimisation: clip must be positive, got {clip}")
        if last < 1:
            raise ValueError(f"NoiseOptimisation: last must be at least 1, got {last}")
        if last > 1 and not (isinstance(model, Unguided) and last <= model.steps):
            raise ValueError(
                f"NoiseOptimisation: last = {last} takes an Unguided with as many steps, got {type(model).__name__}"
            )
        self.model, self.subject, self.cost, self.judge = model, subject, cost or FiberDistance(), judge
        self.steps, self.lr, self.condition_lr = steps, lr, condition_lr
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
            variables[0].mul_((norms / now).view(-1, *(1 for _ in noise.shape[1:])))

        start, lr = ([noise, h], [self.lr, self.condition_lr]) if self.condition_lr else ([noise], [self.lr])
        project = restore if self.keep_norm else None
        return descend(look, start, lr, self.steps, self.optimizer, self.stop, self.clip, project)

    def evaluate(self, noise: Tensor, h: Tensor, condition: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The loss `(B,)`, the images and the costs `(B,)` that judge them, differentiable in noise and condition."""
        if self.last > 1 and isinstance(self.model, Unguided):
            estimates = self.model.estimates(noise, condition, self.last)
        else:
            estimates = self.model.push(noise, condition)[None]
        costs = torch.stack([self.cost(self.subject, images, h) for images in estimates])
        weights = torch.arange(1, self.last + 1, device=costs.device, dtype=costs.dtype)
        loss = (weights[:, None] * costs).sum(0) / weights.sum()
        images = estimates[-1]
        if self.judge is None:
            return loss, images, costs[-1]
        with torch.no_grad():
            return loss, images, self.judge(self.subject, images, h)
