"""CheXpert: chest radiographs with the labels of its csv files."""

import csv
import difflib
import re
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

import numpy as np
import torch

from fibermodels.data.digits import Split
from fibermodels.data.image_data import ImageData, held_out
from fibermodels.data.image_files import Fit
from fibermodels.data.image_set import Listing, Unreadable

LABELS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
"""The fourteen observations, as the csv files name them."""

COMPETITION = ["Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion"]
"""The observations of CheXpert's competition, on which classifiers are compared."""

VALUES = {"1": 1.0, "1.0": 1.0, "0": 0.0, "0.0": 0.0, "-1": float("nan"), "-1.0": float("nan")}

Blank = Literal["negative", "unlabelled"]


class CheXpert(ImageData):
    """CheXpert: `ROOT/{train,valid}.csv`, and the radiographs that they name.

    `valid.csv` is the test split. The seed selects the patients of the validation split from `train.csv`, so no patient
    is in two splits.

    The labels are `(N, K)` in {0, 1, NaN}. NaN marks observations that are uncertain (-1 in the csv) or, depending on
    `blank`, not mentioned in the report. Paths in the csv begin with the name of the data set's
    folder; the rest must lie below the root.

    Args:
        root: the folder, in the working directory or below the data root (`$FIBERMODELS_DATA`, else `data`).
        image_shape: `[C, H, W]` of the images; C is 1, or 3 to repeat the grey values.
        labels: the observations, in the order of the labels.
        blank: whether an observation that a report does not mention is `negative` (0) or `unlabelled` (NaN).
        frontal: whether to omit lateral views.
        batch_size: images per batch and process.
        workers: processes that decode; 0 decodes in the training process.
        seed: the seed of the validation split, the order of the images, and the flips.
        flip: whether to mirror half of the training images, chosen anew in every epoch.
        subset: largest number of images per split; None takes all.
        val_size: number or share of the patients in the validation split.
        fit: how an image with other proportions becomes H x W: `stretch`, or `crop` to keep the centre.
        unreadable: `error` for an image that cannot be decoded, or `skip` to replace it by another image with the same
            labels, with a warning.
        cache: whether to decode every image once and keep its bytes in memory.

    Reference: Irvin et al., arXiv 1901.07031.
    """

    layout = (
        "  train.csv and valid.csv (columns Path, Frontal/Lateral and the observations), and the images they name,\n"
        "  train/patient00001/study1/view1_frontal.jpg"
    )

    def __init__(
        self,
        root: str = "CheXpert-v1.0-small",
        image_shape: list[int] = [1, 384, 384],  # noqa: B006  (read only)
        labels: list[str] = COMPETITION,
        blank: Blank = "negative",
        frontal: bool = True,
        batch_size: int = 64,
        workers: int = 0,
        seed: int = 0,
        flip: bool = False,
        subset: int | None = None,
        val_size: int | float = 0.1,
        fit: Fit = "stretch",
        unreadable: Unreadable = "error",
        cache: bool = False,
    ) -> None:
        super().__init__(root, image_shape, batch_size, workers, seed, flip, subset, val_size, fit, unreadable, cache)
        if blank not in get_args(Blank):
            raise ValueError(f"data.blank: expected one of {list(get_args(Blank))}, got '{blank}'")
        if not labels or len(set(labels)) < len(labels):
            raise ValueError(f"data.labels: expected at least one observation and each once, got {labels}")
        for label in labels:
            if label not in LABELS:
                near = difflib.get_close_matches(label, LABELS) or list(LABELS)
                raise ValueError(f"data.labels: there is no observation '{label}'; did you mean {near}?")
        self.labels, self.blank, self.frontal = list(labels), blank, frontal
        self.name = "chexpert"

    def listing(self, split: Split) -> Listing:
        root = self.folder()
        found = self._read(root / ("valid.csv" if split == "test" else "train.csv"))
        if split == "test":
            return found.take(self.order(len(found.files), split))
        names = np.unique([patient_of(file) for file in found.files], return_inverse=True)
        patient = torch.from_numpy(names[1])  # the index of each image's patient in their sorted list
        count = int(patient.max()) + 1
        held = torch.zeros(count, dtype=torch.bool)
        held[self.order(count, "patients")[: held_out(self.val_size, count, 1, str(root / "train.csv"))]] = True
        rows = self.order(len(patient), "train")
        return found.take(rows[held[patient[rows]] == (split == "val")])

    def _read(self, table: Path) -> Listing:
        """The images and labels of a csv file.

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: columns are missing, a value is unknown, a path leads out of the root, or no image is left.
        """
        if not table.is_file():
            raise FileNotFoundError(f"CheXpert: there is no file '{table}'. Expected there:\n{self.layout}")
        files, labels = [], []
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            columns = list(rows.fieldnames or [])
            missing = [name for name in ("Path", "Frontal/Lateral", *self.labels) if name not in columns]
            if missing:
                raise ValueError(f"'{table}' lacks the columns {missing}; it has {columns}")
            for row in rows:
                if self.frontal and (row["Frontal/Lateral"] or "").strip().lower() != "frontal":
                    continue
                files.append(below_root(row["Path"] or "", f"'{table}', line {rows.line_num}"))
                labels.append([self._value(row[name], name, table, rows.line_num) for name in self.labels])
        if not files:
            raise ValueError(f"'{table}' lists no {'frontal ' if self.frontal else ''}image")
        return Listing(table.parent, files, torch.tensor(labels), self.labels, confined=True)

    def _value(self, text: str | None, name: str, table: Path, line: int) -> float:
        text = (text or "").strip()
        if not text:
            return 0.0 if self.blank == "negative" else float("nan")
        if text not in VALUES:
            raise ValueError(f"'{table}', line {line}, column {name}: expected 1, 0, -1 or nothing, got '{text}'")
        return VALUES[text]


def below_root(path: str, where: str) -> str:
    """The path relative to the data set's folder, from a csv's path that begins with the folder's name.

    Raises:
        ValueError: the path is empty or absolute, or leads upwards.
    """
    pure = PurePosixPath(path.strip())
    parts = pure.parts[1:] if pure.parts and pure.parts[0].startswith("CheXpert") else pure.parts
    if not parts or pure.is_absolute() or ".." in parts or "\\" in path:
        raise ValueError(f"{where}: expected a path below the data set's folder, got '{path}'")
    return "/".join(parts)


def patient_of(path: str) -> str:
    """The patient in a path such as `train/patient00001/study1/view1_frontal.jpg`.

    Raises:
        ValueError: the path names no patient.
    """
    found = re.search(r"patient\d+", path)
    if found is None:
        raise ValueError(f"'{path}' names no patient; expected a folder such as patient00001")
    return found.group()
