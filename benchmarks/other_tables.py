"""Tables that are made of something else than the scores of samples."""

import json
from functools import partial
from typing import Any

import applications
import cifar10_judges
import cifar10_rows
import features_subjects
import papers
from question import ROOT
from runner import scored

from fibermodels.evaluation.tables import markdown, number


def of_judges() -> str:
    """The judges of CIFAR-10, from the cards of their weights."""
    lines = []
    for name, network in cifar10_judges.NETWORKS.items():
        card = json.loads((ROOT / cifar10_judges.WEIGHTS / f"{name}.json").read_text())
        role = "may serve in losses, never scores" if name in cifar10_judges.SHOWN else "scores, never in a training"
        lines.append([name, f"`{network}`", f"{100 * card['test_scores']['accuracy']:.1f} %", role])
    return markdown(["judge", "network", "accuracy on test images", "role"], lines)


def of_applications() -> str:
    """The leading figure of merit of each application on CIFAR-10, beside its null."""
    lines = []
    for name in applications.COMMANDS:
        if scored(folder := ROOT / applications.RESULTS / name):
            values = json.loads((folder / "metrics.json").read_text())
            key = next(key for key in values if f"{key}_null" in values)
            numbers = [f"{values[each]:.3g}" for each in (key, f"{key}_null")]
            gain = [values.get(f"{key}_gain_{end}") for end in ("low", "high")]
            numbers.append("" if None in gain else " to ".join(f"{each:.3g}" for each in gain))
            lines.append([f"`{name}`", key.replace("_", " "), *numbers, f"{values['seconds']:.0f}"])
    return markdown(["application", "figure of merit", "value", "null", "gain, 95 %", "seconds"], lines)


def of_cells() -> str:
    """Samples against held-out images of the same coarse code."""
    heads = ["model", "same cell", "energy distance (floor)", "cells rejected (floor)", "distance to training images"]
    lines = [
        [
            name,
            f"{100 * row['on_cell']:.0f} %",
            f"{row['cell_distance']:.3f} ({row['cell_distance_floor']:.3f})",
            f"{100 * row['cells_rejected']:.0f} % ({100 * row['cells_rejected_floor']:.0f} %)",
            f"{row['copied']:.2f}",
        ]
        for name, row in json.loads((ROOT / cifar10_rows.RESULTS / "cells.json").read_text()).items()
    ]
    return markdown(heads, lines)


def of_ceiling() -> str:
    """What an exact sampler of each cut of ResNet-20 would reach with the unseen judges."""
    rows = json.loads((ROOT / cifar10_rows.RESULTS / "ceiling.json").read_text())
    names = [key.removeprefix("guessed_") for key in next(iter(rows.values())) if key.startswith("guessed_")]
    lines = [
        [
            cut.removeprefix("resnet20-"),
            measure,
            *(f"{100 * row[key + end]:.1f} %" for end in ["", *(f"_{n}" for n in names)]),
        ]
        for cut, row in rows.items()
        for key, measure in (("sampled", "exact samples"), ("guessed", "the best guess"))
    ]
    return markdown(["representation", "agreement of", "unseen judges", *names], lines)


def of_causal() -> str:
    """What the colours of fibers say of each classifier, from its card and the results of each method."""
    import causal

    lines = []
    for subject in causal.SUBJECTS:
        card = json.loads((ROOT / causal.WEIGHTS / f"{subject}.json").read_text())["test_scores"]
        for method in causal.METHODS:
            if not scored(folder := causal.RESULTS / f"{subject}-{method}"):
                continue
            values = json.loads((folder / "metrics.json").read_text())
            own = [f"{values[key]:.2f}" for key in ("colour_effect", "fiber_rms")]
            spans = [
                f"{values[key]:.2f} ({values[f'{key}_low']:.2f} to {values[f'{key}_high']:.2f})"
                for key in ("agreement", "correlation_change")
            ]
            right = " / ".join(f"{100 * card[f'accuracy_{share}']:.0f} %" for share in (0.9, 0.1))
            lines.append([subject, right, own[0], method, own[1], *spans])
    titles = ["classifier", "accuracy at 90 / 10 % agreement", "effect of the colour", "samples", "fiber RMS"]
    return markdown([*titles, "colours that agree", "change of the correlation"], lines)


