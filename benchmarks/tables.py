"""Inserts generated tables into README and docs, between `<!-- table: NAME -->` and `<!-- end of table -->`.

python benchmarks/tables.py [--check true] [--compare true]

A name is a question of `QUESTIONS`, whose table is made from the metrics of its results, or the path of a file.
"""

import re
import sys
from pathlib import Path

import cifar10
import cifar10_rows
import colour_mnist
import guidance
import suites
from jsonargparse import auto_cli
from other_tables import OTHERS
from question import ROOT, Question
from runner import scored

BLOCK = re.compile(r"<!-- table: (\S+) -->\n.*?<!-- end of table -->", re.DOTALL)


def at(weights: tuple[int, ...], *families: str) -> tuple[str, ...]:
    """The names of families' results with these lambdas."""
    return tuple(colour_mnist.Point(family, weight).name for family in families for weight in weights)


def strengths(series: str, *values: float, knob: str = "gamma") -> tuple[str, ...]:
    """The names of a curve's results."""
    return tuple(f"{series}-{knob}{value:g}" for value in values)


def general(suite: str) -> Question:
    """The general configuration beside what else is near both floors of a suite."""
    guided = "ndtm-gamma10" if suite == suites.PAPER else "ndtm"
    others = ("oracle", "nearest_neighbour", "flow_matching", "projection", guided)
    metrics = ("fiber_rms", *(name for name in LAW if name != "mode_error"), "rank_rejected", "rank_scalars")
    rows = (*others, *suites.GENERAL, *suites.SEEDS)
    return Question(Path("results") / suite, rows, (*metrics, "network_calls_per_sample"))


def of_suite(suite: str, names: tuple[str, ...]) -> Question:
    """The metrics of a suite's law for some of its results."""
    return Question(Path("results") / suite, names, ("fiber_rms", *LAW, "network_calls_per_sample"))


COLOUR, CIFAR = colour_mnist.RESULTS, cifar10_rows.RESULTS
SPREAD = ("fiber_rms", "colour_kl", "colour_w1", "contrast_error", "pairwise_distance")
GRADIENT = ("fiber_rms", "colour_kl", "colour_w1", "contrast_error", "seconds_per_sample", "training_seconds")
COST = ("network_calls_per_sample", "seconds_per_sample")
STEERED = ("fiber_rms", "colour_kl", "contrast_error", "pixel_error", *COST)
JUDGED = ("cosine", "top1_match", "top1_match_resnet56", "top1_match_resnet20", "fid_resnet56")
LAW = ("factor_ks", "joint_distance", "mode_error", "pixel_error")
OF_FAMILIES = (*suites.BASELINES, *suites.FAMILIES)
OF_LAMBDA = (
    *(f"{family}{weight}" for family in ("flow_matching", "normalizing_flow") for weight in ("", "-lambda0.2")),
    *("flow_matching-lambda10", "free_form_flow-lambda0.2", "free_form_injective_flow-lambda0.2"),
    *("flow_map", "flow_map-lambda0.2", *suites.WRAPPERS),
)
LAST_MAP = "resnet20-spatial"
BELIEVED = ("cosine", "top1_match", "unseen_match_mean", "unseen_match_min", "fid_resnet56", "network_calls_per_sample")
"""Whether the subject and networks that took no part believe the samples, and what one costs."""
MAP_ON_FIBER, CUTS = cifar10_rows.MAP_ON_FIBER, cifar10_rows.CUTS

