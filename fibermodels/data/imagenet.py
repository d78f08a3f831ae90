"""ImageNet in its original layout, with a folder for each class."""

from pathlib import Path

from fibermodels.data.digits import Split
from fibermodels.data.image_data import ImageData
from fibermodels.data.image_files import Fit
from fibermodels.data.image_folder import class_folders, find_labelled
from fibermodels.data.image_set import Listing, Unreadable


class ImageNet(ImageData):
    """ImageNet in its original layout, `ROOT/{train,val}/WNID/*.JPEG`.

    Its official validation images are the test split; the seed selects the validation split from the training images.

    Labels are indices of the sorted WordNet ids, that is the usual ones with all 1,000 classes. The test split needs no
    `train`. The names of classes come from `ROOT/LOC_synset_mapping.txt` (each line has an id and names) if it exists,
    else from torchvision for 1,000 classes, else from the ids.

    Args:
        root: the folder, in the working directory or below the data root (`$FIBERMODELS_DATA`, else `data`).
        image_shape: `[C, H, W]` of the images; C is 3, or 1 for grey images.
        batch_size: images per batch and process.
        workers: processes that decode; 0 decodes in the training process.
        seed: the seed of the validation split, the order of the images, and the flips.
        flip: whether to mirror half of the training images, chosen anew in every epoch.
        subset: largest number of images per split; None takes all.
        val_size: number or share of validation images.
        fit: how an image with other proportions becomes H x W: `crop` to keep the centre, or `stretch`.
        unreadable: `error` for an image that cannot be decoded, or `skip` to replace it by another image with the same
            labels, with a warning.
        cache: whether to decode every image once and keep its bytes in memory.
    """

    layout = "  train/WNID/*.JPEG and val/WNID/*.JPEG, where WNID is a WordNet id such as n01440764"

    def __init__(
        self,
        root: str = "imagenet",
        image_shape: list[int] = [3, 256, 256],  # noqa: B006  (read only)
        batch_size: int = 64,
        workers: int = 0,
        seed: int = 0,
        flip: bool = False,
        subset: int | None = None,
        val_size: int | float = 10_000,
        fit: Fit = "crop",
        unreadable: Unreadable = "error",
        cache: bool = False,
    ) -> None:
        super().__init__(root, image_shape, batch_size, workers, seed, flip, subset, val_size, fit, unreadable, cache)
        self.name = "imagenet"

    def listing(self, split: Split) -> Listing:
        root = self.folder()
        part = root / ("val" if split == "test" else "train")
        if not part.is_dir():
            raise FileNotFoundError(f"ImageNet: no folder '{part}' for the {split} split. Expected:\n{self.layout}")
        ids = class_folders(root / "train") if split == "test" and (root / "train").is_dir() else None
        found = find_labelled(part, ids)
        if found.labels is None:
            raise ValueError(f"'{part}' has no folder for each class. Expected:\n{self.layout}")
        found = found._replace(classes=class_names(root, found.classes))
        if split == "test":
            return found.take(self.order(len(found.files), split))
        return self.divided(found, split, ("val",))


def class_names(root: Path, ids: list[str]) -> list[str]:
    """The names of the classes, one for each id.

    Raises:
        ValueError: the list of names lacks an id.
    """
    listed = root / "LOC_synset_mapping.txt"
    if listed.is_file():
        lines = [line.partition(" ") for line in listed.read_text(encoding="utf-8").splitlines()]
        names = {wnid: text.partition(",")[0].strip() for wnid, _, text in lines}
        missing = [wnid for wnid in ids if not names.get(wnid)]
        if missing:
            raise ValueError(f"'{listed}' names {len(names)} classes, but not {missing[:5]}")
        return [names[wnid] for wnid in ids]
    if len(ids) == 1000 and all(wnid[0] == "n" and wnid[1:].isdigit() for wnid in ids):
        from torchvision.models import ResNet50_Weights

        return list(ResNet50_Weights.IMAGENET1K_V2.meta["categories"])
    return ids
