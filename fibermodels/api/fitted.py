"""A fiber model at hand: it samples, scores, draws pictures, answers questions and is saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fibermodels.api.applied import Applied
from fibermodels.core import FiberModel, Subject
from fibermodels.data.arrays import ENDINGS
from fibermodels.data.given import read, read_inputs
from fibermodels.display import columns
from fibermodels.evaluation.drawing import Choice
from fibermodels.evaluation.rows import Row
from fibermodels.evaluation.scoring import evaluate, subject_name
from fibermodels.evaluation.tables import markdown_table
from fibermodels.guidance import LatentDescent
from fibermodels.models import NearestNeighbour
from fibermodels.noise import seeded
from fibermodels.spaces import ImageSpace
from fibermodels.training import Run, push_to_hub, save_pretrained

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(repr=False)
class Fitted(Applied):
    """A fiber model with its subject and data.

    Args:
        model: what samples.
        subject: the network whose fibers are sampled.
        data: of the training; None if it is not known.
        folder: of the run; None if there is none.
        run: the training with its cost; None for a model without training.
    """

    model: FiberModel
    subject: Subject
    data: Any = None
    folder: Path | None = None
    run: Run | None = None

    @classmethod
    def of(cls, run: Run, folder: Path | None = None) -> Fitted:
        """The product of a training, in evaluation mode.

        Raises:
            ValueError: it trained no fiber model of a subject.
        """
        model, subject = run.model.product(()), run.subject
        if not isinstance(model, FiberModel) or subject is None:
            raise ValueError(f"expected the training of a fiber model with its subject, got a {type(model).__name__}")
        return cls(model.eval().requires_grad_(False), subject, run.data, folder, run)

    def save(self, folder: str | Path, **options: Any) -> Path:
        """Saves the model as a folder, which `fibermodels.load` and the hub take (see `save_pretrained`).

        Args:
            folder: made if it is missing.
            options: `result`, `license`, `repository`, `half` and `overwrite` of `save_pretrained`.

        Raises:
            FileExistsError: the folder holds a model and `overwrite` is not set.
            ValueError: a model without training.
        """
        save_pretrained(self._trained(), folder, **options)
        return Path(folder)

    def push_to_hub(self, repository: str, **options: Any) -> str:
        """Saves the model to the hub of Hugging Face, and returns its address (see `training.push_to_hub`).

        Args:
            repository: the id `user/name`.
            options: `private`, `revision`, `token`, `result`, `license` and `half`.

        Raises:
            OSError: the hub refuses, or cannot be reached.
            ValueError: a model without training.
        """
        return push_to_hub(self._trained(), repository, **options)

    def _trained(self) -> Run:
        if self.run is None:
            raise ValueError(f"save: expected a trained model, got a {type(self.model).__name__}, which has no weights")
        return self.run

    def __repr__(self) -> str:
        where = f", '{self.folder}'" if self.folder else ""
        return f"Fitted({type(self.model).__name__} of {subject_name(self.subject)}{where})"

    def inputs(self, given: Any) -> Tensor:
        """Inputs `(B, *input_shape)` of the subject's kind.

        Args:
            given: images as in `images`; or for a subject of other inputs a tensor, an array or a list of numbers
                `(*input_shape)` or `(B, *input_shape)`, or a file of such (see `data.arrays.read_arrays`). Rows of a
                file are in the units of the file: if the data are a `Table`, they are standardised as its rows.

        Raises:
            ValueError: another shape or range, or no numbers.
        """
        space = self.subject.input_space
        if isinstance(space, ImageSpace):
            return self.images(given)
        if isinstance(given, (str, Path)):
            return read_inputs(given, space, self.data)
        x = numbers(given)
        x = x if x.ndim > len(space.shape) else x[None]
        space.check(x, "input")
        return x

    def images(self, given: Any) -> Tensor:
        """Images `(B, C, H, W)` in [0, 1] of the subject's shape.

        Args:
            given: images `(C, H, W)` or `(B, C, H, W)` in [0, 1] or bytes, an image of PIL, the path of a file, or a
                list of these.

        Raises:
            ValueError: another shape or range.
            UnreadableImage: a file that cannot be decoded.
        """
        shape, parts = tuple(self.subject.image_shape), []
        for each in given if is_list(given) else [given]:
            pixels = read(each, shape[-1])
            parts.append(pixels if pixels.ndim == 4 else pixels[None])
        x = torch.cat(parts).float() / 255
        if tuple(x.shape[1:]) != shape:
            raise ValueError(f"image: expected images {list(shape)}, got {list(x.shape[1:])}")
        return x

    @torch.no_grad()
    def sample(self, image: Any = None, n: int = 8, *, h: Tensor | None = None, seed: int = 0) -> Tensor:
        """Inputs that the subject maps to the representation of an input, or to a given one.

        Args:
            image: as in `inputs`.
            n: samples of each.
            h: representations `(*feature_shape)` or `(B, *feature_shape)`, instead of inputs.
            seed: of the samples.

        Returns:
            `(n, *input_shape)` for one input or representation, `(n, B, *input_shape)` for a batch.

        Raises:
            ValueError: not one of `image` and `h`, or another shape.
        """
        if (image is None) == (h is None):
            raise ValueError(f"sample: expected one of image and h, got {'none' if image is None else 'both'}")
        x, shape = None, tuple(self.subject.feature_shape)
        if h is None:
            x, ndim = self.inputs(image), len(self.subject.input_shape)
            if isinstance(self.subject.input_space, ImageSpace):
                alone = not is_list(image) and getattr(image, "ndim", ndim) == ndim
            else:
                alone = not isinstance(image, (str, Path)) and numbers(image).ndim == ndim
            h = self.subject(x)
        else:
            alone = tuple(h.shape) == shape
            h = h[None] if alone else h
            if tuple(h.shape[1:]) != shape:
                raise ValueError(f"h: expected {list(shape)} or a batch of them, got {list(h.shape)}")
        samples = self.model.sample(h, n, seeded(seed), x)
        return samples[:, 0] if alone else samples

    def refined(self, steps: int = 16, learning_rate: float = 0.001) -> Fitted:
        """The same model, whose samples then move to the fiber by steps too small to see (`guidance.LatentDescent`).

        Each step is one of Adam along the gradient of the distance of `phi(x_hat)` to `h`; it costs a forward and a
        backward pass of the subject, and no training.

        Args:
            steps: how many.
            learning_rate: the most by which a step moves a number of the latent; for the images of `fit`, whose latents
                are pixels, in shares of their range. Steps of a hundredth are too large for natural images.

        Raises:
            ValueError: a number out of its range; a model without a latent space.
        """
        model = LatentDescent(self.model, self.subject, steps=steps, learning_rate=learning_rate)
        return replace(self, model=model.eval(), run=None)

    def score(self, num_targets: int = 200, samples: int = 4, seed: int = 0, neighbour: bool = True) -> Scores:
        """Scores of samples for test inputs, beside those of the nearest training inputs.

        Args:
            num_targets: of the test inputs, at most.
            samples: of each.
            seed: of the samples.
            neighbour: whether the nearest training inputs are scored, too.

        Raises:
            ValueError: the data are not known.
        """
        if self.data is None:
            raise ValueError("score: expected a model with its data, got one without; load it with data=...")
        choice = Choice(min(num_targets, len(self.data.split("test"))), samples, seed)
        models = {"fibermodels": self.model, **({"nearest_neighbour": NearestNeighbour()} if neighbour else {})}
        rows = []
        for name, model in models.items():
            about: dict[str, Any] = {"name": name}
            if self.run is not None and model is self.model:
                module = self.run.training
                about |= {"fiber_weight": float(module.fiber.weight), "training_seconds": module.seconds}
            rows.append(evaluate(model, self.subject, self.data, choice, about=about)[1])
        return Scores(rows)

    def plot(self, image: Any = None, n: int = 8, seed: int = 0) -> Figure:
        """A figure with each image above samples of its fiber; of points, tables and signals, a plot for each.

        Args:
            image: as in `inputs`; None takes eight test inputs.
            n: samples of each.
            seed: of the samples.
        """
        if image is None and self.data is None:
            raise ValueError("plot: expected inputs, because the data are not known")
        x = self.data.split("test").inputs(slice(8)) if image is None else self.inputs(image)
        with torch.no_grad():
            drawn = self.model.sample(self.subject(x), n, seeded(seed), x)
        return columns(torch.cat((x[None], drawn)), ["image", *(f"sample {i + 1}" for i in range(n))])


def numbers(given: Any) -> Tensor:
    """A tensor, an array, or a list of numbers or of tensors, as floating point.

    Raises:
        ValueError: it is something else.
    """
    try:
        return torch.as_tensor(given if isinstance(given, Tensor) else np.asarray(given)).float()
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"input: expected a tensor, an array or a list of numbers, or a file that ends in {', '.join(ENDINGS)}, "
            f"got a {type(given).__name__}"
        ) from error


def is_list(given: Any) -> bool:
    """Whether several images were given, and not the path of one."""
    return isinstance(given, Sequence) and not isinstance(given, str)


@dataclass(frozen=True)
class Scores:
    """The metrics of some models on the same targets."""

    rows: list[Row]

    def __getitem__(self, name: str) -> float:
        """A metric of the first model."""
        return float(self.rows[0][name])

    def __repr__(self) -> str:
        return markdown_table(self.rows)

    def _repr_markdown_(self) -> str:
        return markdown_table(self.rows)
