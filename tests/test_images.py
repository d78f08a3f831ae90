"""Images on disk: layouts, decoding, splits, workers, and what is wrong with a folder."""

import csv
import os
import traceback
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from PIL import Image

from fibermodels.config import build, describe
from fibermodels.data import CheXpert, CueConflict, ImageFolder, ImageNet
from fibermodels.data.chexpert import COMPETITION, LABELS, below_root
from fibermodels.data.cue_conflict import CATEGORIES, imagenet_classes
from fibermodels.data.image_files import ImageReader, UnreadableImage, find_images
from fibermodels.data.loading import EpochSampler, loader
from fibermodels.metrics.shape_texture import decide

SHAPE = [3, 8, 8]


def write(path, value=None, size=(8, 8), mode="RGB"):
    """An image of one value, exact in PNG; of noise where None."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = len(Image.new(mode, (1, 1)).getbands())
    if value is None:
        pixels = np.random.default_rng(abs(hash(path.name)) % 1000).integers(0, 256, (size[1], size[0], channels))
    else:
        pixels = np.full((size[1], size[0], channels), value)
    Image.fromarray(pixels.astype(np.uint8).squeeze(), mode).save(path)
    return path


def number(images):
    """The value that `write` gave each image."""
    return (255 * images[:, 0, 0, 0]).round().int().tolist()


@pytest.fixture
def folder(tmp_path):
    """Two classes; every image has a value of its own: training ones below 100."""
    for i in range(20):
        write(tmp_path / "set" / "train" / ("cat" if i < 12 else "dog") / f"{i:03}.png", i)
    for i in range(6):
        write(tmp_path / "set" / "test" / ("cat" if i < 3 else "dog") / f"{i}.png", 100 + i)
    return tmp_path / "set"


def truncated(path):
    write(path, size=(64, 64))
    path.write_bytes(path.read_bytes()[:300])
    return path


class TestReader:
    @pytest.mark.parametrize("size", [(61, 40), (40, 61), (20, 33), (32, 32)])
    def test_it_resizes_and_crops_as_torchvision_does(self, tmp_path, size):
        from torchvision.transforms import CenterCrop, Compose, InterpolationMode, PILToTensor, Resize

        path = write(tmp_path / "a.png", size=size)
        theirs = Compose([Resize(32, InterpolationMode.BICUBIC), CenterCrop(32), PILToTensor()])(Image.open(path))
        torch.testing.assert_close(ImageReader((3, 32, 32))(path), theirs)

    def test_any_proportions(self, tmp_path):
        path = write(tmp_path / "a.png", size=(61, 40))
        assert ImageReader((3, 16, 40))(path).shape == (3, 16, 40)
        assert ImageReader((1, 16, 40), "stretch")(path).shape == (1, 16, 40)

    def test_stretching_loses_no_border(self, tmp_path):
        pixels = np.zeros((16, 64, 3), np.uint8)
        pixels[:, :16] = 255
        Image.fromarray(pixels).save(tmp_path / "a.png")
        assert ImageReader((3, 16, 16), "stretch")(tmp_path / "a.png")[0, 0, 0] == 255
        assert ImageReader((3, 16, 16), "crop")(tmp_path / "a.png").max() == 0

    def test_extreme_proportions_are_cut_before_they_are_scaled(self, tmp_path):
        """A picture of 1 x 12,000 pixels would be scaled to 32 x 384,000, which takes gigabytes."""
        pixels = np.zeros((12000, 1, 3), np.uint8)
        pixels[5999:6001] = 200
        Image.fromarray(pixels).save(tmp_path / "a.png")
        assert ImageReader((3, 32, 32))(tmp_path / "a.png").float().mean() > 90
        wide = Image.fromarray(pixels.transpose(1, 0, 2))
        wide.save(tmp_path / "b.png")
        torch.testing.assert_close(
            ImageReader((3, 32, 32))(tmp_path / "b.png"), ImageReader((3, 32, 32))(tmp_path / "a.png").mT
        )

    def test_what_is_no_picture_is_refused_at_once(self, tmp_path):
        os.mkfifo(tmp_path / "pipe.png")
        Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "float.tiff")
        Image.new("RGB", (8, 8)).save(tmp_path / "a.gif")
        (tmp_path / "a.gif").rename(tmp_path / "gif.png")
        for name, words in (("pipe", "no such file"), ("float", "floating-point"), ("gif", "cannot identify")):
            path = next(tmp_path.glob(f"{name}.*"))
            with pytest.raises(UnreadableImage, match=words):
                ImageReader((3, 8, 8))(path)

    def test_grey_is_pils_luma(self, tmp_path):
        Image.new("RGB", (8, 8), (200, 100, 50)).save(tmp_path / "a.png")
        assert ImageReader((1, 8, 8))(tmp_path / "a.png").unique().tolist() == [124]  # 0.299 R + 0.587 G + 0.114 B
        write(tmp_path / "b.png", 77, mode="L")
        assert ImageReader((3, 8, 8))(tmp_path / "b.png").unique().tolist() == [77]

    def test_sixteen_bits_are_scaled_not_clipped(self, tmp_path):
        Image.fromarray(np.full((8, 8), 0x8040, np.uint16)).save(tmp_path / "a.png")
        assert ImageReader((1, 8, 8))(tmp_path / "a.png").unique().tolist() == [0x80]

    def test_it_is_turned_as_the_camera_says(self, tmp_path):
        pixels = np.zeros((8, 8, 3), np.uint8)
        pixels[0] = 255  # the top row
        image = Image.fromarray(pixels)
        exif = image.getexif()
        exif[0x0112] = 6  # turn by 90 degrees, clockwise
        image.save(tmp_path / "a.png", exif=exif)
        read = ImageReader((3, 8, 8))(tmp_path / "a.png")
        assert read[..., -1].min() == 255
        assert read[..., 0].max() == 0

    def test_what_cannot_be_read_is_named(self, tmp_path, monkeypatch):
        read = ImageReader((3, 8, 8))
        (tmp_path / "b.png").write_text("no image")
        for path in (truncated(tmp_path / "a.png"), tmp_path / "b.png", tmp_path / "c.png"):
            with pytest.raises(UnreadableImage, match=f"cannot read the image '{path}'"):
                read(path)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
        with pytest.raises(UnreadableImage, match="decompression bomb"):
            read(write(tmp_path / "d.png", 0))

    @pytest.mark.parametrize("shape", [(2, 8, 8), (3, 8), (3, 0, 8)])
    def test_bad_shapes(self, shape):
        with pytest.raises(ValueError, match=r"image_shape: expected \[1 or 3, height, width\]"):
            ImageReader(shape)
        with pytest.raises(ValueError, match="image_shape"):
            ImageFolder("nowhere", list(shape))


class TestFolder:
    def data(self, folder, **options):
        return ImageFolder(str(folder), SHAPE, **{"val_size": 5} | options)

    def test_splits_are_those_on_disk(self, folder):
        data = self.data(folder)
        train, val, test = (data.split(name) for name in ("train", "val", "test"))
        assert sorted(number(train.images()) + number(val.images())) == list(range(20))
        assert len(val) == 5
        assert sorted(number(test.images())) == list(range(100, 106))
        assert train.classes == val.classes == test.classes == ["cat", "dog"]
        for split, first_dog in ((train, 12), (val, 12), (test, 103)):
            assert split.labels().tolist() == [int(n >= first_dog) for n in number(split.images())]
            batch = split.__getitems__([1, 0])
            assert torch.equal(batch["y"], split.labels()[[1, 0]])
            assert torch.equal(batch["x"], split.images(torch.tensor([1, 0])))
            assert torch.equal(split[1]["x"], batch["x"][0])

    def test_the_order_is_that_of_the_seed(self, folder):
        first, again, other = (number(self.data(folder, seed=s).split("test").images()) for s in (0, 0, 1))
        assert first == again
        assert first != other
        assert first != sorted(first), "else the first targets are of one class"

    def test_a_subset_is_contained_in_a_larger_one(self, folder):
        few, more = (self.data(folder, subset=n).split("train") for n in (4, 9))
        assert (len(few), len(more)) == (4, 9)
        assert number(more.images())[:4] == number(few.images())
        assert len(self.data(folder, subset=100).split("test")) == 6

    def test_a_folder_for_validation(self, folder):
        write(folder / "val" / "dog" / "0.png", 200)
        data = self.data(folder)
        assert number(data.split("val").images()) == [200]
        assert data.split("val").labels().tolist() == [1], "the classes are those of the training images"
        assert len(data.split("train")) == 20

    @pytest.mark.parametrize("labelled", [False, True])
    def test_one_folder_is_divided(self, tmp_path, labelled):
        for i in range(20):
            write(tmp_path / (f"class{i % 2}" if labelled else "") / f"{i}.png", i)
        data = self.data(tmp_path, val_size=0.2)
        parts = {name: number(data.split(name).images()) for name in ("train", "val", "test")}
        assert {name: len(part) for name, part in parts.items()} == {"train": 12, "val": 4, "test": 4}
        assert sorted(parts["train"] + parts["val"] + parts["test"]) == list(range(20))
        labels = data.split("val").labels()
        assert (labels.tolist() == [n % 2 for n in parts["val"]]) if labelled else labels is None
        assert ("y" in data.split("val")[0]) == labelled

    def test_flips_follow_from_seed_epoch_and_index(self, folder):
        for path in folder.rglob("*.png"):
            pixels = np.zeros((8, 8, 3), np.uint8)
            pixels[:, 0] = 255
            Image.fromarray(pixels).save(path)
        data, again = (self.data(folder, flip=True).split("train") for _ in range(2))
        flipped = []
        for epoch in range(40):
            data.set_epoch(epoch)
            left = data.images()[:, 0, 0, 0] == 1
            assert (data.images()[:, 0, 0, -1] == 1).tolist() == (~left).tolist()
            flipped.append(~left)
        again.set_epoch(7)
        assert torch.equal(again.images()[:, 0, 0, 0] == 1, ~flipped[7])
        share = torch.stack(flipped).float()
        assert share.mean().item() == pytest.approx(0.5, abs=0.06)
        assert 0 < share.mean(0).min() < share.mean(0).max() < 1
        assert (self.data(folder, flip=True).split("test").images()[:, 0, 0, 0] == 1).all()

    def test_kept_in_memory_they_are_the_same(self, folder):
        plain, kept = (self.data(folder, flip=True, cache=cache).split("train") for cache in (False, True))
        for split in (plain, kept):
            split.set_epoch(3)
        expected = plain.images()
        for path in folder.rglob("*.png"):
            path.unlink()
        assert torch.equal(kept.images(), expected)
        assert torch.equal(torch.cat([batch["x"] for batch in kept.batches(4)]), expected)

    def test_workers_yield_what_one_process_does(self, folder):
        def epoch(workers, number, cache=False):
            data = self.data(folder, flip=True, batch_size=4, workers=workers, cache=cache)
            batches = data.train_dataloader()
            found = iter(batches)  # first the iterator, then the epoch, as Lightning does when it resumes
            batches.sampler.set_epoch(number)
            return [(batch["x"], batch["y"]) for batch in found]

        for there, here in zip(epoch(2, 3), epoch(0, 3), strict=True):
            assert torch.equal(there[0], here[0])
            assert torch.equal(there[1], here[1])
        data = self.data(folder, workers=2)
        assert number(torch.cat([batch["x"] for batch in data.split("train").batches(4)])) == number(
            self.data(folder).split("train").images()
        )
        assert number(torch.cat([b["x"] for b in data.val_dataloader()])) == number(data.split("val").images())

    def test_two_processes_share_a_batch(self, folder, monkeypatch):
        data = self.data(folder, flip=True, val_size=4)

        def batches(world, rank, size):
            import torch.distributed as dist

            monkeypatch.setattr(dist, "is_initialized", lambda: True)
            monkeypatch.setattr(dist, "get_world_size", lambda: world)
            monkeypatch.setattr(dist, "get_rank", lambda: rank)
            found = loader(EpochSampler(data.split("train"), 0), size)
            found.sampler.set_epoch(2)
            return [batch["x"] for batch in found]

        whole, halves = batches(1, 0, 4), [batches(2, rank, 2) for rank in range(2)]
        for both, first, second in zip(whole, *halves, strict=True):
            assert torch.equal(both[::2], first)
            assert torch.equal(both[1::2], second)

    @pytest.mark.parametrize("workers", [0, 1])
    def test_a_training_that_resumes_sees_the_same(self, folder, tmp_path, workers):
        class Sees(LightningModule):
            """Learns nothing; notes what it is shown in each epoch."""

            def __init__(self):
                super().__init__()
                self.seen, self.weight = {}, torch.nn.Parameter(torch.zeros(1))

            def training_step(self, batch, index):
                self.seen[self.current_epoch, index] = batch["x"]
                return self.weight.sum()

            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), lr=0.1)

        def fit(epochs, resume=None):
            module = Sees()
            quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
            trainer = Trainer(max_epochs=epochs, accelerator="cpu", enable_checkpointing=False, **quiet)
            data = self.data(folder, flip=True, batch_size=4, workers=workers)
            trainer.fit(module, data.train_dataloader(), ckpt_path=resume)
            trainer.save_checkpoint(tmp_path / "last.ckpt")
            return module.seen

        whole, start = fit(3), fit(2)
        resumed = fit(3, tmp_path / "last.ckpt")
        assert set(resumed) == {key for key in whole if key[0] == 2}
        for key, batch in whole.items():
            assert torch.equal({**start, **resumed}[key], batch)

    def test_it_is_rebuilt_from_its_description(self, folder):
        data = self.data(folder, subset=5, flip=True)
        twin = build(describe(data))
        assert number(twin.split("train").images()) == number(data.split("train").images())
        assert data.name == "set"

    def test_it_is_found_below_the_data_root(self, folder, monkeypatch):
        monkeypatch.setenv("FIBERMODELS_DATA", str(folder.parent))
        assert len(ImageFolder("set", SHAPE).split("test")) == 6


class TestUnreadable:
    def test_it_is_fatal_and_named(self, folder):
        bad = truncated(folder / "train" / "cat" / "000.png")
        for cache in (False, True):
            with pytest.raises(UnreadableImage, match=rf"{bad}.*unreadable skip"):
                ImageFolder(str(folder), SHAPE, cache=cache).split("train").images()

    def test_it_is_named_by_a_worker(self, folder):
        bad = truncated(folder / "train" / "cat" / "000.png")
        data = ImageFolder(str(folder), SHAPE, workers=1, val_size=2, batch_size=3)
        with pytest.raises(UnreadableImage, match=f"^cannot read the image '{bad}'.*") as raised:
            list(data.train_dataloader())
        traceback.clear_frames(raised.value.__traceback__)  # they hold the workers, which a later test would wait for

    def test_another_image_of_its_class_stands_in(self, folder):
        bad = {truncated(folder / "train" / "dog" / f"{i:03}.png") for i in (13, 14)}
        images = ImageFolder(str(folder), SHAPE, unreadable="skip", val_size=3).split("train")
        with pytest.warns(UserWarning, match="skipped: cannot read the image") as warned:
            found = number(images.images())
        assert len(found) == len(images) == 17
        assert {str(path) in str(w.message) for w in warned for path in bad} == {True, False}
        assert images.labels().tolist() == [int(n >= 12) for n in found], "so the labels are still those of the images"

    def test_none_can_be_read(self, tmp_path):
        for i in range(4):
            truncated(tmp_path / f"{i}.png")
        images = ImageFolder(str(tmp_path), SHAPE, unreadable="skip", val_size=1).split("train")
        with pytest.warns(UserWarning, match="skipped"), pytest.raises(UnreadableImage, match="all other images"):
            images.images()


class TestWrongFolders:
    def test_a_missing_root_says_what_was_expected(self, tmp_path):
        for cls, layout in (
            (ImageFolder, "train/CLASS"),
            (ImageNet, "WNID"),
            (CheXpert, r"train\.csv"),
            (CueConflict, "SHAPE7"),
        ):
            with pytest.raises(
                FileNotFoundError, match=rf"(?s){cls.__name__}: nothing at.*nowhere.*{layout}.*data.root"
            ):
                cls(root=str(tmp_path / "nowhere")).split("test")

    def test_empty_folders(self, folder, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(FileNotFoundError, match="no image below '.*empty'"):
            ImageFolder(str(tmp_path / "empty")).split("train")
        (folder / "train" / "emu").mkdir()
        with pytest.raises(FileNotFoundError, match="no image below '.*emu'"):
            ImageFolder(str(folder)).split("train")

    def test_what_is_no_image_is_overlooked(self, folder):
        (folder / "train" / "cat" / "notes.txt").write_text("hello")
        write(folder / "train" / ".thumbnails" / "a.png")
        write(folder / "train" / "__MACOSX" / "a.png")
        assert len(ImageFolder(str(folder), SHAPE, val_size=1).split("train")) == 19

    def test_another_class_than_in_training(self, folder):
        write(folder / "test" / "cats" / "0.png")
        with pytest.raises(
            ValueError, match=r"no class of the training images is called 'cats'; did you mean \['cat'\]"
        ):
            ImageFolder(str(folder)).split("test")

    def test_images_beside_classes(self, folder):
        write(folder / "train" / "a.png")
        with pytest.raises(ValueError, match=r"has subfolders, and images beside them such as 'a\.png'"):
            ImageFolder(str(folder)).split("train")

    def test_a_missing_split(self, folder):
        for path in (folder / "test").rglob("*.png"):
            path.unlink()
        for path in sorted((folder / "test").rglob("*"), reverse=True):
            path.rmdir()
        (folder / "test").rmdir()
        with pytest.raises(FileNotFoundError, match=r"has only \['train'\]"):
            ImageFolder(str(folder)).split("test")

    @pytest.mark.parametrize("size", [0, -1, 1.5, 20, 1.0, 0.001])
    def test_bad_shares(self, folder, size):
        with pytest.raises(ValueError, match="data.val_size: expected a share"):
            ImageFolder(str(folder), SHAPE, val_size=size).split("val")

    @pytest.mark.parametrize(
        "option", [{"batch_size": 0}, {"workers": -1}, {"subset": 0}, {"unreadable": "ignore"}, {"fit": "pad"}]
    )
    def test_bad_options(self, option):
        with pytest.raises(ValueError, match=f"{next(iter(option))}: expected"):
            ImageFolder("nowhere", **option)


class TestImageNet:
    IDS = ("n01440764", "n01443537", "n02123045")

    @pytest.fixture
    def root(self, tmp_path):
        for label, wnid in enumerate(self.IDS):
            for i in range(6):
                write(tmp_path / "train" / wnid / f"{wnid}_{i}.JPEG", size=(50, 40))
            write(tmp_path / "val" / wnid / f"ILSVRC2012_val_{label}.JPEG", size=(50, 40))
        return tmp_path

    def test_official_validation_images_are_the_test_split(self, root):
        data = ImageNet(str(root), SHAPE, val_size=3)
        assert [len(data.split(name)) for name in ("train", "val", "test")] == [15, 3, 3]
        test = data.split("test")
        assert [test.file(i).parent.name for i in range(3)] == [self.IDS[k] for k in test.labels()]
        files = {data.split(part).file(i) for part in ("train", "val") for i in range(len(data.split(part)))}
        assert len(files) == 18
        assert data.name == "imagenet"
        assert test.classes == list(self.IDS)

    def test_names(self, root):
        (root / "LOC_synset_mapping.txt").write_text(
            "n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\nn02123045 tabby, tabby cat\n"
        )
        assert ImageNet(str(root), SHAPE).split("test").classes == ["tench", "goldfish", "tabby"]
        (root / "LOC_synset_mapping.txt").write_text("n01440764 tench, Tinca tinca\n")
        with pytest.raises(ValueError, match="names 1 classes, but not.*n01443537"):
            ImageNet(str(root), SHAPE).split("test")

    def test_without_training_images(self, root):
        (root / "train").rename(root / "elsewhere")
        data = ImageNet(str(root), SHAPE)
        assert len(data.split("test")) == 3
        with pytest.raises(FileNotFoundError, match="no folder '.*train' for the val split"):
            data.split("val")

    def test_validation_images_in_one_heap(self, root):
        for path in list((root / "val").rglob("*.JPEG")):
            path.rename(root / "val" / path.name)
        with pytest.raises(ValueError, match="has no subfolders"):
            ImageNet(str(root), SHAPE).split("test")


class TestCheXpert:
    COLUMNS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *LABELS)

    def table(self, root, name, rows, columns=COLUMNS):
        with (root / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)

    def row(self, part, patient, view="Frontal", study=1, **labels):
        path = f"{part}/patient{patient:05}/study{study}/view1_{view.lower()}.png"
        return {"Path": f"CheXpert-v1.0-small/{path}", "Sex": "Male", "Age": "50", "Frontal/Lateral": view, **labels}

    @pytest.fixture
    def root(self, tmp_path):
        self.rows = {
            "train": [self.row("train", p, study=s, Edema="1.0") for p in range(10) for s in range(1 + p % 3)]
            + [self.row("train", 3, "Lateral", Edema="1.0")],
            "valid": [self.row("valid", 60000 + p, Edema="0.0") for p in range(3)],
        }
        self.rows["train"][0] |= {"Edema": "-1.0", "Cardiomegaly": "", "Atelectasis": "1.0", "Fracture": "0.0"}
        for part, rows in self.rows.items():
            for i, row in enumerate(rows):
                write(tmp_path / row["Path"].partition("/")[2], i, mode="L")
            self.table(tmp_path, f"{part}.csv", rows)
        return tmp_path

    def data(self, root, **options):
        return CheXpert(str(root), [1, 8, 8], **{"val_size": 0.3} | options)

    def test_patients_are_in_one_split(self, root):
        data = self.data(root)
        parts = [data.split(name) for name in ("train", "val", "test")]
        people = [{part.file(i).parts[-3] for i in range(len(part))} for part in parts]
        assert [len(each) for each in people] == [7, 3, 3]
        assert not people[0] & people[1]
        values = number(parts[0].images()) + number(parts[1].images())
        assert sorted(values) == list(range(len(self.rows["train"]) - 1)), "all frontal ones, and no lateral one"
        again = self.data(root, seed=1).split("val")
        assert {again.file(i).parts[-3] for i in range(len(again))} != people[1]

    def test_lateral_views_on_demand(self, root):
        data = self.data(root, frontal=False)
        assert len(data.split("train")) + len(data.split("val")) == len(self.rows["train"])

    @pytest.mark.parametrize(("blank", "expected"), [("negative", 0.0), ("unlabelled", float("nan"))])
    def test_uncertain_and_blank_labels(self, root, blank, expected):
        data = self.data(root, blank=blank, labels=["Edema", "Cardiomegaly", "Atelectasis", "Fracture"])
        for part in (data.split("train"), data.split("val")):
            values = number(part.images())
            if 0 in values:
                found = part.labels()[values.index(0)]
        torch.testing.assert_close(found, torch.tensor([float("nan"), expected, 1.0, 0.0]), equal_nan=True)

    def test_defaults_are_those_of_the_competition(self, root):
        test = self.data(root).split("test")
        assert test.classes == COMPETITION
        assert test.labels().tolist() == [[0.0] * 5] * 3
        assert test[0]["y"].shape == (5,)
        assert self.data(root).name == "chexpert"
        assert CheXpert(str(root), SHAPE).split("test").images().shape == (3, *SHAPE)

    def test_wrong_columns(self, root):
        columns = [c if c != "Edema" else "Oedema" for c in self.COLUMNS if c != "Path"]
        self.table(root, "train.csv", self.rows["train"], columns)
        with pytest.raises(ValueError, match=r"train\.csv' lacks the columns \['Path', 'Edema'\]; it has .*Oedema"):
            self.data(root).split("train")

    def test_wrong_values(self, root):
        self.table(root, "valid.csv", [*self.rows["valid"], self.row("valid", 1, Edema="maybe")])
        with pytest.raises(ValueError, match="line 5, column Edema: expected 1, 0, -1 or nothing, got 'maybe'"):
            self.data(root).split("test")
        self.table(root, "valid.csv", [self.row("valid", 1, "Lateral")])
        with pytest.raises(ValueError, match="lists no frontal image"):
            self.data(root).split("test")

    @pytest.mark.parametrize(
        "path", ["/etc/passwd", "../secret.png", "CheXpert-v1.0-small/../../a.png", "", "CheXpert"]
    )
    def test_paths_that_lead_out(self, root, path):
        self.table(root, "valid.csv", [{"Path": path, "Frontal/Lateral": "Frontal"}])
        with pytest.raises(ValueError, match=r"line 2: expected a path below the data set's folder, got"):
            self.data(root).split("test")

    def test_links_that_lead_out(self, root, tmp_path_factory):
        elsewhere = write(tmp_path_factory.mktemp("elsewhere") / "a.png", 1)
        inside = root / self.rows["valid"][0]["Path"].partition("/")[2]
        inside.unlink()
        inside.symlink_to(elsewhere)
        for unreadable in ("error", "skip"):
            with pytest.raises(ValueError, match="outside the data set's folder"):
                self.data(root, unreadable=unreadable).split("test").images()

    def test_paths(self):
        assert below_root("CheXpert-v1.0/train/patient1/a.jpg", "") == "train/patient1/a.jpg"
        assert below_root("valid/patient1/a.jpg", "") == "valid/patient1/a.jpg"

    def test_skipping_keeps_uncertain_labels(self, root):
        """NaN is a label like another when a stand-in is looked for."""
        truncated(root / self.rows["train"][1]["Path"].partition("/")[2])
        data = self.data(root, unreadable="skip", labels=["Edema", "Pneumonia"], blank="unlabelled")
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            values = number(data.split("train").images()) + number(data.split("val").images())
        assert 1 not in values
        assert len(values) == len(self.rows["train"]) - 1

    def test_wrong_labels(self):
        with pytest.raises(ValueError, match=r"no observation 'Oedema'; did you mean \['Edema'\]"):
            CheXpert(labels=["Oedema"])
        with pytest.raises(ValueError, match="each once"):
            CheXpert(labels=["Edema", "Edema"])
        with pytest.raises(ValueError, match="data.blank: expected"):
            CheXpert(blank="zero")

    def test_a_path_without_a_patient(self, root):
        self.table(root, "train.csv", [{"Path": "CheXpert-v1.0-small/a.png", "Frontal/Lateral": "Frontal"}])
        with pytest.raises(ValueError, match=r"'a\.png' names no patient"):
            self.data(root).split("train")


class TestCueConflict:
    @pytest.fixture
    def root(self, tmp_path):
        for i, (shape, texture) in enumerate((("cat", "elephant"), ("cat", "cat"), ("airplane", "truck"))):
            write(tmp_path / shape / f"{shape}{i + 1}-{texture}2.png", i)
        return tmp_path

    def test_shape_and_texture_are_in_the_names(self, root):
        test = CueConflict(str(root), SHAPE, conflicting=False).split("test")
        names = {n: [CATEGORIES[k] for k in row] for n, row in zip(number(test.images()), test.labels(), strict=True)}
        assert names == {0: ["cat", "elephant"], 1: ["cat", "cat"], 2: ["airplane", "truck"]}
        assert test.classes == CATEGORIES == sorted(CATEGORIES)
        assert len(CATEGORIES) == 16

    def test_without_those_that_do_not_conflict(self, root):
        data = CueConflict(str(root), SHAPE)
        assert sorted(number(data.split("test").images())) == [0, 2]
        assert number(data.split("train").images()) == number(data.split("test").images())
        with pytest.raises(ValueError, match="a test set"):
            data.split("val")

    @pytest.mark.parametrize("name", ["cat/dog1-cat2.png", "cat/cat.png", "cat/cat1-car.png", "cat/cat1-tree2.png"])
    def test_names_that_say_neither(self, root, name):
        write(root / name)
        with pytest.raises(ValueError, match=f"cannot tell shape and texture from '{name}'"):
            CueConflict(str(root), SHAPE).split("test")

    def test_categories_are_disjoint_classes_of_imagenet(self):
        """Named as torchvision names them: a check by words, independent of the indices' source."""
        from torchvision.models import ResNet50_Weights

        names = ResNet50_Weights.IMAGENET1K_V2.meta["categories"]
        of = {category: [names[index] for index in imagenet_classes(category)] for category in CATEGORIES}
        classes = [index for category in CATEGORIES for index in imagenet_classes(category)]
        assert len(classes) == len(set(classes)) == 207
        assert of["elephant"] == ["Indian elephant", "African elephant"]
        assert of["bear"] == ["brown bear", "American black bear", "ice bear", "sloth bear"]
        assert of["clock"] == ["analog clock", "digital clock", "wall clock"]
        assert of["keyboard"] == ["computer keyboard", "typewriter keyboard"]
        assert {"pickup", "moving van", "trailer truck"} < set(of["truck"])
        assert {"golden retriever", "pug", "beagle"} < set(of["dog"])
        assert not {"timber wolf", "dingo", "hyena"} & set(of["dog"])
        assert {"robin", "king penguin", "bald eagle"} < set(of["bird"])

    def test_a_decision_is_a_mean(self):
        """One sure class of four outweighs a category of 109 that shares more in total."""
        probabilities = torch.zeros(2, 1000)
        probabilities[0, imagenet_classes("dog")] = 0.6 / 109
        probabilities[0, imagenet_classes("chair")[0]] = 0.4
        probabilities[1, imagenet_classes("oven")] = 1.0
        classes = [imagenet_classes(name) for name in CATEGORIES]
        found = decide(probabilities.log(), classes)
        assert [CATEGORIES[k] for k in found] == ["chair", "oven"]
        with pytest.raises(ValueError, match="below the classifier's 914 outputs, got classes up to 914"):
            decide(torch.zeros(1, 914), classes)
        with pytest.raises(ValueError, match="category: expected one of"):
            imagenet_classes("horse")


