"""The latent space of latent diffusion: a diffusers `AutoencoderKL` in a local folder.

Its encoder returns a Gaussian over maps `l`. Diffusion models use shifted maps, scaled to about unit variance,

    z = scale (l - shift),    x = D(z / scale + shift).

References: Rombach et al., arXiv 2112.10752 (scale); Esser et al., arXiv 2403.03206 (shift).
"""

import torch
from torch import Tensor

from fibermodels.checks import check_number
from fibermodels.component import FromFiles
from fibermodels.core import MapLatents
from fibermodels.latents.folders import load_part, local_folder, read_json


class AutoencoderKL(MapLatents, FromFiles):
    """A pretrained variational autoencoder, frozen; it ignores `h`.

    An autoencoder of colour images also takes grey images (`C = 1`): it repeats their channel, and averages the
    channels of decoded images.

    Args:
        path: a folder of `save_pretrained` with `config.json`, or the folder of a pipeline that has one in `vae`.
        image_shape: `(C, H, W)`; None takes the size on which the autoencoder was trained.
        batch: how many images one call of the network encodes or decodes, at least 1.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: weights are missing or damaged, or the images' size or channels do not fit.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, path: str, image_shape: list[int] | None = None, batch: int = 16) -> None:
        super().__init__()
        folder = local_folder("AutoencoderKL", path)
        folder = folder / "vae" if (folder / "vae").is_dir() else folder
        config = read_json("AutoencoderKL", folder / "config.json")
        if config.get("_class_name") != "AutoencoderKL":
            raise ValueError(
                f"AutoencoderKL: path: expected its folder, got '{folder}' of a {config.get('_class_name')}"
            )
        check_number("AutoencoderKL", "batch", batch, least=1)
        from diffusers import AutoencoderKL as Network

        self.network, self.batch = load_part("AutoencoderKL", Network, folder, low_cpu_mem_usage=False), batch
        settings = self.network.config  # includes defaults that the file omits
        self.colours, factor = settings["in_channels"], 2 ** (len(settings["block_out_channels"]) - 1)
        size = settings["sample_size"]
        sides = list(size) if isinstance(size, (list, tuple)) else [size, size]
        channels, height, width = image_shape or [self.colours, *sides]
        if channels not in (self.colours, 1) or height % factor or width % factor:
            raise ValueError(
                f"AutoencoderKL: expected image_shape [{self.colours}, H, W] with sides that are multiples of {factor}"
                f", got {[channels, height, width]}"
            )
        self.image_shape = (channels, height, width)
        self.map_shape = (settings["latent_channels"], height // factor, width // factor)
        self.latent_shape = (self.map_shape[0] * self.map_shape[1] * self.map_shape[2],)
        shift = settings["shift_factor"] or settings["latents_mean"] or 0.0
        std = torch.tensor(settings["latents_std"] or 1.0)
        self.register_buffer("shift", torch.tensor(shift).reshape(-1, 1, 1))
        self.register_buffer("scale", (settings["scaling_factor"] / std).reshape(-1, 1, 1))

    def moments(self, x: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        images = (2 * x - 1).expand(-1, self.colours, -1, -1)
        parts = [self.network.encode(part).latent_dist for part in images.split(self.batch)]
        mean, std = torch.cat([part.mean for part in parts]), torch.cat([part.std for part in parts])
        return (self.scale * (mean - self.shift)).flatten(1), (self.scale * std).flatten(1)

    def decode(self, z: Tensor, h: Tensor | None) -> Tensor:
        maps = z.unflatten(1, self.map_shape) / self.scale + self.shift
        images = torch.cat([self.network.decode(part).sample for part in maps.split(self.batch)])
        if self.image_shape[0] < self.colours:
            images = images.mean(1, keepdim=True)
        return ((images + 1) / 2).clamp(0, 1)