def of_dig_in() -> str:
    """What DiG-IN reaches with each set of variables and each background."""
    import dig_in

    lines = []
    for name in (name for rows in dig_in.ROWS.values() for name in rows if scored(dig_in.RESULTS / name)):
        values = json.loads((dig_in.RESULTS / name / "metrics.json").read_text())
        colours = f"{number(values['colour_kl'])} ({number(values['colour_kl_floor'])})"
        others = [
            number(values[key]) for key in ("contrast_error", "pixel_error", "border_change", "seconds_per_sample")
        ]
        lines.append([name, number(values["fiber_rms"]), colours, *others])
    titles = ["variables", "fiber RMS", "colour KL (floor)", "contrast error", "pixel error", "change of the border"]
    return markdown([*titles, "s / sample"], lines)


def of_outside(part: str) -> str:
    """Each kind of inputs, and how well each detector finds it."""
    values = json.loads((ROOT / "results/outside" / part / "metrics.json").read_text())
    kinds = [key.removeprefix("fiber_rms_") for key in values if key.startswith("fiber_rms_")]
    lines = [["inside", number(values["fiber_rms"]), "", "", ""]]
    for kind in kinds:
        low, high = (values[f"auroc_fiber_{kind}_{end}"] for end in ("low", "high"))
        fiber = f"{values[f'auroc_fiber_{kind}']:.3f} ({low:.3f} to {high:.3f})"
        others = [f"{values[f'auroc_{detector}_{kind}']:.3f}" for detector in ("neighbour", "confidence")]
        lines.append([kind.replace("_", " "), number(values[f"fiber_rms_{kind}"]), fiber, *others])
    titles = ["inputs", "fiber RMS", "AUROC of the fiber RMS", "of the nearest representation", "of the confidence"]
    return markdown(titles, lines)


def of_preference() -> str:
    """What a judge decides on the fibers of each network of digits with textures."""
    lines = []
    for values in _of_cues():
        kept = [f"{values[key]:.2f}" for key in ("fiber_rms", "overlap", "same_texture")]
        judged = [f"{values[key]:.3f}" for key in ("shape_accuracy", "texture_accuracy")]
        low, high = (values[f"shape_preference_{end}"] for end in ("low", "high"))
        lines.append([values["name"], *kept, *judged, f"{values['shape_preference']:.3f} ({low:.3f} to {high:.3f})"])
    low, high = (values[f"shape_preference_{end}_targets"] for end in ("low", "high"))
    judged = [f"{values[f'{key}_accuracy_targets']:.3f}" for key in ("shape", "texture")]
    span = f"{values['shape_preference_targets']:.3f} ({low:.3f} to {high:.3f})"
    titles = ["fibers of", "fiber RMS", "overlap of silhouettes", "same texture", "shape label", "texture label"]
    return markdown([*titles, "preference for shape"], [["originals", "", "", "", *judged, span], *lines])


def of_agreement() -> str:
    """On which share of a network's fibers another one keeps the label, and how well it ranks labels there."""
    lines = []
    for values in _of_cues():
        for other in ("twin", "shape", "texture", "both"):
            if f"agreement_{other}" in values:
                classes = [values.get(f"agreement_{other}_{label}", 1.0) for label in range(10)]
                spread = f"{values[f'agreement_{other}']:.2f} ({min(classes):.2f} to {max(classes):.2f})"
                areas = [f"{values[f'auroc_{other}{end}']:.3f}" for end in ("_targets", "")]
                lines.append([values["name"], other, str(values[f"both_right_{other}"]), spread, *areas])
    titles = ["fibers of", "other network", "targets", "both keep the label", "AUROC on originals", "on fibers"]
    return markdown(titles, lines)


def _of_cues() -> list[dict[str, Any]]:
    """The results of label preference that exist."""
    import label_preference

    folders = [label_preference.RESULTS / "-".join(row) for row in label_preference.ROWS]
    return [json.loads((folder / "metrics.json").read_text()) for folder in folders if scored(folder)]


OTHERS = {
    "judges": of_judges,
    "cells": of_cells,
    "ceiling": of_ceiling,
    "dictionaries": features_subjects.of_dictionaries,
    "applications": of_applications,
    "causal": of_causal,
    "dig_in": of_dig_in,
    "label_preference": of_preference,
    "label_agreement": of_agreement,
    **{f"outside_{part}": partial(of_outside, part) for part in ("digits", "cifar10")},
    **{f"papers_{paper}": partial(papers.of_paper, paper) for paper in papers.experiments()},
}
"""What makes each table, by its name."""
