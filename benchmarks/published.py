"""The published figures of the colour-digit suite, and a table of ours beside them.

The figures are those of arXiv 2603.21782 (figures 4 and 14, and the values in its public code): EMNIST digits, a VAE
with 7.9 million parameters, 100 to 250 epochs of 230,000 images, and 40,000 targets. NDTM's are of 1,024 targets, where
exact samples have a colour KL of .033.

Their objectives add up nats over the latent dimensions, and ours are means over them. So a published lambda of 10
corresponds to 10 / 54 here.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runner import scored, write_table

LAMBDAS = {0: 0.0, 1: 0.02, 10: 0.2, 100: 2.0}
"""The published lambdas, and what corresponds to them here."""

TRAINED = {
    "flow_matching-times5": ((0.228, 0.018),),
    "diffusion": ((0.224, 0.019),),
    "normalizing_flow": ((0.252, 0.327), (0.231, 0.152), (0.219, 0.123), (0.221, 2.19)),
    "free_form_flow": ((0.258, 0.13), (0.234, 0.116), (0.183, 0.25), (0.140, 1.53)),
    "denoising_flow": ((0.215, 0.159), (0.215, 0.323), (0.197, 0.228), (0.168, 0.358)),
    "multilevel_flow-times5": ((0.248, 0.727),),
    "multilevel_flow": (None, (0.226, 0.441), (0.198, 1.34)),
    "free_form_injective_flow-times5": ((0.214, 0.166),),
    "free_form_injective_flow": (None, (0.206, 0.152), (0.181, 0.187), (0.155, 0.259)),
}
"""Fiber RMS and colour KL of each family at the published lambdas; None where a longer training has the row."""

GUIDED = {5: (0.06, 0.2), 10: (0.03, 0.4)}
"""Of NDTM, by gamma."""

TITLES = ("model", "lambda or gamma", "fiber RMS", "published", "colour KL", "floor", "published KL", "steps")


def rows() -> list[tuple[str, str, str, tuple[float, float]]]:
    """The result's name, the model's, its published strength, and its published figures."""
    found = []
    for family, figures in TRAINED.items():
        for (theirs, ours), figure in zip(LAMBDAS.items(), figures, strict=False):
            name = family + (f"-lambda{ours:g}" if ours else "")
            if figure is not None:
                found.append((name, family, str(theirs), figure))
    return found + [(f"ndtm-gamma{gamma}", "ndtm", str(gamma), figure) for gamma, figure in GUIDED.items()]


def metrics(folder: Path) -> dict[str, Any]:
    """The metrics of a result; empty if it does not exist."""
    return json.loads((folder / "metrics.json").read_text()) if scored(folder) else {}


def beside_published(results: Path) -> None:
    """Writes `published` (csv and md), the families without fiber loss, and `published_lambda`, those with it.

    A page's table has at most a dozen rows, so the multi-level flow with fiber loss and NDTM are in the first one.
    """
    with_loss = [row for row in rows() if "-lambda" in row[0] and row[1] != "multilevel_flow"]
    for file, chosen in {
        "published": [row for row in rows() if row not in with_loss],
        "published_lambda": with_loss,
    }.items():
        table = []
        for name, model, strength, (rms, kl) in chosen:
            if not (own := metrics(results / name)):
                continue
            floor, steps = f"{own['colour_kl_floor']:.3g}", own.get("training_steps", "")
            cells = (model, strength, f"{own['fiber_rms']:.3g}", rms, f"{own['colour_kl']:.3g}", floor, kl, steps)
            table.append(dict(zip(TITLES, cells, strict=True)))
        if table:
            write_table(table, results / file)


def against_guidance(results: Path, families: Sequence[str], steered: Sequence[str]) -> None:
    """Writes `speed.csv` and `speed.md`: each family beside the guided row whose fiber RMS is nearest to its own.

    Args:
        results: the folder of the results.
        families: names of trained families.
        steered: names of guided rows.
    """
    guided = [own for name in steered if (own := metrics(results / name))]
    table = []
    for family in families:
        if not (own := metrics(results / family)) or not guided:
            continue
        near = min(guided, key=lambda row: abs(row["fiber_rms"] - own["fiber_rms"]))
        mine, theirs = (1000 * row["seconds_per_sample"] for row in (own, near))
        table.append(
            {
                "model": family,
                "fiber RMS": f"{own['fiber_rms']:.3g}",
                "ms / sample": f"{mine:.2g}",
                "training, min": f"{own['training_seconds'] / 60:.0f}",
                "guided": near["name"],
                "its fiber RMS": f"{near['fiber_rms']:.3g}",
                "its ms / sample": f"{theirs:.3g}",
                "ratio": f"{theirs / mine:.0f}",
            }
        )
    if table:
        write_table(table, results / "speed")
