"""fibermodels: which other inputs does a network not tell apart from this one?"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fibermodels.api.fit import fit
    from fibermodels.core import FiberModel, FiberSamples, Subject
    from fibermodels.training import load

__version__ = "0.1.0"
__all__ = ["FiberModel", "FiberSamples", "Subject", "__version__", "fit", "load"]

_HOME = {"FiberModel": "core", "FiberSamples": "core", "Subject": "core", "fit": "api.fit", "load": "training"}


def __dir__() -> list[str]:
    """For completion."""
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    """Imports on first use: `import fibermodels` itself loads neither torch nor lightning."""
    from fibermodels.config import lazy

    return lazy(__name__, _HOME, name)
