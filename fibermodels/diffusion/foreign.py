"""A prior over maps whose network was trained elsewhere: how it is asked, and guided by its own condition.

With classifier-free guidance what counts is

    output = output(no prompt) + scale (output(prompt) - output(no prompt)),

in the network's own terms, both from one call on a batch of twice the size.

Reference: Ho & Salimans, arXiv 2207.12598.
"""

from abc import ABC
from typing import Any

import torch
from torch import Tensor, nn

from fibermodels.component import FromFiles
from fibermodels.core import MapLatents
from fibermodels.diffusion.parametrisation import Parametrisation
from fibermodels.diffusion.prompted import Prompted
from fibermodels.diffusion.samplers import Denoiser, Estimate
from fibermodels.nn import Residuals


class Foreign(Prompted, FromFiles, ABC):
    """A frozen diffusers network over the maps of a latent space.

    Its condition, where it has one, is fixed: a prompt or a label, and what stands for none. It ignores `h`. Embeddings
    of a text may be others in every call (`denoise_prompted`); a label may not, because it is no vector.

    Args:
        network: called as `network(maps, timestep=, return_dict=False, **condition)`; of an output with twice the
            channels, the second half is a variance, which no sampler here uses.
        latents: the latent space.
        parametrisation: how it is asked.
        text: embeddings `(2, L, D)` of no prompt and of the prompt; None for a network without text.
        labels: the label of no class and the class, `(2,)`; None for a network without classes.
        guidance_scale: 1 follows the condition, 0 ignores it, more exaggerates.
        checkpointing: compute activations again in the backward pass, block by block, instead of keeping them.
    """

    unet: nn.Module
    """The network, be it a transformer."""
    latents: MapLatents
    text: Tensor | None
    labels: Tensor | None

    def __init__(
        self,
        network: Any,
        latents: MapLatents,
        parametrisation: Parametrisation,
        text: Tensor | None = None,
        labels: Tensor | None = None,
        guidance_scale: float = 1.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        own = type(self).__name__
        if text is None and labels is None and guidance_scale != 1:
            raise ValueError(f"{own}: guidance_scale {guidance_scale}: the network has no condition to follow")
        if guidance_scale != 1:
            check_null(own, labels)
        self.unet, self.latents, self.parametrisation = network, latents, parametrisation
        self.reads_text = "cross_attention_dim" in network.config
        self.schedule, self.guidance_scale = parametrisation.schedule, guidance_scale
        self.register_buffer("text", text, persistent=False)
        self.register_buffer("labels", labels, persistent=False)
        if checkpointing:
            network.enable_gradient_checkpointing()
        self.requires_grad_(False).eval()

    def denoiser(self, h: Tensor | None = None) -> Denoiser:
        return lambda z, t: self.parametrisation.estimates(self._guided(*self._asked(z, t)).flatten(1), z, t)

    def prompts(self, h: Tensor) -> Tensor:
        return self._text().expand(len(h), *self._text().shape)

    def denoise_prompted(self, z: Tensor, t: Tensor, prompts: Tensor) -> Estimate:
        own, shape = self._text().shape, prompts.shape
        if shape != (len(z), *own):
            raise ValueError(
                f"{type(self).__name__}: prompts: expected {(len(z), *own)}, null-text and prompt of each row, "
                f"got {tuple(shape)}"
            )
        return self.parametrisation.estimates(self._guided(*self._asked(z, t), prompts).flatten(1), z, t)

    def _text(self) -> Tensor:
        if self.text is None:
            raise ValueError(f"{type(self).__name__}: expected a network that reads text, got one that reads none")
        return self.text

    def _asked(self, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The network's maps `(B, C, H, W)` and time steps `(B,)`."""
        given, steps = self.parametrisation.given(z, t)
        return given.unflatten(1, self.latents.map_shape), steps

    def _told(self, prompted: Tensor, prompts: Tensor | None = None) -> Tensor | None:
        """The embeddings `(B, L, D)` that rows see, of a network with text; of `prompts` `(B, 2, L, D)`, if given."""
        if prompts is not None:
            return prompts[torch.arange(len(prompts), device=prompts.device), prompted.long()]
        return None if self.text is None else self.text[prompted.long()]

    def _guided(self, maps: Tensor, steps: Tensor, prompts: Tensor | None = None) -> Tensor:
        row = torch.ones_like(steps, dtype=torch.bool)
        if self.guidance_scale in (0, 1):
            return self._call(maps, steps, row if self.guidance_scale else ~row, prompts=prompts)
        twice = None if prompts is None else prompts.repeat(2, 1, 1, 1)
        both = self._call(maps.repeat(2, 1, 1, 1), steps.repeat(2), torch.cat((row, ~row)), prompts=twice)
        told, untold = both.chunk(2)
        return untold + self.guidance_scale * (told - untold)

    def _call(
        self,
        maps: Tensor,
        steps: Tensor,
        prompted: Tensor,
        residuals: Residuals | None = None,
        prompts: Tensor | None = None,
    ) -> Tensor:
        """The network's output `(B, C, H, W)`, where `prompted` rows see the condition; dtype of `maps`."""
        dtype = next(self.unet.parameters()).dtype
        condition: dict[str, Any] = {}
        if self.reads_text:  # it wants the argument even where it has no such layer
            told = self._told(prompted, prompts)
            condition["encoder_hidden_states"] = None if told is None else told.to(dtype)
        if self.labels is not None:
            condition["class_labels"] = self.labels[prompted.long()]
        if residuals is not None:
            skips, middle = residuals
            condition["down_block_additional_residuals"] = tuple(skip.to(dtype) for skip in skips)
            condition["mid_block_additional_residual"] = middle.to(dtype)
        output = self.unet(maps.to(dtype), timestep=steps, return_dict=False, **condition)[0]
        return output[:, : maps.shape[1]].to(maps.dtype)


def check_null(owner: str, labels: Tensor | None) -> None:
    """Raises a ValueError for a network with classes whose label for none is not known."""
    if labels is not None and int(labels[0]) < 0:
        raise ValueError(f"{owner}: without its class the network needs a label that stands for none: give null_label")
