"""Data sets of images in [0, 1] with seeded, reproducible splits."""

from typing import TYPE_CHECKING, Any

from fibermodels.config import lazy

if TYPE_CHECKING:
    from fibermodels.data.chexpert import CheXpert
    from fibermodels.data.cue_conflict import CueConflict
    from fibermodels.data.image_folder import ImageFolder
    from fibermodels.data.imagenet import ImageNet

__all__ = ["CheXpert", "CueConflict", "ImageFolder", "ImageNet"]

_HOME = {
    "CheXpert": "chexpert",
    "CueConflict": "cue_conflict",
    "ImageFolder": "image_folder",
    "ImageNet": "imagenet",
}


def __getattr__(name: str) -> Any:
    """Imports on first use: data modules load lightning, which takes seconds."""
    return lazy(__name__, _HOME, name)
