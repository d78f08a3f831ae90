"""The first picture of the guide to Python: the fiber of one photograph, by the committed prior and without training.

    FIBERMODELS_DATA=... python benchmarks/explore.py [--image data/cifar10_images/test/horse/0003.jpg]

It unpacks the images as `cifar10.py` does, and writes `results/explore`.
"""

import json
from pathlib import Path

import cifar10
from jsonargparse import auto_cli
from runner import shrink
from safetensors.torch import load_file

import fibermodels as fm
from examples.cifar_resnet import CifarResNet
from fibermodels.component import device_name
from fibermodels.config import locate
from fibermodels.evaluation.results import commit

RESULTS = Path("results/explore")

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
"""Of the network's input."""


def main(image: Path | None = None, n: int = 8, seed: int = 0) -> None:
    """Explores the last map of ResNet-20.

    Args:
        image: a file; None takes the fourth horse of the test images.
        n: samples.
        seed: of the samples.
    """
    cifar10.unpack()
    found = image or sorted((cifar10.IMAGES / "test/horse").iterdir())[3]
    network = CifarResNet(blocks=3)
    network.load_state_dict(load_file(locate("weights/cifar10_resnet20.safetensors")))
    made = fm.explore(network.eval(), found, "layer3", n=n, mean=MEAN, std=STD, seed=seed)
    seen = made.fitted.model.subject(made.image[None]), made.fitted.model.subject(made.samples)
    values = {
        "name": "explore",
        "image": found.name,
        "num_targets": 1,
        "samples_per_target": n,
        "seed": seed,
        "device": device_name("cpu"),
        "commit": commit(),
        "cosine": round(float(made.cosine.mean()), 6),
        "fiber_rms": round(float((seen[1] - seen[0]).flatten(1).square().mean(1).sqrt().mean()), 6),
        "seconds": round(made.seconds, 1),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    made.plot().savefig(RESULTS / "samples.png", dpi=100)
    shrink(RESULTS / "samples.png")
    (RESULTS / "metrics.json").write_text(json.dumps(values, indent=2) + "\n")
    print(values)


if __name__ == "__main__":
    auto_cli(main)
