"""A network and a folder of one's own, from nothing to pictures: python examples/own_network.py FOLDER

`FOLDER/CLASS/*.png` are images, such as 5,000 of CIFAR-10. A small network is trained as in any tutorial; then a fiber
model shows which other images its last map does not tell apart from a given one.
"""

import sys

import torch
from torch import nn
from torchvision import datasets, transforms

import fibermodels as fm

MEAN, STD = [0.5] * 3, [0.25] * 3
steps = transforms.Compose([transforms.Resize(32), transforms.ToTensor(), transforms.Normalize(MEAN, STD)])


def block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """A convolution with normalisation."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


def main(folder: str, minutes: float = 5.0) -> None:
    """Trains the network, and a fiber model of it."""
    photos = datasets.ImageFolder(folder, steps)
    maps = nn.Sequential(block(3, 32, 1), block(32, 64, 2), block(64, 128, 2), block(128, 128, 1))
    network = nn.Sequential(maps, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, len(photos.classes)))
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
    for epoch in range(6):
        for x, y in torch.utils.data.DataLoader(photos, 64, shuffle=True):
            loss = nn.functional.cross_entropy(network(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1}: {loss.item():.2f}")
    run = fm.fit(network, folder, layer="0", minutes=minutes, transform=steps, name="own_network", overwrite=True)
    print(run.score())
    run.plot().savefig("own_network.png")
    run.save("own_network", overwrite=True)
    print(fm.load("own_network", subject=network))


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:]))
