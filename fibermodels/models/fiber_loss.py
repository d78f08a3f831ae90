"""The fiber loss, once for every model that pushes noise to an input.

    lambda * (d(phi(x_hat), h) + sum over later layers l of d(l(x_hat), l(x))),   x_hat = push(e, h), e ~ N(0, I)

A later layer follows from `h`, so the sum is 0 on the fiber, too. Without it, what the subject decides has a small part
in a distance of maps, and a network is easier to please at one layer than at several.

Gradients run through the subject, the decoder and the whole sampler into the model's parameters; subject and decoder
stay as they are. For models with many steps there are two cheaper routes: gradients through the last steps alone, and,
without any sampling, the model's one-call estimate of the clean latent from a training latent with a little noise.

Reference: arXiv 2603.21782, eq. 3 and section 3.1 (for flows and free-form flows; there the distance is `rms`, the
weight 1 to 100 and the warm-up linear).
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fibermodels.checks import check_choice, check_number, check_numbers
from fibermodels.component import Component
from fibermodels.core import Pushforward, Subject, together
from fibermodels.distances import DISTANCES, DistanceName
from fibermodels.nn import Standardise
from fibermodels.trainable import Stepped, TrainableFiberModel


class FiberLoss(Component):
    """The weighted term `(rows,)` of the objective; its mean over rows is unbiased for any `rows`.

    Args:
        weight: lambda.
        distance: of representations: `rms` (as in the reference), `squared`, or `cosine`.
        warmup: share of the training over which the weight rises linearly from 0.
        rows: how many rows of a batch to push, over all processes; None takes all. Fewer make a step cheaper.
        checkpointing: recompute the sampler in the backward pass instead of keeping it in memory.
        last_steps: for a `Stepped` model: gradients run through so many last steps of the sampler.
        estimate_below: for a `Stepped` model: instead of sampling, judge its estimate of the clean latent
            from a training latent noised to a uniform time in (0, `estimate_below`).
        later: later layers of the subject, which must agree with those of the image itself; None takes none.
        standardise: compare representations as the model standardises its condition: without the training set's mean,
            and in units of its deviation. Otherwise a distance of vectors that all images have nearly in common, as the
            pooled vectors of many networks are, says little about each image. Later layers stay as they are.
    """

    def __init__(
        self,
        weight: float = 0.0,
        distance: DistanceName = "rms",
        warmup: float = 0.0,
        rows: int | None = None,
        checkpointing: bool = False,
        last_steps: int | None = None,
        estimate_below: float | None = None,
        later: list[Subject] | None = None,
        standardise: bool = False,
    ) -> None:
        super().__init__()
        check_number("fiber", "weight", weight, least=0)
        check_number("fiber", "warmup", warmup, least=0, most=1)
        check_choice("fiber", "distance", distance, DISTANCES)
        check_numbers("fiber", {"rows": rows, "last_steps": last_steps}, least=1)
        check_number("fiber", "estimate_below", estimate_below, above=0, most=1)
        if last_steps is not None and estimate_below is not None:
            raise ValueError("fiber: expected last_steps or estimate_below, got both: an estimate takes no steps")
        self.weight, self.warmup, self.rows, self.checkpointing = weight, warmup, rows, checkpointing
        self.last_steps, self.estimate_below = last_steps, estimate_below
        self.distance, self.standardise = DISTANCES[distance], standardise
        self.later = nn.ModuleList(later or ())

    def forward(
        self,
        model: Pushforward,
        subject: Subject,
        h: Tensor,
        z: Tensor | None = None,
        progress: float = 1.0,
        processes: int = 1,
        x: Tensor | None = None,
        drawn: Tensor | None = None,
    ) -> Tensor:
        """The weighted distances `(rows,)` of the first `rows` of `h`.

        Args:
            z: the training latents of `h`, where `estimate_below` starts from them.
            progress: share of the training that is done, in [0, 1]; 1 applies the full weight.
            processes: that share the batch; each pushes its share of `rows`, at least one.
            x: the images of `h`, where there are later layers.
            drawn: inputs `(draws, B, *input_shape)` that the model's own loss has pushed; distances are averaged over
                draws. None pushes fresh noise.

        Raises:
            ValueError: an option for `Stepped` models with another model; an estimate without `z`; later layers
                without `x`; `standardise` with a model that has no statistics.
        """
        rows = None if self.rows is None else max(1, self.rows // processes)
        h, z = h[:rows], None if z is None else z[:rows]
        repeats = 1
        if drawn is not None and self.last_steps is None and self.estimate_below is None:
            repeats, images = len(drawn), drawn[:, :rows].flatten(0, 1)
        elif self.checkpointing:
            images = checkpoint(self._images, model, h, z, use_reentrant=False)
        else:
            images = self._images(model, h, z)
        ramp = min(1.0, progress / self.warmup) if self.warmup else 1.0
        later = [cast(Subject, each) for each in self.later]
        wanted, seen = [h, *self._wanted(later, x, len(h))], together([subject, *later], images)
        if self.standardise:
            standard = statistics(model, tuple(h.shape[1:]))
            wanted[0], seen[0] = standard(h), standard(seen[0])
        found = [each.unflatten(0, (repeats, -1)) for each in seen]
        terms = [self.distance(a.expand_as(b), b, 2) for a, b in zip(wanted, found, strict=True)]
        return self.weight * ramp * torch.stack(terms).sum(0).mean(0)

    @torch.no_grad()
    def _wanted(self, later: list[Subject], x: Tensor | None, rows: int) -> list[Tensor]:
        if later and x is None:
            raise ValueError("fiber.later: expected the images of the representations, got None; set cache_draws to 0")
        return together(later, x[:rows]) if later and x is not None else []

    def _images(self, model: Pushforward, h: Tensor, z: Tensor | None) -> Tensor:
        if self.estimate_below is None:
            noise = torch.randn(len(h), *model.noise_shape, device=h.device, dtype=h.dtype)
            if self.last_steps is None:
                return model.push(noise, h)
        if not isinstance(model, Stepped):
            given = "last_steps" if self.estimate_below is None else "estimate_below"
            raise ValueError(f"fiber.{given}: expected a model with steps, got {type(model).__name__}")
        if self.estimate_below is None:
            return model.latents.decode(model.transport(noise, h, self.last_steps), h)
        if z is None:
            raise ValueError("fiber.estimate_below: expected the training latents, got None")
        t = self.estimate_below * torch.rand(len(h), device=h.device, dtype=h.dtype)
        z_t = model.noised(z, torch.randn_like(z), t)
        return model.latents.decode(model.estimate(z_t, t, h), h)


def statistics(model: Pushforward, shape: tuple[int, ...]) -> Standardise:
    """Those with which a model standardises representations of a shape.

    Raises:
        ValueError: it has none.
    """
    given = tuple(f"{part}." for part in model.frozen_parts()) if isinstance(model, TrainableFiberModel) else ()
    for name, module in model.named_modules():
        if isinstance(module, Standardise) and module.shape == shape and not f"{name}.".startswith(given):
            return module
    raise ValueError(
        f"fiber.standardise: expected a model that standardises representations {list(shape)}, got "
        f"{type(model).__name__}"
    )
