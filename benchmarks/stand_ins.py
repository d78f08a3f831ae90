"""Writes a data root with tiny random stand-ins for the files of the large configs, in the real layouts.

    python benchmarks/stand_ins.py --out DIR
    FIBERMODELS_DATA=DIR python train.py --config configs/imagenet/controlnet_resnet50.yaml --trainer.fast_dev_run true

shows that a config runs end to end and offline; the scores of such a run mean nothing. With real files in the same
places, the same commands run the real systems. It writes:

- `weights/minisd-diffusers`, `weights/chexpert-diffusers`: text-conditional latent diffusion pipelines of diffusers
  with the real parts and sizes of images and latents, but only a few channels;
- `weights/Qwen2-VL-2B-Instruct`: a model of Qwen2-VL with tiny towers, of which the vision encoder is read;
- `weights/NAME.safetensors` for the networks in `SUBJECTS`: random weights of the real architecture, in 16 bits;
- `imagenet`, `CheXpert-v1.0-small`, `cue_conflict`, `data/cifar10_images`: a few images of noise in each data set's
  layout; `weights/cifar10_resnet{20,56}.safetensors`: random weights of `examples/cifar_resnet.py`.
"""

import argparse
import csv
import sys
from pathlib import Path
from zlib import crc32

import torch
from safetensors.torch import save_file
from torchvision.io import write_jpeg, write_png

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))

from examples.cifar_resnet import CifarResNet  # noqa: E402 (the path is set above)

SUBJECTS = {
    "resnet50.tv_in1k": 1000,
    "convnext_base.fb_in22k_ft_in1k": 1000,
    "swinv2_base_window12to24_192to384.ms_in22k_ft_in1k": 1000,
    "convnext_tiny.chexpert": 0,
}
"""Files in `weights`, named by timm's architecture, and their number of classes; 0 has no classifier."""

PIPELINES = {"minisd-diffusers": 32, "chexpert-diffusers": 32}
"""Pipelines in `weights`, and the side of their latents; that of an image is eight times as long."""

