"""fibermodels: which other inputs does a network not tell apart from this one?"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fibermodels.api.explore import explore
    from fibermodels.api.fit import fit
    from fibermodels.api.load import from_pretrained, load
    from fibermodels.core import FiberModel, FiberSamples, Subject

__version__ = "0.1.0"
"""Of the project, as its wheel has it."""
__all__ = [
    "FiberModel",
    "FiberSamples",
    "Subject",
    "__version__",
    "explore",
    "fit",
    "from_pretrained",
    "load",
]

_HOME = {
    **dict.fromkeys(("FiberModel", "FiberSamples", "Subject"), "core"),
    **{name: f"api.{name}" for name in ("explore", "fit", "load")},
    "from_pretrained": "api.load",
}


def __dir__() -> list[str]:
    """For completion."""
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    """Imports on first use: `import fibermodels` itself loads neither torch nor lightning."""
    from fibermodels.config import lazy

    return lazy(__name__, _HOME, name)
