"""Images on disk, decoded as they are needed: any folder, ImageNet, CheXpert, cue conflict."""

from fibermodels.data.chexpert import CheXpert
from fibermodels.data.cue_conflict import CueConflict
from fibermodels.data.image_folder import ImageFolder
from fibermodels.data.imagenet import ImageNet

__all__ = ["CheXpert", "CueConflict", "ImageFolder", "ImageNet"]
