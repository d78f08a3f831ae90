"""Points of the plane as images of two pixels, a subject that maps them to one number, and models that learn its
fibers in seconds."""

from collections.abc import Iterator

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn

from fibermodels.config import Recorded
from fibermodels.core import LatentSpace, Subject
from fibermodels.data.loading import EpochSampler, loader
from fibermodels.latents import Identity
from fibermodels.nn import Standardise
from fibermodels.noise import seeded
from fibermodels.trainable import TrainableFiberModel

IMAGE = (1, 1, 2)


class Points(torch.utils.data.Dataset):
    """Uniform points `x`, the same in every epoch; row `bad` is NaN."""

    def __init__(self, count: int, name: str, bad: int | None = None) -> None:
        self.x = torch.rand(count, *IMAGE, generator=seeded("points", name))
        if bad is not None and bad < count:
            self.x[bad] = float("nan")

    def set_epoch(self, epoch: int) -> None: ...

    def __len__(self) -> int:
        return len(self.x)

    def __getitems__(self, rows: list[int]) -> dict[str, Tensor]:
        return {"x": self.x[rows]}

    def batches(self, size: int) -> Iterator[dict[str, Tensor]]:
        for x in self.x.split(size):
            yield {"x": x}


class PlaneData(LightningDataModule, metaclass=Recorded):
    """A thousand points to train on, and 256 to validate."""

    def __init__(self, batch_size: int = 100, seed: int = 0, bad: int | None = None) -> None:
        super().__init__()
        self.batch_size, self.seed, self.name = batch_size, seed, "plane"
        self.splits = {name: Points(count, name, bad) for name, count in (("train", 1000), ("val", 256), ("test", 256))}

    def split(self, split: str) -> Points:
        return self.splits[split]

    def train_dataloader(self):
        return loader(EpochSampler(self.split("train"), self.seed), self.batch_size)

    def val_dataloader(self):
        return loader(EpochSampler(self.split("val"), shuffle=False), self.batch_size)


class Bend(Subject):
    """`scale (x_1 + sin(3 x_2)) + shift`, repeated: `(B, features)`."""

    def __init__(self, scale: float = 1.0, shift: float = 0.0, features: int = 1) -> None:
        super().__init__()
        self.scale, self.shift = scale, shift
        self.image_shape, self.feature_shape = IMAGE, (features,)
        self.freeze()

    def forward(self, images: Tensor) -> Tensor:
        x, y = images.flatten(1).unbind(1)
        return (self.scale * (x + torch.sin(3 * y)) + self.shift)[:, None].expand(-1, *self.feature_shape)


class PlaneFlow(TrainableFiberModel):
    """Flow matching with eight steps of Euler's method; it standardises its condition."""

    network_calls = 8

    def __init__(self, feature_shape: list[int], latents: LatentSpace | None = None, width: int = 64) -> None:
        super().__init__(latents or Identity(IMAGE, 1.7), feature_shape)
        self.standardise = Standardise(feature_shape)
        (dim,), told = self.latents.latent_shape, sum(feature_shape)
        layers = (nn.Linear(dim + 1 + told, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.network = nn.Sequential(*layers, nn.Linear(width, dim))

    def velocity(self, z: Tensor, t: Tensor, h: Tensor) -> Tensor:
        told = [self.standardise(h)] if self.feature_shape else []
        return self.network(torch.cat([z, t[:, None], *told], 1))

    def latent_loss(self, z: Tensor, h: Tensor) -> dict[str, Tensor]:
        noise, t = torch.randn_like(z), torch.rand(len(z))
        velocity = self.velocity(torch.lerp(z, noise, t[:, None]), t, h)
        return {"velocity": (velocity - (noise - z)).square().mean(1)}

    def transport(self, noise: Tensor, h: Tensor) -> Tensor:
        for i in range(8, 0, -1):
            noise = noise - self.velocity(noise, torch.full((len(noise),), i / 8), h) / 8
        return noise


class PlaneRegression(PlaneFlow):
    """The mean of a fiber: nothing in its loss is random."""

    def latent_loss(self, z: Tensor, h: Tensor) -> dict[str, Tensor]:
        return {"square": (self.transport(torch.zeros_like(z), h) - z).square().mean(1)}
