"""The command `sample`: samples of the fibers of any images or other inputs, as pictures and a table."""

import csv
import sys
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor
from torchvision.utils import save_image

from fibermodels import distances
from fibermodels.commands import Parser, check_files, explained, print_table
from fibermodels.core import Data, FiberSamples, Subject
from fibermodels.data.given import read_inputs
from fibermodels.data.image_data import ImageData
from fibermodels.data.image_files import ENDINGS, ImageReader, find_images
from fibermodels.data.table import Table
from fibermodels.evaluation import building
from fibermodels.evaluation.devices import accelerator, check_device
from fibermodels.evaluation.drawing import Drawing, check_memory
from fibermodels.evaluation.figures import sample_grid
from fibermodels.evaluation.scoring import remember
from fibermodels.files import check_new, claim, release, replace_file, save_tensors, write_csv
from fibermodels.programs import called
from fibermodels.spaces import ImageSpace

COLUMNS = {"image": "image", "sample": "sample", "fiber_rms": "fiber RMS", "cosine": "cosine", "seconds": "seconds"}
"""The columns of the table, and their titles on the screen."""

PICTURED, PRINTED, BATCH, ENTRIES = (16, 16), 40, 64, 32
"""The most targets and samples of each in the picture, rows on the screen, samples that are drawn at a time, and
entries of a vector in the table."""

Lines = list[dict[str, str | int | float]]


def parser() -> Parser:
    """The options of the command."""
    own = Parser(
        prog=called("sample"),
        description="Draws samples of the fibers of any images: a picture of each sample, `samples.png` with the "
        "images in the first row and their samples below, and `samples.csv`. Images are scaled and cropped to the "
        "shape that the subject takes. Of other inputs, `samples.safetensors` takes the place of the pictures of each. "
        "Give one of --images, --inputs and --targets.",
    )
    own.add_argument(
        "--checkpoint",
        type=str,
        required=True,
        help="runs/NAME/checkpoints/best.ckpt, or the YAML file of a model that needs no training; "
        "--model.ARGUMENT VALUE changes an argument of the model",
    )
    own.add_argument("--images", type=str, nargs="+", help="image files, or folders of them")
    own.add_argument(
        "--inputs",
        type=str,
        nargs="+",
        help="for a subject of other inputs: .csv, .npy, .npz or .safetensors files of points, signals or maps",
    )
    own.add_argument("--targets", type=int | None, default=None, help="instead of files: the first test inputs")
    own.add_argument("--out", type=str, required=True, help="folder for the samples")
    own.add_argument("-n", "--samples", type=int, default=8, help="samples of each image")
    own.add_argument("--seed", type=int, default=0, help="seed of the samples")
    own.add_argument("--device", type=str, default=accelerator(), help="such as cpu or cuda")
    own.add_argument("--overwrite", type=bool, default=False, help="replace earlier samples")
    return own


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command. Errors of the user give one message and exit status 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with explained():
        building.guard_imports()
        check_files(words)
        own, overrides = building.split_overrides(words)
        options = parser().parse_args(own)
        for name, least in (("samples", 1), ("seed", 0)):
            if options[name] < least:
                raise ValueError(f"{name}: expected at least {least}, got {options[name]}")
        if not options.out:
            raise ValueError("out: expected a folder, got ''")
        out = Path(options.out)
        check_new(out / "samples.csv", options.overwrite)
        check_device(options.device)
        chosen = [f"--{name}" for name in ("images", "inputs", "targets") if options[name] is not None]
        if len(chosen) != 1:
            raise ValueError(f"expected one of --images, --inputs and --targets, got {' and '.join(chosen) or 'none'}")
        if options.targets is not None and options.targets < 1:
            raise ValueError(f"targets: expected at least 1, got {options.targets}")
        files = image_files(options.images) if options.images else [Path(path) for path in options.inputs or ()]
        described = Path(options.checkpoint).suffix in (".yaml", ".yml")
        checkpoint, file = (None, options.checkpoint) if described else (options.checkpoint, None)
        model, subject, data, _ = building.build(checkpoint, file, overrides)
        images = isinstance(subject.input_space, ImageSpace)
        if files and images != bool(options.images):
            given, wanted = ("--images", "--inputs") if options.images else ("--inputs", "--images")
            raise ValueError(f"{given}: expected {wanted}, because the subject takes {subject.input_space.word}")
        if options.targets is not None:
            x = data.split("test").inputs(slice(options.targets))
            files = [Path(f"test#{row}") for row in range(len(x))]
        elif images:
            check_memory(subject, len(files), options.samples)
            x = read_images(files, subject, data)
        else:
            parts = [read_inputs(file, subject.input_space, data) for file in files]
            x = torch.cat(parts)
            files = [Path(f"{file}#{row}") for file, own in zip(files, parts, strict=True) for row in range(len(own))]
        check_memory(subject, len(files), options.samples)
        names = unique_stems(files) if images else []
        remember(model, subject, data, options.device)
        size = max(1, BATCH // options.samples)
        drawing = Drawing(model, subject, x, options.samples, options.seed, size, options.device)
        samples, seconds, _ = drawing.gather()
        table = rows(files, samples, seconds / samples.x_hat.shape[:2].numel(), data)
        lock = claim(out)
        try:
            write(out, names, samples, table)
        finally:
            release(lock)
    _print(table)
    print(f"{seconds:.3g} seconds for {len(table)} samples on {options.device}\n{out}/samples.csv\n{out}/samples.png")


def image_files(paths: Sequence[str]) -> list[Path]:
    """The image files that a user named, those in folders in alphabetical order; each file once.

    Raises:
        FileNotFoundError: there is nothing at a path, or no image in a folder.
    """
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"--images: there is nothing at '{path}' (from {Path.cwd()})")
        files = [path / name for name in find_images(path)] if path.is_dir() else [path]
        if not files:
            raise FileNotFoundError(f"--images: no image below '{path}' (names that end in {', '.join(ENDINGS)})")
        for file in files:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def read_images(files: Sequence[Path], subject: Subject, data: Data) -> Tensor:
    """Images `(B, C, H, W)` in [0, 1] of the subject's shape, scaled and cropped as the data set does.

    Raises:
        UnreadableImage: a file is no image.
        ValueError: the subject takes neither grey nor colour images.
    """
    fit = data.reader.fit if isinstance(data, ImageData) else "crop"
    channels, height, width = subject.image_shape
    reader = ImageReader((channels, height, width), fit)
    return torch.stack([reader(file) for file in track(files, "reading images")]).float() / 255


