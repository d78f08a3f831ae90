"""Cue conflict stimuli: images with the shape of one category and the texture of another."""

import re

import torch

from fibermodels.core import HasCategories
from fibermodels.data.digits import Split
from fibermodels.data.image_data import ImageData
from fibermodels.data.image_files import ENDINGS, Fit, find_images
from fibermodels.data.image_set import Listing, Unreadable

_IMAGENET = {
    "airplane": "404",
    "bear": "294-297",
    "bicycle": "444 671",
    "bird": "8 10-16 18-20 22-24 80-83 87-96 98-100 127-133 135-145",
    "boat": "472 554 625 814 914",
    "bottle": "440 720 737 898-899 901 907",
    "car": "436 511 817",
    "cat": "281-286",
    "chair": "423 559 765 857",
    "clock": "409 530 892",
    "dog": "152-191 193-203 205-226 228-241 243-250 252-257 259 261-263 265-268",
    "elephant": "385-386",
    "keyboard": "508 878",
    "knife": "499",
    "oven": "766",
    "truck": "555 569 656 675 717 734 864 867",
}

CATEGORIES = list(_IMAGENET)
"""The sixteen categories, in the order of the labels."""


def imagenet_classes(category: str) -> list[int]:
    """The classes of ImageNet-1k that belong to a category: those below it in WordNet, without doubtful ones.

    Reference: Geirhos et al., arXiv 1808.08750, "16-class-ImageNet"; 207 classes, as the authors' code lists them.

    Raises:
        ValueError: an unknown category.
    """
    if category not in _IMAGENET:
        raise ValueError(f"category: expected one of {CATEGORIES}, got '{category}'")
    bounds = [part.split("-") for part in _IMAGENET[category].split()]
    return [index for bound in bounds for index in range(int(bound[0]), int(bound[-1]) + 1)]


class CueConflict(ImageData, HasCategories):  # type: ignore[misc]
    """Cue conflict stimuli, `ROOT/SHAPE/SHAPE7-TEXTURE2.png`.

    The labels are `(N, 2)`: shape and texture. The stimuli are a test set: all of them are in `test`, and also in
    `train`, for nearest neighbours; there is no `val`.

    Args:
        root: the folder, in the working directory or below the data root (`$FIBERMODELS_DATA`, else `data`).
        image_shape: `[C, H, W]` of the images; C is 3, or 1 for grey images.
        conflicting: whether to omit stimuli with shape and texture of the same category: 1,200 of 1,280 remain.
        batch_size: images per batch and process.
        workers: processes that decode; 0 decodes in this process.
        seed: the seed of the order of the images.
        subset: largest number of images; None takes all.
        fit: how an image with other proportions becomes H x W: `crop` to keep the centre, or `stretch`.
        unreadable: `error` for an image that cannot be decoded, or `skip` to replace it by another image with the same
            labels, with a warning.
        cache: whether to decode every image once and keep its bytes in memory.

    Reference: Geirhos et al., arXiv 1811.12231.
    """

    layout = "  SHAPE/SHAPE7-TEXTURE2.png for the categories " + ", ".join(CATEGORIES)

    def __init__(
        self,
        root: str = "cue_conflict",
        image_shape: list[int] = [3, 256, 256],  # noqa: B006  (read only)
        conflicting: bool = True,
        batch_size: int = 64,
        workers: int = 0,
        seed: int = 0,
        subset: int | None = None,
        fit: Fit = "crop",
        unreadable: Unreadable = "error",
        cache: bool = False,
    ) -> None:
        super().__init__(root, image_shape, batch_size, workers, seed, False, subset, 0.5, fit, unreadable, cache)
        self.conflicting = conflicting
        self.name = "cue_conflict"

    def categories(self) -> list[list[int]]:
        return [imagenet_classes(name) for name in CATEGORIES]

    def listing(self, split: Split) -> Listing:
        if split == "val":
            raise ValueError("CueConflict: split: expected 'train' or 'test', got 'val'; the stimuli are a test set")
        root = self.folder()
        files = find_images(root)
        if not files:
            raise FileNotFoundError(f"no image below '{root}' (names that end in {', '.join(ENDINGS)})")
        labels = torch.tensor([self._cues(file) for file in files])
        found = Listing(root, files, labels, CATEGORIES)
        rows = self.order(len(files), "test")
        kept = rows[labels[rows, 0] != labels[rows, 1]] if self.conflicting else rows
        if not len(kept):
            raise ValueError(f"data.conflicting: shape and texture are one category in all {len(files)} stimuli")
        return found.take(kept)

    def _cues(self, file: str) -> tuple[int, int]:
        named = re.fullmatch(r"([a-z]+)/([a-z]+)\d+-([a-z]+)\d+\.\w+", file)
        folder, shape, texture = named.groups() if named else ("", "", "")
        if folder != shape or shape not in CATEGORIES or texture not in CATEGORIES:
            raise ValueError(f"CueConflict: cannot tell shape and texture from '{file}'. Expected:\n{self.layout}")
        return CATEGORIES.index(shape), CATEGORIES.index(texture)
