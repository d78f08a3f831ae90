"""What fibers are for: each application asks a question of a network, and answers with pictures, a figure of merit and
a null. All take any FiberModel, and its subject and images."""

from fibermodels.applications.auditing import Audit, Suspect, audit
from fibermodels.applications.comparing import Comparison, Sight, compare
from fibermodels.applications.finding import Finding, Merit, Strip, Table
from fibermodels.applications.invariance import InvarianceMap, invariance_map
from fibermodels.applications.mixing import Mixture, compose, interpolate
from fibermodels.applications.selecting import Selection, select

APPLICATIONS = {
    function.__name__: function for function in (invariance_map, audit, select, compare, interpolate, compose)
}
"""The applications by name."""

__all__ = [
    "APPLICATIONS",
    "Audit",
    "Comparison",
    "Finding",
    "InvarianceMap",
    "Merit",
    "Mixture",
    "Selection",
    "Sight",
    "Strip",
    "Suspect",
    "Table",
    "audit",
    "compare",
    "compose",
    "interpolate",
    "invariance_map",
    "select",
]
