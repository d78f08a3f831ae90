"""Images on disk: any folder, ImageNet, CheXpert, cue conflict. The names of one place; a file for each."""

from fibermodels.data.image_folder import ImageFolder

__all__ = ["ImageFolder"]
