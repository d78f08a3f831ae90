"""Optimise the noise from which a model starts, through the whole model.

    e* = argmin_e  cost(G(e, h)),    e from N(0, I)

`G` is any `Pushforward`: a flow map, a conditional flow, or a prior with its sampler (`Unguided`). The noise may leave
its law; `keep_norm` holds it at the radius from which it started. Where `G` is a `Prompted` prior with its sampler,
what each call of the network is told may be optimised beside the noise: prompts `C_t` and null-texts `N_t`, one of each
for every call, which start as the prior's own,

    (e*, C_1*, ..., C_T*, N_1*, ..., N_T*) = argmin  cost(G(e, C_1, ..., C_T, N_1, ..., N_T)).

Two papers are configurations of this class:

    EquiDiff    optimizer="sgd", learning_rate=10, steps=512, stop=0.01, cost=LowPass(FiberDistance("l2_squared"))
    DiG-IN      optimizer="adam", learning_rate=0.001, prompt_learning_rate=0.01, null_learning_rate=0.01, steps=20,
                keep_norm=True, last=3, cost=Cutouts(cost), judge=cost, background=Background(Attended(tokens), 250)

EquiDiff multiplies its cost by a number lambda that its text does not state: `WeightedSum([cost], [lambda])`, where the
threshold is `0.01 * lambda`, or a learning rate of `10 * lambda`.

References: EquiDiff, algorithm 1 and section 3.3; Augustin et al., DiG-IN, arXiv 2311.17833, section 3, algorithms 1
and 2, and appendix D.1.5.
"""

from itertools import count

import torch
from torch import Tensor

from fibermodels.checks import check_number, check_numbers
from fibermodels.core import FiberModel, Pushforward, Subject
from fibermodels.guidance.background import Background
from fibermodels.guidance.costs import Cost, FiberDistance
from fibermodels.guidance.descent import OptimizerName, check_descent, descend
from fibermodels.guidance.guided import Unguided
from fibermodels.guidance.objective import each
from fibermodels.guidance.per_call import check_rates, told
from fibermodels.noise import pushed


