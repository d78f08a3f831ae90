"""A ControlNet for a UNet, made by diffusers: a trainable copy of its first half that steers it by residuals."""

from typing import Any

from torch import Tensor, nn

from fibermodels.nn.network import Residuals


class ControlNet(nn.Module):
    """Encoder and middle of a UNet, copied with their weights; every output goes through a 1x1 convolution that
    starts at zero, so a UNet that is steered by a new ControlNet is the UNet alone.

    The condition is a map that is added to what the copy's first convolution makes of the input. The copy sees the
    time and the prompt as the UNet does, but no class label, since the condition says more.

    Reference: Zhang et al., arXiv 2302.05543; the network is diffusers' `ControlNetModel`.

    Args:
        unet: a `UNet2DConditionModel`; only `checkpointing` changes it.
        checkpointing: UNet and copy compute their blocks again in the backward pass instead of keeping activations.
    """

    def __init__(self, unet: Any, checkpointing: bool = False) -> None:
        super().__init__()
        if unet.config.addition_embed_type is not None:
            raise ValueError(
                "ControlNet: a UNet with further embeddings beside time and prompt "
                f"(addition_embed_type '{unet.config.addition_embed_type}', as in SDXL) is not supported"
            )
        from diffusers import ControlNetModel

        network = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(16,))
        network.controlnet_cond_embedding = nn.Identity()  # the condition is encoded already
        network.class_embedding = None
        if checkpointing:
            for each in (unet, network):
                each.enable_gradient_checkpointing()
        self.network: Any = network

    def forward(
        self, sample: Tensor, times: Tensor, prompt: Tensor | None, condition: Tensor, strength: float = 1.0
    ) -> Residuals:
        """The residuals, times `strength`.

        Args:
            sample, times, prompt: what the UNet is given.
            condition: `(B, C, H, W)`, as wide as the UNet's first block.
        """
        down, middle = self.network(sample, times, prompt, condition, strength, return_dict=False)
        return tuple(down), middle


def input_size(unet: Any, map_shape: tuple[int, int, int]) -> tuple[int, int]:
    """Sides `(H, W)` of what a UNet sees of maps `(C, H, W)`, of which it may take squares of pixels as one."""
    channels, height, width = map_shape
    own = int(unet.config.in_channels)
    patch = round((own / channels) ** 0.5)
    if own != channels * patch**2:
        raise ValueError(f"ControlNet: a UNet of {own} input channels does not fit maps of {channels} channels")
    return height // patch, width // patch
