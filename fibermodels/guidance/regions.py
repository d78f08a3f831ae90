"""Which part of an image an optimisation may change: a mask with 1 where it may and 0 where it may not."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from fibermodels.checks import check_number
from fibermodels.component import Component
from fibermodels.core import Pushforward
from fibermodels.diffusion import unguided
from fibermodels.diffusion.attention import attended_mask, attention_maps
from fibermodels.diffusion.foreign import Foreign
from fibermodels.guidance.guided import Unguided


class Region(Component, ABC):
    """A part of every image, from how the image is made.

    Args:
        outside: take the rest of the image instead, `1 - mask`.
    """

    def __init__(self, outside: bool = False) -> None:
        super().__init__()
        self.outside = outside

    def forward(self, model: Pushforward, noise: Tensor, h: Tensor, images: Tensor) -> Tensor:
        """Masks `(B, 1, H, W)` in [0, 1], without gradients.

        Args:
            model: what makes the images.
            noise: `(B, *noise_shape)` of the images.
            h: `(B, *feature_shape)`, as the model is told.
            images: `(B, C, H, W)`, where the optimisation starts.
        """
        with torch.no_grad():
            mask = self.mask(model, noise, h, images).to(images)
        return 1 - mask if self.outside else mask

    @abstractmethod
    def mask(self, model: Pushforward, noise: Tensor, h: Tensor, images: Tensor) -> Tensor:
        """The region itself, whatever `outside` says; as in `forward`."""

    def calls(self, model: Pushforward) -> int:
        """Network calls that a mask costs."""
        return 0


class Box(Region):
    """A rectangle.

    Args:
        box: `[top, left, bottom, right]` in pixels, the last two exclusive.
        outside: as in `Region`.

    Raises:
        ValueError: an empty box; when used, one that leaves the images.
    """

    def __init__(self, box: list[int], outside: bool = False) -> None:
        super().__init__(outside)
        if len(box) != 4 or not (0 <= box[0] < box[2] and 0 <= box[1] < box[3]):
            raise ValueError(f"Box: box must be [top, left, bottom, right] and not empty, got {box}")
        self.box = list(box)

    def mask(self, model: Pushforward, noise: Tensor, h: Tensor, images: Tensor) -> Tensor:
        top, left, bottom, right = self.box
        height, width = images.shape[-2:]
        if bottom > height or right > width:
            raise ValueError(f"Box: box {self.box} leaves the images of {height} x {width}")
        mask = images.new_zeros(len(images), 1, height, width)
        mask[..., top:bottom, left:right] = 1
        return mask


class Attended(Region):
    """Where a text-to-image pipeline looks for some tokens of its prompt, in the first half of its steps.

    The maps of the tokens' cross-attention are averaged over heads, layers, tokens and steps, resized to the image,
    divided by their maximum, and set to 0 below the threshold. The paper prompts a segmentation network with such a
    mask; here it is taken as it is.

    Reference: Augustin et al., DiG-IN, arXiv 2311.17833, appendix D.1.4 (layers of 16 x 16 places at 512 pixels).

    Args:
        tokens: places of the tokens in the prompt; the first word of a CLIP prompt starts at 1.
        threshold: in [0, 1].
        places: of the layers that are read, such as 256 for 16 x 16; None reads all.
        outside: as in `Region`.

    Raises:
        ValueError: no tokens, or a number out of its range; when used, a model that is no `Unguided` over a pipeline
            that reads a prompt, tokens outside of the prompt, or no layer with as many places.
    """

    def __init__(
        self, tokens: list[int], threshold: float = 0.3, places: int | None = None, outside: bool = False
    ) -> None:
        super().__init__(outside)
        if not tokens or min(tokens) < 0:
            raise ValueError(f"Attended: tokens must name places in the prompt, from 0 on, got {tokens}")
        check_number("Attended", "threshold", threshold, least=0, most=1)
        check_number("Attended", "places", places, least=1)
        self.tokens, self.threshold, self.places = list(tokens), threshold, places

    def mask(self, model: Pushforward, noise: Tensor, h: Tensor, images: Tensor) -> Tensor:
        if not (isinstance(model, Unguided) and isinstance(model.prior, Foreign)):
            inner = model.prior if isinstance(model, Unguided) else model
            raise ValueError(f"Attended: expected an Unguided over a pipeline, got {type(inner).__name__}")
        prior, rows = model.prior, len(images)
        if not prior.guidance_scale:
            raise ValueError("Attended: expected a prior that follows its prompt, got guidance_scale 0")
        steps = model.sampler.trajectory(unguided(prior.denoiser(h)), prior.schedule, noise)
        with attention_maps(prior.unet) as found:
            for _ in range(self.steps(model)):
                next(steps)
        maps = [each[:rows] for each in found if self.places in (None, each.shape[1])]  # those of the null-text follow
        if not maps:
            known = sorted({each.shape[1] for each in found})
            raise ValueError(f"Attended: places: expected one of {known}, got {self.places}")
        return attended_mask(maps, self.tokens, tuple(images.shape), self.threshold)

    @staticmethod
    def steps(model: Unguided) -> int:
        """The first half of the sampler's steps, at least one."""
        return max(1, model.sampler.steps // 2)

    def calls(self, model: Pushforward) -> int:
        return self.steps(model) if isinstance(model, Unguided) else 0
