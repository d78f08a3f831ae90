"""What each metric of a table means, in one sentence."""

from typing import NamedTuple

from fibermodels.evaluation.tables import FOLDS, JUDGED, REFERENCE


class Meaning(NamedTuple):
    """What a metric says."""

    group: str
    unit: str
    best: str
    """What a good value is, in a word or two; empty if a value is neither good nor bad."""
    text: str
    """One sentence."""


FIDELITY, CONSISTENCY, CALIBRATION, COST = "Fidelity", "Consistency", "Calibration", "Cost"

GROUPS = {
    FIDELITY: "Are the samples on the fiber of their target?",
    CONSISTENCY: "Are the samples distributed as the data on the fiber?",
    CALIBRATION: "Can a test tell the held-out target from its samples?",
    COST: "What do the samples take?",
}
"""The groups of metrics in their order, and the question that each answers."""

_HIDDEN = "representation"
_LOW, _HIGH, _FLOOR, _LARGE = "low", "high", "near the floor", "above .01"

MEANINGS = {
    "fiber_rms": Meaning(
        FIDELITY,
        _HIDDEN,
        _LOW,
        "The root mean square difference between the representations of a sample and of its target; 0 is on the fiber.",
    ),
    "fiber_rms_shuffled": Meaning(
        FIDELITY,
        _HIDDEN,
        "far above fiber RMS",
        "The same difference to another target; both are equal if the model ignores its condition.",
    ),
    "cosine": Meaning(
        FIDELITY, "", _HIGH, "The cosine between the representations of a sample and of its target; 1 is best."
    ),
    "cosine_per_location": Meaning(
        FIDELITY, "", _HIGH, "The cosine at each location of a map, averaged over the locations; 1 is best."
    ),
    "mean_reciprocal_rank": Meaning(
        FIDELITY,
        "",
        _HIGH,
        "One divided by the rank of the own target among all targets by distance to the sample; 1 means always first.",
    ),
    "top1_match": Meaning(
        FIDELITY, "of samples", _HIGH, "The share of samples that the classifier gives the class of their target."
    ),
    "top5_match": Meaning(
        FIDELITY,
        "of samples",
        _HIGH,
        "The share of samples for which the target's class is among the classifier's five most likely ones.",
    ),
    "decision_match": Meaning(
        FIDELITY,
        "of decisions",
        _HIGH,
        "The share of the classifier's decisions, over all labels, that are the same for a sample and its target.",
    ),
    "unseen_match_mean": Meaning(
        FIDELITY,
        "of samples",
        _HIGH,
        "The share of samples that classifiers which took no part give the class of the target, averaged over them.",
    ),
    "unseen_match_min": Meaning(
        FIDELITY, "of samples", _HIGH, "The same share for the classifier among them that agrees least often."
    ),
    "top1_accuracy": Meaning(
        FIDELITY, "of samples", _HIGH, "The share of samples that the classifier gives the true label of the target."
    ),
    "top1_accuracy_targets": Meaning(
        FIDELITY, "of targets", "", "The share of the targets themselves that the classifier gives their true label."
    ),
    "shape_preference": Meaning(
        FIDELITY,
        "of decisions",
        "",
        "The share of decisions for the shape, among those for either the shape or the texture of a target.",
    ),
    "colour_kl": Meaning(
        CONSISTENCY,
        "nats",
        _FLOOR,
        "The Kullback-Leibler divergence of the samples' colours from the colours' law.",
    ),
    "colour_w1": Meaning(
        CONSISTENCY, "colour in [0, 1]", _FLOOR, "The Wasserstein-1 distance of the samples' colours from their law."
    ),
    "arc_kl": Meaning(
        CONSISTENCY,
        "nats",
        _FLOOR,
        "The Kullback-Leibler divergence of the places of a target's samples on its level curve from their law.",
    ),
    "factor_ks": Meaning(
        CONSISTENCY,
        "",
        _FLOOR,
        "The Kolmogorov-Smirnov distance of each factor of the samples from its law, averaged over the factors.",
    ),
    "column_w1": Meaning(
        CONSISTENCY,
        "deviations",
        _FLOOR,
        "The Wasserstein-1 distance of all samples from all targets in each column of a vector, averaged over columns.",
    ),
    "movement_spearman": Meaning(
        CONSISTENCY,
        "",
        "below 0",
        "The rank correlation over columns of how far samples move and how much the network sees of it.",
    ),
    "joint_distance": Meaning(
        CONSISTENCY,
        "law's spread",
        _FLOOR,
        "The energy distance of all factors jointly from their law, given the representation; 0 on average if right.",
    ),
    "mode_error": Meaning(
        CONSISTENCY, "", _FLOOR, "The largest difference between the share of samples in a mode and the mode's weight."
    ),
    "contrast_error": Meaning(
        CONSISTENCY,
        "pixel in [0, 1]",
        _LOW,
        "The difference between the strongest intensities of a sample and its target in each channel.",
    ),
    "pixel_error": Meaning(
        CONSISTENCY,
        "pixel in [0, 1]",
        _FLOOR,
        "The root mean square distance of a sample to the member of the exact fiber that has the sample's factors.",
    ),
    "pairwise_distance": Meaning(
        CONSISTENCY,
        "pixel in [0, 1]",
        "as exact samples",
        "The root mean square distance between two samples of one target; too small means that samples repeat.",
    ),
    "fid": Meaning(
        CONSISTENCY,
        "",
        _FLOOR,
        "The Frechet distance between the features of samples and of targets, in a network that judges images.",
    ),
    "sfid": Meaning(
        CONSISTENCY, "", _FLOOR, "The Frechet distance with features that keep their locations in the image."
    ),
    "kid": Meaning(
        CONSISTENCY,
        "",
        _FLOOR,
        "The kernel distance between the features of samples and of targets; 0 on average if right.",
    ),
    "rank_rejected": Meaning(
        CALIBRATION,
        "scalars",
        _LOW,
        "The number of scalars whose histogram of ranks is not uniform, at level .01.",
    ),
    "rank_scalars": Meaning(CALIBRATION, "scalars", "", "The number of scalars whose ranks were tested."),
    "rank_pvalue": Meaning(
        CALIBRATION,
        "p-value",
        _LARGE,
        "The smallest p-value of all histograms of ranks, corrected for their number.",
    ),
    "rank_outside": Meaning(
        CALIBRATION,
        "share",
        _FLOOR,
        "How often a scalar of the target is outside of those of its samples; higher than its floor if they vary too "
        "little or are off.",
    ),
    "tarp_pvalue": Meaning(
        CALIBRATION,
        "p-value",
        _LARGE,
        "The test of coverage: regions of samples must contain the target as often as they should.",
    ),
    "joint_test_pvalue": Meaning(
        CALIBRATION,
        "p-value",
        _LARGE,
        "The test of whether samples with their representations have the law of the targets with theirs.",
    ),
    "energy_score": Meaning(
        CALIBRATION,
        "pixel in [0, 1]",
        _LOW,
        "The mean distance of samples to their target, less half the mean distance of two samples; its lowest value "
        "depends on the data.",
    ),
    "num_targets": Meaning(COST, "targets", "", "The number of images whose fibers were sampled."),
    "network_calls_per_sample": Meaning(COST, "calls", _LOW, "The calls of the model's network for one sample."),
    "seconds_per_sample": Meaning(COST, "ms", _LOW, "The time for one sample on the device of the evaluation."),
    "num_parameters": Meaning(COST, "", "", "The parameters of the model and its latent space, without the subject."),
    "training_steps": Meaning(
        COST, "steps", _LOW, "The steps of the training, with those of the training that it started from."
    ),
    "training_seconds": Meaning(
        COST, "minutes", _LOW, "The time to train the model and its latent space, on the device of the training."
    ),
}


def meaning(key: str) -> Meaning | None:
    """What a metric means; that of a judge, such as `fid_NAME`, names the judge. None for what identifies a result."""
    if key in MEANINGS:
        return MEANINGS[key]
    if key.endswith(REFERENCE) and (own := meaning(key.removesuffix(REFERENCE))):
        return own._replace(best=_LOW, text=f"From the samples of the reference, not from targets: {own.text}")
    if key.endswith(FOLDS) and (own := meaning(key.removesuffix(FOLDS))):
        return own._replace(text=f"From the targets of another half, so that none is its own: {own.text}")
    for base in sorted(JUDGED, key=len, reverse=True):
        if key.startswith(f"{base}_"):
            own = MEANINGS[base]
            return own._replace(text=f"{own.text.removesuffix('.')}; the network is {key.removeprefix(f'{base}_')}.")
    return None
