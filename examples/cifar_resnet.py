"""A network as a user brings it: a plain `nn.Module`, which knows nothing of this project.

The residual network for CIFAR-10 of He et al., arXiv 1512.03385, section 4.2, whose shortcuts subsample and pad with
zeros (option A). `configs/cifar10/*` cut it at its last map, where it is pooled, and at its logits.
"""

import torch
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.stride, self.new = stride, out - width

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(B, out, H / stride, W / stride)`."""
        residual = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        half = self.new // 2
        shortcut = nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, self.new - half))
        return torch.relu(residual + shortcut)


class CifarResNet(nn.Module):
    """Logits `(B, 10)` of normalised images `(B, 3, 32, 32)`.

    Args:
        blocks: per stage; 3 make ResNet-20, 9 make ResNet-56.
    """

    def __init__(self, blocks: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks, 1)
        self.layer2 = self._stage(16, 32, blocks, 2)
        self.layer3 = self._stage(32, 64, blocks, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(64, 10)

    @staticmethod
    def _stage(width: int, out: int, blocks: int, stride: int) -> nn.Sequential:
        first = BasicBlock(width, out, stride)
        return nn.Sequential(first, *(BasicBlock(out, out, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(self.flatten(self.pool(x)))
