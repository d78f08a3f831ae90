"""Any folder of images."""

import difflib
from pathlib import Path

import torch

from fibermodels.data.digits import Split
from fibermodels.data.image_data import ImageData
from fibermodels.data.image_files import ENDINGS, find_images, is_hidden
from fibermodels.data.image_set import Listing


class ImageFolder(ImageData):
    """Any folder of images, with or without classes.

    The folders are `ROOT/{train,test}` and optionally `ROOT/val`, or `ROOT` only. The subfolders of a split are its
    classes; without subfolders there are no labels. If `val` is missing, the seed selects the validation images from
    `train`; if all three are missing, it selects validation and test images from `ROOT`.

    Args:
        root: the folder, in the working directory or below the data root (`$FIBERMODELS_DATA`, else `data`).
        image_shape: `[C, H, W]` of the images; C is 3, or 1 for grey images.
        batch_size: images per batch and process.
        workers: processes that decode; 0 decodes in the training process.
        seed: the seed of the splits, the order of the images, and the flips.
        flip: whether to mirror half of the training images, chosen anew in every epoch.
        subset: largest number of images per split; None takes all.
        val_size: number or share of validation images if `val` is missing, and of test images if `test` is missing too.
        fit: how an image with other proportions becomes H x W: `crop` to keep the centre, or `stretch`.
        unreadable: `error` for an image that cannot be decoded, or `skip` to replace it by another image with the same
            labels, with a warning.
        cache: whether to decode every image once and keep its bytes in memory, for small sets such as CIFAR.
    """

    layout = "  train/CLASS/*.jpg, test/CLASS/*.jpg, and perhaps val/CLASS/*.jpg; or CLASS/*.jpg; or *.jpg"

    def listing(self, split: Split) -> Listing:
        root = self.folder()
        given = [name for name in ("train", "val", "test") if (root / name).is_dir()]
        if not given:
            return self.divided(find_labelled(root), split, ("test", "val"))
        if "train" not in given or (split == "test" and split not in given):
            raise FileNotFoundError(f"ImageFolder: '{root}' has only {given}. Expected there:\n{self.layout}")
        if split == "train" or split not in given:
            return self.divided(find_labelled(root / "train"), split, () if "val" in given else ("val",))
        part = find_labelled(root / split, class_folders(root / "train"))
        return part.take(self.order(len(part.files), split))


def class_folders(folder: Path) -> list[str]:
    """The classes: the sorted names of the subfolders."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name))


def find_labelled(folder: Path, classes: list[str] | None = None) -> Listing:
    """The images below a folder, labelled by its subfolders; without subfolders there are no labels.

    Args:
        folder: the folder.
        classes: the allowed names of subfolders, in the order of the labels; None takes all subfolders, sorted.

    Raises:
        FileNotFoundError: there is no image below the folder, or below one of its subfolders.
        ValueError: a subfolder is not a class, or the folder has both images and subfolders.
    """
    files = find_images(folder)
    if not files:
        raise FileNotFoundError(f"no image below '{folder}' (names that end in {', '.join(ENDINGS)})")
    loose = [file for file in files if "/" not in file]
    if len(loose) == len(files):
        if classes:
            raise ValueError(f"'{folder}' has no subfolders, but the training images have the classes {classes[:5]}")
        return Listing(folder, files, None, [])
    if loose:
        raise ValueError(f"'{folder}' has subfolders, and images beside them such as '{loose[0]}'")
    found = class_folders(folder)
    names = found if classes is None else classes
    for name in found:
        if name not in names:
            near = difflib.get_close_matches(name, names)
            raise ValueError(
                f"'{folder / name}': no class of the training images is called '{name}'"
                + (f"; did you mean {near}?" if near else f"; they have {names[:5]}")
            )
    of = [file.partition("/")[0] for file in files]
    empty = sorted(set(found) - set(of))
    if empty:
        raise FileNotFoundError(f"no image below '{folder / empty[0]}' (names that end in {', '.join(ENDINGS)})")
    number = {name: index for index, name in enumerate(names)}
    return Listing(folder, files, torch.tensor([number[name] for name in of]), names)
