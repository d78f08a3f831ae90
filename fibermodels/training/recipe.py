"""The config of a training for a user's own network and images, as commented YAML.

The recipe is that of `configs/cifar10/energy_score.yaml`, the best that we know on real images: a generator in one
call, trained by the energy score of patches and of the network's first stages, and by the fiber loss.
"""

from dataclasses import dataclass
from typing import Any

import yaml

STEPS = 2800
"""Optimiser steps of the recipe on CIFAR-10, with batches of 32."""

BATCH = 32


@dataclass(frozen=True)
class Facts:
    """What is known about a user's network and images."""

    name: str
    """Of the run."""
    command: str
    """The command that trains with the file."""
    class_path: str
    """Of the subject."""
    arguments: dict[str, Any]
    """The subject's arguments."""
    notes: dict[str, str]
    """A remark on some of these arguments, by name."""
    feature_shape: tuple[int, ...]
    """Of the representation at the layer."""
    stages: tuple[str, ...]
    """Layers before the given one that return maps, the finest first."""
    logits: bool
    """Whether the network's output is a later layer, and a vector."""
    root: str
    """The folder of the images."""
    count: int
    """Images to train on."""
    cache: bool
    """Whether all of them fit easily into memory."""


def text(facts: Facts) -> str:
    """The whole file."""
    _, height, width = facts.arguments["image_shape"]
    batch = min(BATCH, facts.count)
    epochs = max(1, round(STEPS * BATCH / facts.count))
    return f"""\
# Samples the fibers of {facts.arguments["layer"]} of {_network(facts)}: images with the same representation
# {list(facts.feature_shape)}. To train:
#
#   {facts.command}
#
# To see what it costs before it starts, add --dry_run true. Any key can be changed on the command line, too:
# --data.init_args.batch_size 64. The recipe is that of configs/cifar10/energy_score.yaml: a generator in one network
# call, trained by the energy score of patches and of the network's stages, and by the fiber loss.
name: {_plain(facts.name)}

# The frozen network under study, and the layer that is read.
subject:
  class_path: {facts.class_path}
  init_args: &network
{_arguments(facts)}
# The images. The seed draws validation and test images, if the folder has no train, val and test.
data:
  class_path: fibermodels.data.ImageFolder
  init_args:
    root: {_plain(facts.root)}
    image_shape: {facts.arguments["image_shape"]}  # the same as the subject's; images are scaled and cropped to it
    batch_size: {batch}  # on a GPU, 64 and more
    flip: true  # mirrors half of the training images: false for text, and where left and right differ
    val_size: 0.1  # share of validation images, and of test images
    cache: {str(facts.cache).lower()}  # keeps decoded images in memory; without it, workers help
    workers: 0

model:
  learner:
    class_path: fibermodels.models.EnergyScore
    init_args:
      # The generator draws pixels.{_large(height, width)}
      latents:
        class_path: fibermodels.latents.Identity
        init_args: {{image_shape: {facts.arguments["image_shape"]}, scale: 0.5}}
      network:
        class_path: fibermodels.nn.Upsampler
        init_args: {{width: 128, blocks: 2}}  # more is better and slower
      patch_sizes: {_patches(height, width)}  # in pixels; the score compares patches of these sizes
      # The score also compares what the network's first stages see. More of them are nearer to the distribution of the
      # data, and further from the target.
      features:{_features(facts)}
  # The fiber loss compares the representation of a sample with that of its target{_and_later(facts)}.
  fiber:
    class_path: fibermodels.models.FiberLoss
    init_args:
      weight: 2.0  # more is nearer to the fiber, and less like the data
      distance: cosine{_later(facts)}
  learning_rate: 0.002
  preview: 32  # validation images in samples.png

cache_draws: 0  # flips change the images in every epoch
trainer:
  max_epochs: {epochs}  # about {STEPS:,} steps, as on CIFAR-10; twice as many are still better
  precision: bf16-mixed
"""


def _network(facts: Facts) -> str:
    return str(facts.arguments.get("network") or facts.arguments["model"])


def _plain(value: Any) -> str:
    """A value as YAML in one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("\n...\n").strip()


def _arguments(facts: Facts) -> str:
    lines = (f"    {key}: {_plain(value)}{_note(facts, key)}\n" for key, value in facts.arguments.items())
    return "".join(lines)


def _note(facts: Facts, key: str) -> str:
    return f"  # {facts.notes[key]}" if key in facts.notes else ""


def _layer(facts: Facts, layer: str) -> str:
    return f"{{class_path: {facts.class_path}, init_args: {{<<: *network, layer: {_plain(layer)}}}}}"


def _features(facts: Facts) -> str:
    return "".join(f"\n        - {_layer(facts, stage)}" for stage in facts.stages) or " []"


def _and_later(facts: Facts) -> str:
    return ", at the layer and at the network's output" if facts.logits else ""


def _later(facts: Facts) -> str:
    return f"\n      later: [{_layer(facts, 'logits')}]" if facts.logits else ""


def _patches(height: int, width: int) -> list[int]:
    """4, 8 and 32 as on CIFAR-10, and the whole of larger images."""
    return [4, 8, 32, *([max(height, width)] if max(height, width) > 32 else [])]


def _large(height: int, width: int) -> str:
    """What to change for large images."""
    if max(height, width) <= 64:
        return ""
    return f"""
      # {height} x {width} pixels are many for it: this recipe was measured at 32 x 32. If the samples are poor or the
      # training is slow, draw the latents of a pretrained autoencoder instead, as configs/imagenet/
      # energy_score_convnext_base.yaml does: `latents: {{class_path: fibermodels.latents.AutoencoderKL, init_args:
      # {{path: FOLDER, image_shape: [3, {height}, {width}]}}}}`, patch_sizes [8, 32, {height}], a wider Upsampler
      # (width 512, blocks 4, head 64), and a GPU."""