OBSERVATIONS = (
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
"""CheXpert's columns."""

SHAPES = ("airplane", "bear", "bicycle", "bird", "boat", "bottle", "car", "cat")
"""Some of the sixteen categories of cue conflict."""


def write_pipeline(folder: Path, side: int) -> None:
    """A tiny random Stable Diffusion: UNet with cross attention, autoencoder, CLIP text encoder, scheduler."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    torch.manual_seed(0)
    UNet2DConditionModel(
        sample_size=side,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
        cross_attention_dim=8,
    ).save_pretrained(folder / "unet")
    AutoencoderKL(
        sample_size=8 * side,
        block_out_channels=(4, 4, 4, 4),
        norm_num_groups=2,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    ).save_pretrained(folder / "vae")
    DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, set_alpha_to_one=False
    ).save_pretrained(folder / "scheduler")
    write_text_encoder(folder)


def write_text_encoder(folder: Path) -> None:
    """A character tokenizer and a CLIP text encoder with one layer."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokens = CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=77)
    tokens.save_pretrained(folder / "tokenizer")
    own = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": len(words) - 1}
    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    CLIPTextModel(CLIPTextConfig(vocab_size=len(words), **size, **own)).save_pretrained(folder / "text_encoder")


def write_qwen(folder: Path) -> None:
    """A model of Qwen2-VL, as the hub has it: the patches of 14 pixels are the real ones."""
    from transformers import AutoConfig, AutoModel

    vision = {
        "depth": 1,
        "embed_dim": 32,
        "hidden_size": 24,
        "num_heads": 2,
        "patch_size": 14,
        "initializer_range": 0.5,
    }
    text = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    text |= {"intermediate_size": 32, "vocab_size": 64, "bos_token_id": 0, "eos_token_id": 1}
    torch.manual_seed(0)
    config = AutoConfig.for_model("qwen2_vl", vision_config=vision, text_config=text)
    AutoModel.from_config(config).save_pretrained(folder)


def write_weights(file: Path, classes: int) -> None:
    """Random weights of the architecture of timm with that name."""
    import timm

    torch.manual_seed(0)
    state = timm.create_model(file.stem.partition(".")[0], num_classes=classes).state_dict()
    floating = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    save_file({name: value.contiguous() for name, value in floating.items()}, file)


def write_image(path: Path, colours: int = 3, size: int = 32) -> None:
    """Writes an image of noise in the format of its name's ending; the noise depends on the name and two folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = torch.Generator().manual_seed(crc32("/".join(path.parts[-3:]).encode()))
    pixels = torch.randint(256, (colours, size, size), generator=noise, dtype=torch.uint8)
    (write_png if path.suffix == ".png" else write_jpeg)(pixels, str(path))


def write_imagenet(root: Path, classes: int, images: int) -> None:
    """`{train,val}/WNID/*.JPEG`."""
    for number in range(classes):
        wnid = f"n{1440764 + number:08d}"
        for image in range(images):
            write_image(root / "train" / wnid / f"{wnid}_{image}.JPEG")
            write_image(root / "val" / wnid / f"ILSVRC2012_val_{images * number + image:08d}.JPEG")


def write_chexpert(root: Path, patients: int) -> None:
    """`{train,valid}.csv` and grey images, one frontal and one lateral for each patient."""
    for split in ("train", "valid"):
        rows = []
        for patient in range(1, patients + 1):
            for view, kind in ((1, "Frontal"), (2, "Lateral")):
                name = f"{split}/patient{patient:05d}/study1/view{view}_{kind.lower()}.jpg"
                write_image(root / name, colours=1)
                values = [("1.0", "0.0", "-1.0", "")[(patient + k) % 4] for k in range(len(OBSERVATIONS))]
                position = "AP" if kind == "Frontal" else ""
                rows.append([f"{root.name}/{name}", "Female", 60 + patient, kind, position, *values])
        with (root / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *OBSERVATIONS])
            table.writerows(rows)


def write_cue_conflict(root: Path) -> None:
    """`SHAPE/SHAPEk-TEXTUREk.png`."""
    for number, shape in enumerate(SHAPES):
        texture = SHAPES[(number + 1) % len(SHAPES)]
        write_image(root / shape / f"{shape}1-{texture}2.png")


def write_cifar10(root: Path) -> None:
    """`{train,test}/CLASS/*.jpg`, and random weights of the two classifiers that `configs/cifar10` names."""
    for split, images in (("train", 600), ("test", 4)):
        for label in ("airplane", "automobile"):
            for image in range(images):
                write_image(root / "data" / "cifar10_images" / split / label / f"{image:04d}.jpg")
    for blocks, name in ((3, "resnet20"), (9, "resnet56")):
        torch.manual_seed(0)
        save_file(CifarResNet(blocks).state_dict(), root / "weights" / f"cifar10_{name}.safetensors")


def write(out: Path, subjects: dict[str, int] = SUBJECTS) -> Path:
    """Writes all stand-ins.

    Args:
        out: the folder; existing files stay.
        subjects: names in `SUBJECTS`; all together take a minute and half a gigabyte.
    """
    (out / "weights").mkdir(parents=True, exist_ok=True)
    for name, side in PIPELINES.items():
        if not (out / "weights" / name).is_dir():
            write_pipeline(out / "weights" / name, side)
    if not (out / "weights/Qwen2-VL-2B-Instruct").is_dir():
        write_qwen(out / "weights/Qwen2-VL-2B-Instruct")
    for name, classes in subjects.items():
        file = out / "weights" / f"{name}.safetensors"
        if not file.is_file():
            write_weights(file, classes)
    if not (out / "imagenet").is_dir():
        write_imagenet(out / "imagenet", classes=2, images=50)  # one hundredth of them is one validation image
        write_chexpert(out / "CheXpert-v1.0-small", patients=10)
        write_cue_conflict(out / "cue_conflict")
        write_cifar10(out)
    return out


def main() -> None:
    """Writes the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the folder, a data root afterwards")
    out = write(parser.parse_args().out)
    print(f"FIBERMODELS_DATA={out} python train.py --config configs/imagenet/... --trainer.fast_dev_run true")


if __name__ == "__main__":
    main()
