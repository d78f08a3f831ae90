"""What users bring: networks that are plain `nn.Module`s, and labelled images."""

from collections.abc import Iterator

import torch
from lightning.pytorch import LightningDataModule
from torch import nn

from fibermodels.config import Recorded
from fibermodels.data.loading import EpochSampler, loader
from fibermodels.noise import seeded


class Convolutional(nn.Module):
    """Two stages whose one ReLU runs twice, a pool written as a function, a hidden and a last linear layer."""

    def __init__(self, width: int = 4, classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.stage = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.relu = nn.ReLU()
        self.hidden = nn.Linear(2 * width, 5)
        self.linear = nn.Linear(5, classes)
        self.unused = nn.Linear(1, 1)

    def forward(self, x):
        maps = self.relu(self.stage(self.relu(self.stem(x))))
        return self.linear(self.hidden(maps.mean((2, 3))).tanh())


class Tokens(nn.Module):
    """Patches of 8 pixels behind two tokens of its own; the block gives a tuple, as many libraries' do."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, stride=8)
        self.prefix = nn.Parameter(torch.randn(1, 2, width))
        self.block = _Block(width)
        self.last = nn.Linear(width, 4)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = self.block(torch.cat([self.prefix.expand(len(x), -1, -1), tokens], 1))[0]
        return self.last(tokens[:, 0])


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Linear(width, width)

    def forward(self, tokens):
        return tokens + self.mix(tokens + tokens.mean(1, keepdim=True)), None


class _Set:
    def __init__(self, count: int, name: str, exclusive: bool, labelled: bool) -> None:
        generator = seeded("brought", name)
        answers = torch.rand(count, 3, generator=generator) < 0.4
        if exclusive:
            answers = nn.functional.one_hot(torch.randint(3, (count,), generator=generator), 3).bool()
        brightness = 0.4 + 0.15 * answers + 0.1 * torch.randn(count, 3, generator=generator)  # which says a label
        noise = 0.2 * torch.rand(count, 3, 32, 32, generator=generator)
        self.x = (brightness[:, :, None, None] + noise).clamp(0, 1)
        self.y = answers.float()
        self.y[torch.rand(count, 3, generator=generator) < 0.15] = torch.nan
        if exclusive:
            self.y = answers.int().argmax(1)
        self.labelled = labelled

    def __len__(self) -> int:
        return len(self.x)

    def set_epoch(self, epoch: int) -> None:
        pass

    def __getitems__(self, indices: list[int]) -> dict[str, torch.Tensor]:
        rows = torch.tensor(indices)
        return {"x": self.x[rows]} | ({"y": self.y[rows]} if self.labelled else {})

    def batches(self, size: int) -> Iterator[dict[str, torch.Tensor]]:
        for start in range(0, len(self), size):
            yield self.__getitems__(list(range(start, min(start + size, len(self)))))


class Labelled(LightningDataModule, metaclass=Recorded):
    """Noise whose channels are a little brighter where their label is 1; some labels are unknown."""

    name = "brought"

    def __init__(self, batch_size: int = 16, exclusive: bool = False, labelled: bool = True, seed: int = 0) -> None:
        super().__init__()
        self.batch_size, self.exclusive, self.labelled, self.seed = batch_size, exclusive, labelled, seed

    def split(self, split: str) -> _Set:
        return _Set({"train": 64, "val": 40, "test": 40}[split], split, self.exclusive, self.labelled)

    def train_dataloader(self):
        return loader(EpochSampler(self.split("train"), self.seed), self.batch_size)

    def val_dataloader(self):
        return loader(EpochSampler(self.split("val"), self.seed, shuffle=False), self.batch_size)