QUESTIONS = {
    "circles": Question(
        Path("results/circles"),
        (
            *("oracle", "nearest_neighbour", "flow_matching", "feedback", "flow_matching-projection"),
            *("latent_descent", "projection", "langevin"),
        ),
        ("fiber_rms", "arc_kl", "factor_ks", "pairwise_distance", *COST),
    ),
    "circles_guided": Question(
        Path("results/circles"),
        (
            *("oracle", "prior", "dps-strength0.003", "energy_dps-target_rms0.3", "ndtm-gamma1", "ndtm-gamma10"),
            *("ndtm-target_rms0.3", "ndtm-gamma10-renoised", "moment_matching", "noise_optimisation"),
            *("best_of-draws16", "pixel_optimisation"),
        ),
        ("fiber_rms", "arc_kl", "factor_ks", "pairwise_distance", *COST),
    ),
    "circles_learned": Question(
        Path("results/circles"),
        tuple(
            f"{name}{end}"
            for name in ("prior", "dps-strength0.003", "ndtm-gamma10", "moment_matching")
            for end in ("", "-learned")
        ),
        ("fiber_rms", "arc_kl", "factor_ks", "pairwise_distance"),
    ),
    "table": Question(
        Path("results/table"),
        (
            *("nearest_neighbour", "prior", "flow_matching", "flow_matching-projection", "energy_score"),
            *("energy_score-lambda1", "feedback", *strengths("ndtm", 1, 2, 5, 10), "energy_dps-target_rms0.3"),
        ),
        ("fiber_rms", "column_w1", "movement_spearman", "pairwise_distance", *COST),
    ),
    "which_on_images": Question(
        CIFAR,
        (
            *(f"{name}-{LAST_MAP}" for name in ("nearest_neighbour", "ndtm")),
            *(f"energy_score-lambda1-{LAST_MAP}-textured", f"energy_score-lambda2-{LAST_MAP}-continued"),
            *(f"refined-{LAST_MAP}", cifar10_rows.CALIBRATED),
            *(f"flow_map-lambda1-{LAST_MAP}-continued", f"dps-{LAST_MAP}-scale3"),
        ),
        ("cosine", "top1_match", "unseen_match_mean", "fid_resnet56", *COST),
    ),
    "which_on_a_law": Question(
        Path("results") / "dependent_colours",
        (
            *("oracle", "nearest_neighbour", "general", "general-steps8", "flow_matching", "normalizing_flow"),
            *("flow_map", "projection", "ndtm"),
        ),
        ("fiber_rms", "factor_ks", "joint_distance", *COST),
    ),
    "summary": Question(
        COLOUR,
        (
            *("oracle", "reconstruction", "reconstruction-vae", "nearest_neighbour", "decoded_noise", "flow_map"),
            *("flow_map-distilled", "flow_matching", "normalizing_flow", "feedback-flow_map-steps1"),
            *("flow_matching-vae", "flow_matching-lambda10-vae"),
        ),
    ),
    "families": Question(
        COLOUR,
        ("oracle", "reconstruction", "decoded_noise", *colour_mnist.FAMILIES, "flow_map-distilled"),
        ("fiber_rms", "colour_kl", "contrast_error", "pixel_error", *COST, "training_seconds"),
    ),
    "lambda": Question(
        COLOUR, at((0, 10, 100), "flow_map", "flow_matching", "normalizing_flow", "multilevel_flow"), SPREAD
    ),
    "latent_space": Question(
        COLOUR,
        (
            *("reconstruction", "reconstruction-vae", *at((0, 10), "flow_matching", "normalizing_flow")),
            *("flow_matching-vae", "flow_matching-lambda10-vae", "normalizing_flow-vae"),
            "normalizing_flow-lambda10-vae",
        ),
        ("fiber_rms", "colour_kl", "colour_w1", "contrast_error", "pairwise_distance", "mean_reciprocal_rank"),
    ),
    "gradient": Question(
        COLOUR,
        tuple(
            name
            for family in colour_mnist.STEPPED
            for name in (family, f"{family}-lambda10", f"{family}-lambda10-last1", f"{family}-lambda10-estimate")
        ),
        GRADIENT,
    ),
    "refinement": Question(
        COLOUR,
        (
            *("reconstruction", "flow_map-distilled", "feedback-decoded_noise", "feedback-flow_map-steps1"),
            *("feedback-flow_map-steps3", "feedback-flow_matching", "feedback-normalizing_flow"),
            *("projection-flow_map", "projection-flow_matching", "projection-normalizing_flow"),
        ),
        STEERED,
    ),
    "plain_vae": Question(
        COLOUR,
        (
            *("reconstruction-vae", "prior_samples", *strengths("ndtm", 1, 5, 10)),
            *strengths("dps", 1, 3, knob="scale"),
            *(
                "energy_dps-target_rms-0.28",
                "latent_descent",
                "projection-flow_matching-vae",
                "langevin-flow_matching-vae",
            ),
            "feedback-flow_matching-vae",
        ),
        STEERED,
    ),
    "conditional_prior": Question(
        COLOUR,
        (
            *("flow_matching-vae", "flow_matching-lambda10-vae"),
            *strengths("ndtm-flow_matching", 1, 2, 5, 10),
            *strengths("dps-flow_matching", 0.3, 1, 3, knob="scale"),
            *(f"dps-target_rms-{goal}" for goal in ("0.35", "0.28", "0.22")),
        ),
        STEERED,
    ),
    "other_priors": Question(
        COLOUR,
        (
            *strengths("ndtm-uncorrelated", 1, 10),
            *strengths("ndtm-pixels", 1, 10),
            *strengths("ndtm-pixels-uncorrelated", 1, 10),
            *("pixel_descent", "moment_matching", "equidiff", "dig_in", "maco", "pixel_optimisation"),
        ),
        STEERED,
    ),
    "feedback": Question(COLOUR, tuple(row.name for row in guidance.FEEDBACK), STEERED),
    "ndtm_ablation": Question(COLOUR, tuple(row.name for row in guidance.ABLATED), STEERED),
    **{suite: of_suite(suite, OF_FAMILIES) for suite in suites.SUITES},
    **{f"{suite}_lambda": of_suite(suite, OF_LAMBDA) for suite in suites.SUITES if suite != suites.PAPER},
    **{f"{suite}_general": general(suite) for suite in suites.SUITES},
    f"{suites.PAPER}_others": Question(
        Path("results") / suites.PAPER,
        ("general-density", "general", *suites.OTHERS),
        ("fiber_rms", *(name for name in LAW if name != "pixel_error"), "rank_rejected", "network_calls_per_sample"),
    ),
    f"{suites.PAPER}_injective": of_suite(
        suites.PAPER, tuple(f"{family}{dims}" for family in suites.INJECTIVE for dims in ("", "-dim3"))
    ),
    f"{suites.PAPER}_guided": Question(
        Path("results") / suites.PAPER,
        ("flow_matching", "prior_samples", *suites.STEERED, "feedback", "projection"),
        STEERED,
    ),
    "last_map": Question(
        CIFAR,
        (
            *(f"{name}-{LAST_MAP}" for name in ("nearest_neighbour", "augmented", "controlnet_inverter", "diffusion")),
            *(f"diffusion{weight}-{LAST_MAP}-continued" for weight in ("", "-lambda1")),
            *(f"flow_map-{LAST_MAP}", f"flow_map-{LAST_MAP}-continued", MAP_ON_FIBER),
        ),
        ("fiber_rms", "cosine", "top1_match", "top1_match_resnet56", "fid_resnet56", "mean_reciprocal_rank"),
    ),
    "last_map_guided": Question(
        CIFAR,
        (
            *(MAP_ON_FIBER, f"prior_samples-{LAST_MAP}", f"ndtm-{LAST_MAP}"),
            *strengths(f"dps-{LAST_MAP}", 1, 3, 10, knob="scale"),
            *(f"feedback-{LAST_MAP}-{variant}" for variant in ("steps1", "steps3", "lambda1", "diffusion")),
        ),
        ("cosine", "top1_match", "top1_match_resnet56", "fid_resnet56", "num_targets", "seconds_per_sample"),
    ),
    "unseen": Question(
        CIFAR,
        (
            *(f"{name}-{LAST_MAP}" for name in ("nearest_neighbour", "ndtm")),
            f"augmented-{LAST_MAP}-mirror",
            *strengths(f"dps-{LAST_MAP}", 10, knob="scale"),
            *(f"energy_score-lambda1-{LAST_MAP}{end}" for end in ("", "-continued", "-muon", "-textured")),
            cifar10_rows.CALIBRATED,
            *(f"energy_score-lambda2-{LAST_MAP}{end}" for end in ("-continued", "-balanced", "-muon")),
        ),
        BELIEVED,
    ),
    "small_steps": Question(
        CIFAR,
        (
            *(f"{name}-{LAST_MAP}" for name in ("nearest_neighbour", "refined", "ndtm")),
            f"augmented-{LAST_MAP}-mirror",
            f"energy_score-lambda1-{LAST_MAP}-textured",
            cifar10_rows.CALIBRATED,
            f"refined-{LAST_MAP}-calibrated",
        ),
        (*BELIEVED[:-1], "diversity", *COST),
    ),
    "seeds": Question(
        CIFAR,
        tuple(
            f"{name}{end}"
            for name in (cifar10_rows.SHORT, cifar10_rows.TEXTURED, f"refined-{LAST_MAP}")
            for end in ("", "-seed1", "-seed2")
        ),
        (*BELIEVED[:-1], "diversity", "num_targets"),
    ),
    "every_stage": Question(
        CIFAR,
        tuple(
            f"{method}-resnet20-{cut}"
            for cut in cifar10_rows.EARLY
            for method in ("nearest_neighbour", "ndtm", "energy_score-lambda2")
        ),
        ("subject_name", "cosine", "top1_match", "unseen_match_mean", "unseen_match_min", "num_targets"),
        across_subjects=True,
    ),
    "other_subjects": Question(
        CIFAR,
        (
            *(
                f"{method}-resnet56-{cut}"
                for cut, own in zip(CUTS, ("refined", "cascade", "cascade_logits"), strict=True)
                for method in ("nearest_neighbour", own)
            ),
            *(f"{method}-depthwise-spatial" for method in ("nearest_neighbour", "refined")),
            *(cifar10_rows.GENERATOR_JUDGE, cifar10_rows.CALIBRATED_JUDGE),
            *(f"{name}-adapted" for name in (cifar10_rows.GENERATOR56, cifar10_rows.GENERATOR_JUDGE)),
        ),
        ("subject_name", "cosine", "top1_match", "unseen_match_mean", "unseen_match_min", "training_steps"),
        across_subjects=True,
    ),
    **{
        f"{network}_{cut}": Question(
            CIFAR,
            tuple(
                name
                for name, own in cifar10_rows.SUBJECTS.items()
                if own == f"{network}-{cut}" and scored(ROOT / CIFAR / name)
            ),
            BELIEVED if network == "resnet20" else (*JUDGED, "mean_reciprocal_rank", *COST),
        )
        for network, cut in (("resnet20", "pooled"), ("resnet20", "logits"), *(("resnet56", c) for c in CUTS))
    },
}
"""The tables of README and docs, by name."""