@pytest.mark.parametrize("cls", [ImageFolder, ImageNet, CheXpert, CueConflict], ids=lambda cls: cls.__name__)
def test_a_config_names_it(cls, folder):
    """By the path under which all are found, with its options in plain types."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningDataModule, "data")
    options = {"root": str(folder), "image_shape": [1, 16, 16], "subset": 3, "unreadable": "skip"}
    config = {"class_path": f"fibermodels.data.{cls.__name__}", "init_args": options}
    data = parser.instantiate_classes(parser.parse_object({"data": config})).data
    assert isinstance(data, cls)
    assert describe(data)["init_args"].items() >= options.items()


def test_links_that_lead_back_are_not_followed(tmp_path):
    """They would show the test images, and every image many times, in the training set."""
    for split in ("train", "test"):
        (tmp_path / split / "a").mkdir(parents=True)
        write(tmp_path / split / "a" / "1.png")
    other = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    other.mkdir()
    write(other / "2.png")
    (tmp_path / "train" / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "train" / "a" / "self").symlink_to(tmp_path / "train" / "a")
    (tmp_path / "train" / "a" / "more").symlink_to(other)
    assert find_images(tmp_path / "train") == ["a/1.png", "a/more/2.png"]
    with pytest.raises(ValueError, match="the whole file system"):
        find_images(Path("/"))
