"""Which methods write the representation into frequencies that nobody sees?

    FIBERMODELS_DATA=... python benchmarks/spectral.py [--num_targets 32]
    python benchmarks/spectral.py --stored '[DIR, DIR]' --subject SUBJECT.yaml --out OUT

It draws samples of methods on colour MNIST, stores them in `runs/spectral`, and writes `coherence.md`, the fiber RMS of
low-passed samples, `spectra.png` and `metrics.json` into `results/spectral`. With `--stored` it reads results of yours.
"""

import json
from pathlib import Path

import torch
from jsonargparse import auto_cli
from runner import call, scored
from trained import ROOT

from fibermodels.component import device_name, fingerprint
from fibermodels.evaluation.building import network
from fibermodels.evaluation.results import Metrics, commit, load_samples, read_metrics
from fibermodels.evaluation.tables import markdown, number
from fibermodels.files import replace_file, write_text
from fibermodels.metrics.spectral import CUTOFFS, filtered_rms, radial_power

RUNS, RESULTS = Path("runs/spectral"), ROOT / "results/spectral"
SUBJECT = "configs/parts/colour_mnist/subject.yaml"

METHODS = ("oracle", "feedback", "ndtm", "latent_descent", "equidiff", "pixel_optimisation", "maco")
"""Configs of `configs/colour_mnist`."""


def main(num_targets: int = 32, stored: list[Path] | None = None, subject: str = SUBJECT, out: Path = RESULTS) -> None:
    """Draws what is missing, and compares.

    Args:
        num_targets: test images of colour MNIST.
        stored: folders of results with `samples.safetensors`, instead.
        subject: the YAML file of their subject.
        out: where the table and the figure go.
    """
    folders = stored or [RUNS / name for name in METHODS]
    for folder in folders:
        if not scored(folder):
            config = f"configs/colour_mnist/{folder.name}.yaml"
            size = ("--num_targets", num_targets, "--samples_per_target", 1)
            call("evaluate.py", "--model", config, *size, "--device", "cpu", "--out", folder)
    found = {folder.name: load_samples(folder) for folder in folders}
    own = network("subject", subject)
    errors = {name: filtered_rms(own, samples) for name, samples in found.items()}
    rows = {"targets": next(iter(errors.values()))[1]} | {name: each for name, (each, _) in errors.items()}
    titles = ["samples", *(f"below {cutoff:g}" for cutoff in CUTOFFS)]
    lines = [[name, *(number(float(value)) for value in each)] for name, each in rows.items()]
    write_text(out / "coherence.md", markdown(titles, lines))
    scores = {
        f"{name}_below_{100 * cutoff:.0f}": round(float(value), 6)
        for name, each in rows.items()
        for cutoff, value in zip(CUTOFFS, each, strict=True)
    }
    about = read_metrics(folders[0])
    values: Metrics = {
        "name": out.name,
        "subject": fingerprint(own),
        **{key: about[key] for key in ("dataset", "num_targets", "samples_per_target", "seed")},
        "device": device_name("cpu"),
        "commit": commit(),
        **scores,
    }
    write_text(out / "metrics.json", json.dumps(values, indent=2) + "\n")
    draw({"targets": next(iter(found.values())).x} | {name: each.x_hat[0] for name, each in found.items()}, out)


def draw(pictures: dict[str, torch.Tensor], out: Path) -> None:
    """Writes the power spectra."""
    from torchvision.utils import save_image

    from fibermodels.pictures import as_tensor, new_figure

    figure = new_figure(3, 2)
    axes = figure.subplots()
    for i, (name, x) in enumerate(pictures.items()):
        power = radial_power(x)
        radius = (torch.arange(len(power)) + 0.5) / len(power)
        style = {"color": "black", "lw": 1.6} if not i else {"color": f"C{i - 1}", "lw": 0.9}
        axes.semilogy(radius, power, label=name, **style)
    axes.set_xlabel("frequency, shares of Nyquist", fontsize=7)
    axes.set_ylabel("power", fontsize=7)
    axes.tick_params(labelsize=6)
    axes.legend(fontsize=6)
    replace_file(out / "spectra.png", lambda file: save_image(as_tensor(figure), file, format="png"))


if __name__ == "__main__":
    auto_cli(main)
