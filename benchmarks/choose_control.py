"""Chooses control strength and guidance scale of a trained ControlNet inverter on the validation split.

    python benchmarks/choose_control.py --checkpoint runs/NAME/checkpoints/best.ckpt --out results/NAME-choice

It scores every pair of the grid, skips finished ones, writes `choice.csv` and prints the best pair with the options
that apply it to the test split. FeatInv chooses both for each subject by the agreement of the top predictions.
"""

import json
from itertools import product
from pathlib import Path

from jsonargparse import auto_cli
from runner import call, scored, write_table

LARGER_IS_BETTER = ("cosine", "top1_match", "top5_match", "mean_reciprocal_rank")
"""Metrics for which the largest value is best; for others it is the smallest."""


def best(rows: list[dict[str, float]], metric: str) -> dict[str, float]:
    """The best row by a metric.

    Raises:
        ValueError: the results do not have this metric.
    """
    if metric not in rows[0]:
        numbers = sorted(name for name, value in rows[0].items() if isinstance(value, (int, float)))
        raise ValueError(f"metric: the results have no '{metric}', but {numbers}")
    return (max if metric in LARGER_IS_BETTER else min)(rows, key=lambda row: row[metric])


def main(
    checkpoint: Path,
    out: Path,
    strengths: list[float] = [0.8, 1.0, 1.2],  # noqa: B006 (read only)
    scales: list[float] = [1.0, 1.75, 2.5],  # noqa: B006
    metric: str = "cosine",
    num_targets: int = 200,
    samples_per_target: int = 1,
    seed: int = 0,
) -> None:
    """Samples, scores and chooses.

    Args:
        checkpoint: the inverter's checkpoint.
        out: the folder of the results, with one subfolder for each pair.
        strengths: values of `control_strength`.
        scales: values of `guidance_scale`.
        metric: a name in `metrics.json`.
        num_targets: number of validation images.
        samples_per_target: samples of each image's fiber.
        seed: seed of the samples.
    """
    size = ("--num_targets", num_targets, "--samples_per_target", samples_per_target, "--seed", seed)
    rows = []
    for strength, scale in product(strengths, scales):
        result = out / f"strength{strength:g}-scale{scale:g}"
        options = ("--model.control_strength", strength, "--model.guidance_scale", scale)
        if not scored(result):
            call("evaluate.py", "--checkpoint", checkpoint, *options, "--split", "val", *size, "--out", result)
        values = json.loads((result / "metrics.json").read_text())
        rows.append({"control_strength": strength, "guidance_scale": scale, **values})
    chosen = best(rows, metric)
    names = list(dict.fromkeys(name for row in rows for name in row))
    write_table([{name: row.get(name, "") for name in names} for row in rows], out / "choice")
    strength, scale = chosen["control_strength"], chosen["guidance_scale"]
    print(f"best {metric}: {chosen[metric]:.4g}. For the test split:")
    print(
        f"python evaluate.py --checkpoint {checkpoint} --model.control_strength {strength:g} "
        f"--model.guidance_scale {scale:g} --out ..."
    )


if __name__ == "__main__":
    auto_cli(main)
