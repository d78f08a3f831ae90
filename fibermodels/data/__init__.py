"""Data sets with seeded, reproducible splits: images in [0, 1], and other inputs in their own units."""

from typing import TYPE_CHECKING, Any

from fibermodels.config import lazy

if TYPE_CHECKING:
    from fibermodels.data.arrays import Arrays
    from fibermodels.data.chexpert import CheXpert
    from fibermodels.data.cue_conflict import CueConflict
    from fibermodels.data.image_folder import ImageFolder
    from fibermodels.data.imagenet import ImageNet
    from fibermodels.data.in_memory import InMemory
    from fibermodels.data.representations import Representations
    from fibermodels.data.table import Table

__all__ = ["Arrays", "CheXpert", "CueConflict", "ImageFolder", "ImageNet", "InMemory", "Representations", "Table"]

_HOME = {
    "Arrays": "arrays",
    "CheXpert": "chexpert",
    "CueConflict": "cue_conflict",
    "ImageFolder": "image_folder",
    "ImageNet": "imagenet",
    "InMemory": "in_memory",
    "Representations": "representations",
    "Table": "table",
}


def __getattr__(name: str) -> Any:
    """Imports on first use: data modules load lightning, which takes seconds."""
    return lazy(__name__, _HOME, name)
