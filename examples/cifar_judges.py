"""Five small networks of different kinds, which look at samples that they took no part in.

Each maps images `(B, 3, 32, 32)`, normalised by the statistics of the data, to features `(B, 128)`.
`configs/cifar10/judge.yaml` trains a classifier over any of them, and `docs/cifar10.md` says what they judge.
"""

import torch
from torch import Tensor, nn

FEATURES = 128


def conv(width: int, out: int, stride: int = 1, kernel: int = 3, groups: int = 1) -> nn.Sequential:
    """A convolution, batch norm, and a rectifier."""
    return nn.Sequential(
        nn.Conv2d(width, out, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(out), nn.ReLU()
    )


def pooled() -> nn.Sequential:
    """The mean over all places."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


class PlainCnn(nn.Sequential):
    """Five convolutions, two of them with stride 2."""

    def __init__(self) -> None:
        super().__init__(conv(3, 32), conv(32, 64, 2), conv(64, 64), conv(64, 128, 2), conv(128, FEATURES), pooled())


class Vgg(nn.Sequential):
    """Pairs of convolutions, poolings by the maximum, and a fully connected layer (Simonyan & Zisserman, 2014)."""

    def __init__(self) -> None:
        stages = [part for a, b in ((3, 24), (24, 48), (48, 96)) for part in (conv(a, b), conv(b, b), nn.MaxPool2d(2))]
        super().__init__(*stages, nn.Flatten(), nn.Linear(96 * 16, FEATURES), nn.ReLU())


class WideBlock(nn.Module):
    """Norm and rectifier before each of two convolutions, beside a shortcut of one pixel."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, out, 3, stride, 1, bias=False)),
            *(nn.BatchNorm2d(out), nn.ReLU(), nn.Conv2d(out, out, 3, 1, 1, bias=False)),
        )
        self.shortcut = nn.Conv2d(width, out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(B, out, H / stride, W / stride)`."""
        found: Tensor = self.shortcut(x) + self.body(x)
        return found


class WideResNet(nn.Sequential):
    """A short residual network with wide stages (Zagoruyko & Komodakis, 2016)."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 16, 3, padding=1, bias=False),
            *(WideBlock(16, 32, 1), WideBlock(32, 64, 2), WideBlock(64, FEATURES, 2)),
            *(nn.BatchNorm2d(FEATURES), nn.ReLU(), pooled()),
        )


class Depthwise(nn.Sequential):
    """Convolutions of 5 x 5 pixels within each channel and of one pixel across channels (Howard et al., 2017)."""

    def __init__(self) -> None:
        sizes = ((32, 64, 2), (64, 64, 1), (64, 96, 1), (96, FEATURES, 2), (FEATURES, FEATURES, 1))
        blocks = [part for a, b, s in sizes for part in (conv(a, a, s, 5, groups=a), conv(a, b, 1, 1))]
        super().__init__(conv(3, 32), *blocks, pooled())


class Mixed(nn.Module):
    """One layer over the places, one over the channels, each beside a shortcut."""

    def __init__(self, places: int, width: int) -> None:
        super().__init__()
        self.over_places = nn.Sequential(nn.Linear(places, 2 * places), nn.GELU(), nn.Linear(2 * places, places))
        self.over_channels = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens `(B, places, width)`."""
        x = x + self.over_places(self.first(x).mT).mT
        found: Tensor = x + self.over_channels(self.second(x))
        return found


class Mixer(nn.Module):
    """Squares of 4 x 4 pixels, and layers over places and channels: no convolution (Tolstikhin et al., 2021).

    Args:
        depth: number of blocks.
    """

    def __init__(self, depth: int = 5) -> None:
        super().__init__()
        self.squares = nn.Conv2d(3, FEATURES, 4, 4)
        self.blocks = nn.Sequential(*(Mixed(64, FEATURES) for _ in range(depth)))
        self.norm = nn.LayerNorm(FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        """Features `(B, 128)`."""
        tokens = self.squares(x).flatten(2).mT
        found: Tensor = torch.mean(self.norm(self.blocks(tokens)), 1)
        return found
