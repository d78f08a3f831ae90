"""The command `explore`: a first look at the fiber of one image, without training, or an application by its name."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torchvision.utils import save_image

from fibermodels.api import applying
from fibermodels.api.explore import as_prior, explore
from fibermodels.applications import APPLICATIONS
from fibermodels.commands import Parser, explained
from fibermodels.evaluation.devices import accelerator, check_device
from fibermodels.files import check_new, replace_file
from fibermodels.programs import called
from fibermodels.subjects import Cut
from fibermodels.training.new_config import trusted


def parser() -> Parser:
    """The options of the command."""
    own = Parser(
        prog=called("explore"),
        description="Guides a prior over images to the fiber of one image, without training: a picture of the image "
        "and its samples, and each sample as a file. A trained model (`fibermodels init`) is faster by far, and other "
        "networks recognise its samples more often. With the name of an application before the options, it asks a "
        f"model: {', '.join(APPLICATIONS)} (`{called('explore')} NAME --help`).",
    )
    own.add_argument("--network", type=str, required=True, help="import path of an nn.Module's class")
    own.add_argument("--network_args", type=dict[str, Any], default={}, help="its arguments, --network_args.NAME VALUE")
    own.add_argument("--weights", type=str | None, default=None, help="the file of its weights; default: random ones")
    own.add_argument("--layer", type=str, default="spatial", help="a module's name, or spatial, pooled or logits")
    own.add_argument("--mean", type=list[float], default=[0.0] * 3, help="of the network's input, for images in [0, 1]")
    own.add_argument("--std", type=list[float], default=[1.0] * 3, help="of the network's input, for images in [0, 1]")
    own.add_argument("--image", type=str, required=True, help="the file of the image")
    own.add_argument(
        "--prior",
        type=str | None,
        default=None,
        help="local folder of a pipeline of diffusers, or exported weights of an unconditional prior; default: the "
        "prior over natural images of 32 x 32 pixels in data/weights/cifar10, which a clone has",
    )
    own.add_argument("-n", "--samples", type=int, default=16, help="samples")
    own.add_argument("--steps", type=int, default=25, help="steps of the sampler")
    own.add_argument("--seed", type=int, default=0, help="seed of the samples")
    own.add_argument("--device", type=str, default=accelerator(), help="such as cpu or cuda")
    own.add_argument("--out", type=str, required=True, help="folder for the pictures")
    own.add_argument("--overwrite", type=bool, default=False, help="replace earlier pictures")
    return own


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command. Errors of the user give one message and exit status 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in APPLICATIONS:
        applying.main(words[0], words[1:])
        return
    options = parser().parse_args(words)
    with explained():
        out = Path(options.out)
        check_new(out / "samples.png", options.overwrite)
        check_device(options.device)
        trusted(options.network)
        prior = as_prior(options.prior)
        shape, reading = list(prior.latents.image_shape), (options.mean, options.std, options.network_args)
        subject = Cut(options.network, options.layer, shape, *reading, weights=options.weights)
        own = {"n": options.samples, "steps": options.steps, "seed": options.seed, "device": options.device}
        found = explore(subject, options.image, prior=prior, **own)
        for i, sample in enumerate(found.samples, 1):
            replace_file(out / f"sample-{i}.png", partial(save_image, sample))
        replace_file(out / "samples.png", lambda file: found.plot().savefig(file, dpi=100))
        print(f"{found!r}\n{out}/samples.png")
