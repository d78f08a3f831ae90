"""What fibers are for: each application asks a question of a network, and answers with pictures, a figure of merit and
a null. All take any FiberModel, and its subject and images."""

from fibermodels.applications.auditing import Audit, Suspect, audit
from fibermodels.applications.finding import Finding, Merit, Strip, Table
from fibermodels.applications.invariance import InvarianceMap, invariance_map

APPLICATIONS = {function.__name__: function for function in (invariance_map, audit)}
"""The applications by name."""

__all__ = [
    "APPLICATIONS",
    "Audit",
    "Finding",
    "InvarianceMap",
    "Merit",
    "Strip",
    "Suspect",
    "Table",
    "audit",
    "invariance_map",
]