class NoiseOptimisation(FiberModel):
    """Gradient descent on the noise of a model, for every sample by itself; the answer is the best image seen.

    Args:
        model: the model; its weights do not change. `Unguided` with `checkpointing` needs the memory of one step.
        subject: the network whose fibers are sampled.
        cost: what is lowered, with fresh random numbers in every step (`Cost.at`); None takes the fiber's distance.
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
        prompt_learning_rate: of the prompts, one for every call of the network; 0 leaves them as they are. It needs an
            `Unguided` over a `Prompted` prior.
        null_learning_rate: of the null-texts, one for every call; 0 leaves them as they are. It needs the same, and a
            prior with classifier-free guidance.
        background: what stays of the image where the optimisation starts; the judge counts its masked distance, too.

    Raises:
        ValueError: a number out of its range; `last` above 1 with another model, or above its steps; prompts or
            null-texts of a model that has none or ignores them, or together with a condition; when sampling, a
            condition that the model ignores, costs that are not finite or not differentiable.
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
        prompt_learning_rate: float = 0.0,
        null_learning_rate: float = 0.0,
        background: Background | None = None,
    ) -> None:
        super().__init__()
        check_descent("NoiseOptimisation", optimizer, steps, learning_rate)
        rates = {"condition": condition_learning_rate, "null": null_learning_rate, "prompt": prompt_learning_rate}
        check_numbers("NoiseOptimisation", {f"{name}_learning_rate": rate for name, rate in rates.items()}, least=0)
        check_number("NoiseOptimisation", "last", last, least=1)
        check_number("NoiseOptimisation", "clip", clip, above=0)
        if last > 1 and not (isinstance(model, Unguided) and last <= model.sampler.steps):
            raise ValueError(
                f"NoiseOptimisation: last = {last} needs an Unguided with as many steps, got {type(model).__name__}"
            )
        check_rates(model, **rates)
        self.model, self.subject, self.cost, self.judge = model, subject, cost or FiberDistance(), judge
        self.steps, self.learning_rates = steps, {"noise": learning_rate} | rates
        self.optimizer: OptimizerName = optimizer
        self.keep_norm, self.stop, self.clip, self.last = keep_norm, stop, clip, last
        self.background = background
        self.network_calls = model.network_calls * (steps + 1)
        if background:
            self.network_calls += model.network_calls + background.region.calls(model)

    def _sample(self, h: Tensor, n: int, generator: torch.Generator | None, x: Tensor | None) -> Tensor:
        return pushed(self.optimise, self.model.noise_shape, h, n, generator)

    def optimise(self, noise: Tensor, h: Tensor, start: Tensor | None = None) -> Tensor:
        """The best images `(B, C, H, W)` on the way from noise `(B, *noise_shape)`, without gradients.

        Args:
            noise: where the optimisation starts.
            h: targets, one for each row.
            start: the images `(B, C, H, W)` whose background is kept, such as those whose inversion the noise is; None
                takes what the model makes of the noise.
        """
        norms, costs = noise.flatten(1).norm(dim=1), map(self.cost.at, count())
        prompted = self.learning_rates["null"] or self.learning_rates["prompt"]
        values = {"noise": noise, "condition": h} | (told(self.model, h) if prompted else {})
        moved = {name: values[name] for name, rate in self.learning_rates.items() if rate}
        kept = self._kept(noise, h, start)

        def look(rows: Tensor, *variables: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            now = {name: value[rows] for name, value in values.items()} | dict(zip(moved, variables, strict=True))
            prompts = torch.stack((now["null"], now["prompt"]), 2) if prompted else None
            own = tuple(image[rows] for image in kept)
            return self.evaluate(now["noise"], h[rows], now["condition"], prompts, next(costs), own)

        def restore(variables: list[Tensor]) -> None:
            now = variables[0].flatten(1).norm(dim=1).clamp(min=torch.finfo(norms.dtype).tiny)
            variables[0].mul_(each(norms / now, noise))

        project = restore if self.keep_norm else None
        rates = [self.learning_rates[name] for name in moved]
        return descend(look, [*moved.values()], rates, self.steps, self.optimizer, self.stop, self.clip, project)

    def evaluate(
        self,
        noise: Tensor,
        h: Tensor,
        condition: Tensor,
        prompts: Tensor | None = None,
        cost: Cost | None = None,
        kept: tuple[Tensor, ...] = (),
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The loss `(B,)`, the images and the costs `(B,)` that judge them, differentiable in what the model is given.

        Args:
            noise: `(B, *noise_shape)`.
            h: targets `(B, *feature_shape)`.
            condition: what the model is told, `(B, *feature_shape)`.
            prompts: null-text and prompt of each call, `(B, calls, 2, *shape)`; None takes the prior's own.
            cost: the cost of this step; None takes `cost` itself.
            kept: of a background, the images where the optimisation starts, and their masks.
        """
        cost = cost or self.cost
        if isinstance(self.model, Unguided):
            estimates = self.model.estimates(noise, condition, self.last, prompts)
        else:
            estimates = self.model.push(noise, condition)[None]
        far = estimates.new_zeros(self.last, len(noise))
        if self.background is not None:
            far = torch.stack([self.background.distance(images, *kept) for images in estimates])
            estimates = torch.stack([self.background.hold(images, *kept) for images in estimates])
        costs = torch.stack([cost(self.subject, images, h) for images in estimates]) + far
        weights = torch.arange(1, self.last + 1, device=costs.device, dtype=costs.dtype)
        loss = (weights[:, None] * costs).sum(0) / weights.sum()
        if self.judge is None:
            return loss, estimates[-1], costs[-1]
        with torch.no_grad():
            return loss, estimates[-1], self.judge(self.subject, estimates[-1], h) + far[-1]

    def _kept(self, noise: Tensor, h: Tensor, start: Tensor | None) -> tuple[Tensor, ...]:
        """The images where the optimisation starts and their masks; nothing without a background."""
        if self.background is None:
            return ()
        with torch.no_grad():
            images = self.model.push(noise, h) if start is None else start
        return images, self.background.region(self.model, noise, h, images)
