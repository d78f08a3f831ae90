"""ImageNet as it is unpacked: a folder for each class."""

from pathlib import Path

from fibermodels.data.digits import Split
from fibermodels.data.image_data import ImageData
from fibermodels.data.image_files import Fit
from fibermodels.data.image_folder import class_folders, find_labelled
from fibermodels.data.image_set import Listing, Unreadable


class ImageNet(ImageData):
    """ImageNet as it is unpacked, `ROOT/{train,val}/WNID/*.JPEG`.

    Its official validation images are the test split here; the validation split is taken from the training images
    by the seed.

    Labels count the WordNet ids in their order: with all 1,000 of them, the usual indices. Without `train`, the
    test split can be had alone. Classes are named by `ROOT/LOC_synset_mapping.txt` (a line: an id, then names)
    where that is, else, with 1,000 of them, as torchvision names them, else by their ids.

    Args:
        root: the folder, from here or below the data root (`$FIBERMODELS_DATA`, else `data`).
        image_shape: `[C, H, W]` of the images it yields; C is 3, or 1 for grey ones.
        batch_size: images per batch and process.
        workers: processes that decode; 0 decodes in the training process.
        seed: of the validation split, the order of the images, and the flips.
        flip: mirror half the training images, drawn anew for every epoch.
        subset: at most so many images of each split; None takes all.
        val_size: validation images, by number or share.
        fit: how an image of other proportions becomes H x W: its centre is cropped, or it is stretched.
        unreadable: what an image is that cannot be decoded: an `error`, or `skip` to let another one of its labels
            stand in for it, with a warning.
        cache: decode every image once and keep its bytes in memory.
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
    """What the classes are called, one name for each id.

    Raises:
        ValueError: a list of names that lacks one of the ids.
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