def in_parts(table: str, most: int = 12) -> str:
    """A Markdown table as several ones with the same titles, none of more than so many rows."""
    lines = table.splitlines()
    if not lines or len(lines) - 2 <= most or not all(line.startswith("|") for line in lines):
        return table
    parts = [lines[:2] + lines[2 + i : 2 + i + most] for i in range(0, len(lines) - 2, most)]
    return "\n".join("\n".join(part) + "\n" for part in parts)


def content(name: str) -> str:
    """The table of a question, another one by its name, or a file."""
    if name in OTHERS:
        return OTHERS[name]()
    return QUESTIONS[name].table() if name in QUESTIONS else (ROOT / name).read_text()


def filled(text: str) -> str:
    """`text` with every block replaced by the table it names."""
    return BLOCK.sub(
        lambda found: f"<!-- table: {found[1]} -->\n{in_parts(content(found[1]))}<!-- end of table -->", text
    )


def main(check: bool = False, compare: bool = False) -> None:
    """Fills the tables of README.md and docs/*.md.

    Args:
        check: change nothing; fail if a table differs from its results.
        compare: write the comparisons of all benchmarks first.
    """
    for benchmark in (colour_mnist, guidance, cifar10, suites) if compare else ():
        benchmark.compare_all()
    stale = []
    for page in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]:
        text = page.read_text()
        if filled(text) != text:
            stale.append(page.name)
            if not check:
                page.write_text(filled(text))
    if check and stale:
        sys.exit(f"error: stale tables in {stale}; run python benchmarks/tables.py")


if __name__ == "__main__":
    auto_cli(main)