def rows(files: Sequence[Path], samples: FiberSamples, seconds: float, data: Data) -> Lines:
    """The table: each sample's distance from the fiber of its input, and the mean time of a sample; the entries of
    samples that are short vectors, those of a `Table` in the units of its file."""
    entries = samples.x_hat.double()
    if samples.x.ndim != 2 or samples.x.shape[1] > ENTRIES:
        entries = entries[..., :0]
    elif isinstance(data, Table):
        entries = data.restored(entries)
    rms = torch.stack([distances.rms(samples.h, slot) for slot in samples.h_hat])
    cosine = 1 - torch.stack([distances.cosine(samples.h, slot) for slot in samples.h_hat])
    return [
        {
            "image": str(file),
            "sample": slot + 1,
            "fiber_rms": round(float(rms[slot, target]), 6),
            "cosine": round(float(cosine[slot, target]), 6),
            "seconds": round(seconds, 6),
            **{f"x{i}": round(float(value), 6) for i, value in enumerate(entries[slot, target].flatten())},
        }
        for target, file in enumerate(files)
        for slot in range(len(rms))
    ]


def unique_stems(files: Sequence[Path]) -> list[str]:
    """The files' names without their endings, numbered where they repeat: `cat`, `cat_2`."""
    stems, names = {file.stem for file in files}, []
    for file in files:
        name, number = file.stem, 1
        while name in names or (number > 1 and name in stems):
            number += 1
            name = f"{file.stem}_{number}"
        names.append(name)
    return names


def write(out: Path, names: Sequence[str], samples: FiberSamples, table: Lines) -> None:
    """Writes `NAME-1.png`, `NAME-2.png` and so on for each image, or `samples.safetensors` if there are no names;
    `samples.png`; and the table last.

    Pictures of an earlier table are removed when the new ones are there.
    """
    earlier = _pictures(out)
    written: list[str] = []
    for target, name in enumerate(names):
        for slot, image in enumerate(samples.x_hat[:, target], 1):
            written.append(f"{name}-{slot}.png")
            replace_file(out / written[-1], partial(save_image, image))
    if not names:
        tensors = {field.name: getattr(samples, field.name) for field in fields(samples)}
        save_tensors(tensors, out / "samples.safetensors")
    most_targets, most_samples = PICTURED
    replace_file(out / "samples.png", lambda file: sample_grid(samples, file, most_targets, most_samples))
    lines = [
        {**row, "file": file} for row, file in zip(table, written or ["samples.safetensors"] * len(table), strict=True)
    ]
    write_csv(out / "samples.csv", list(lines[0]), lines)
    for name in earlier - set(written):
        (out / name).unlink(missing_ok=True)


def _pictures(out: Path) -> set[str]:
    """The pictures in a folder that its table names."""
    table = out / "samples.csv"
    if not table.is_file():
        return set()
    with table.open(newline="", encoding="utf-8") as file:
        names = {row.get("file") or "" for row in csv.DictReader(file)}
    return {name for name in names if name.endswith(".png") and Path(name).name == name}


def _print(table: Lines) -> None:
    lines = [[f"{row[key]:.4g}" if isinstance(row[key], float) else str(row[key]) for key in COLUMNS] for row in table]
    print_table(list(COLUMNS.values()), lines[:PRINTED])
    if len(lines) > PRINTED:
        print(f"... and {len(lines) - PRINTED} more rows in samples.csv")
