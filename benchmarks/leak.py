"""Does aiming at the renoised query leak the query's own colours into the samples?

    FIBERMODELS_DATA=... python benchmarks/leak.py [--num_targets 1000]

All queries get the same rare background, `COLOUR` in every channel, and NDTM samples their fibers, with the static
target and with the renoised one. The subject does not see the colour, so the static target cannot tell it. If the
renoised one does, samples have that background more often than the law allows (arXiv 2603.21782, figure 19).
"""

from pathlib import Path

import suites
import torch
from jsonargparse import auto_cli
from runner import write_table
from torch import Tensor

COLOUR, NEAR = 0.1, 0.08
"""The background of all queries, and the distance to which a background counts as this one."""


def share(backgrounds: Tensor) -> float:
    """The share of backgrounds near `COLOUR`."""
    return float(((backgrounds - COLOUR).abs() < NEAR).float().mean())


def main(num_targets: int = 500, gamma: int = 5, seed: int = 0) -> None:
    """Samples both variants, and writes `results/colour_digits/leak.md`.

    Args:
        num_targets: queries.
        gamma: the published strength of NDTM.
        seed: seed of the samples.
    """
    from fibermodels.core import FiberSamples
    from fibermodels.evaluation.building import build

    rows = []
    for config in ("ndtm", "ndtm-renoised"):
        name = f"{config}-gamma{gamma}"
        given = suites.untrained(suites.PAPER, name, suites.SUITES[suites.PAPER].epochs)
        model, subject, suite, _ = build(None, str(given[1]), [str(word) for word in given[2:]])
        content = suite.contents("test")[:num_targets]
        law = suite.draw(torch.randn(num_targets, suite.noise_dim), content)
        x = suite.render(content, torch.full_like(law, COLOUR))
        with torch.no_grad():
            h = subject(x)
        parts = [
            model.sample(own, 1, torch.Generator().manual_seed(seed + i), x=query)
            for i, (own, query) in enumerate(zip(h.split(100), x.split(100), strict=True))
        ]
        x_hat = torch.cat(parts, 1)
        with torch.no_grad():
            samples = FiberSamples(x, h, x_hat, subject(x_hat[0])[None])
        exact = FiberSamples(x, h, suite.members(x, 1), h[None])
        scores = suite.law_scores(samples, exact)
        rows.append(
            {
                "target": "static" if config == "ndtm" else "renoised",
                "gamma": gamma,
                "queries": num_targets,
                "colour KL": f"{scores['colour_kl']:.3f}",
                "floor": f"{scores['colour_kl_floor']:.3f}",
                f"share of backgrounds near {COLOUR}": f"{share(suite.factors(x_hat[0], x)):.3f}",
                "share in the law": f"{share(law):.3f}",
            }
        )
    write_table(rows, Path("results") / suites.PAPER / "leak")


if __name__ == "__main__":
    auto_cli(main)
