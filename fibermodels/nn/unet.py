"""A UNet for images, made by diffusers: what denoisers over pixels are."""

from torch import Tensor, nn


class UNet(nn.Module):
    """Images `(B, C, H, W)` with times `(B,)` in [0, 1] and conditions `(B, context)` to images of that shape.

    It starts as the zero function.

    Args:
        image_shape: `(C, H, W)`.
        channels: channels of the levels, from fine to coarse, each a multiple of 16; every level halves the last.
        blocks: residual blocks per level.
        patch: pixels of a square that is seen as one, with `patch^2` times the channels: the same information at
            a fraction of the cost.
        context: dimensions of a vector that every block sees; 0 for none.
    """

    def __init__(
        self, image_shape: tuple[int, ...], channels: list[int], blocks: int = 1, patch: int = 1, context: int = 0
    ) -> None:
        super().__init__()
        colours, height, width = image_shape
        step = patch * 2 ** (len(channels) - 1)
        if patch < 1 or not channels or height % step or width % step:
            raise ValueError(
                f"UNet: {len(channels)} levels on patches of {patch} need images whose sides are multiples of {step}, "
                f"got {height} x {width}"
            )
        if any(number < 1 or number % 16 for number in channels):
            raise ValueError(f"UNet: channels must be multiples of 16, got {channels}")
        self.patch = patch
        self.network = _unet(
            colours * patch**2, (height // patch, width // patch), tuple(channels), blocks, bool(context)
        )
        self.context = nn.Linear(context, 4 * channels[0]) if context else None  # its width is diffusers' choice

    def forward(self, images: Tensor, t: Tensor, context: Tensor) -> Tensor:
        squares = nn.functional.pixel_unshuffle(images, self.patch)
        label = None if self.context is None else self.context(context)
        output: Tensor = self.network(squares, 1000 * t, class_labels=label, return_dict=False)[0]
        return nn.functional.pixel_shuffle(output, self.patch)


def _unet(own: int, size: tuple[int, int], channels: tuple[int, ...], blocks: int, conditional: bool) -> nn.Module:
    from diffusers import UNet2DModel

    network = UNet2DModel(
        sample_size=size,
        in_channels=own,
        out_channels=own,
        layers_per_block=blocks,
        block_out_channels=channels,
        down_block_types=("DownBlock2D",) * len(channels),
        up_block_types=("UpBlock2D",) * len(channels),
        norm_num_groups=16,
        add_attention=False,
        class_embed_type="identity" if conditional else None,
    )
    nn.init.zeros_(network.conv_out.weight)
    nn.init.zeros_(network.conv_out.bias)
    return network
