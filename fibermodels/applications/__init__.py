"""What fibers are for: each application asks a question of a network, and answers with pictures, a figure of merit and
a null. All take any FiberModel, and its subject and images."""

from collections.abc import Callable
from typing import Any

from fibermodels.applications.auditing import Audit, audit
from fibermodels.applications.comparing import Comparison, Sight, compare
from fibermodels.applications.counterfactuals import Counterfactual, counterfactual
from fibermodels.applications.disagreement import Disagreement, disagree
from fibermodels.applications.finding import Finding, Merit, Strip, Table
from fibermodels.applications.invariance import InvarianceMap, invariance_map
from fibermodels.applications.maximisation import Maximisation, maximise
from fibermodels.applications.mixing import Mixture, compose, interpolate
from fibermodels.applications.moving import Move, move
from fibermodels.applications.selecting import Selection, select
from fibermodels.applications.steering import Steering, steer
from fibermodels.applications.suspects import Suspect

APPLICATIONS: dict[str, Callable[..., Any]] = {
    "invariance_map": invariance_map,
    "audit": audit,
    "select": select,
    "compare": compare,
    "interpolate": interpolate,
    "compose": compose,
    "counterfactual": counterfactual,
    "steer": steer,
    "disagree": disagree,
    "maximise": maximise,
}
"""The applications by name; each returns a `Finding`."""

__all__ = [
    "APPLICATIONS",
    "Audit",
    "Comparison",
    "Counterfactual",
    "Disagreement",
    "Finding",
    "InvarianceMap",
    "Maximisation",
    "Merit",
    "Mixture",
    "Move",
    "Selection",
    "Sight",
    "Steering",
    "Strip",
    "Suspect",
    "Table",
    "audit",
    "compare",
    "compose",
    "counterfactual",
    "disagree",
    "interpolate",
    "invariance_map",
    "maximise",
    "move",
    "select",
    "steer",
]
