"""fibermodels: which other inputs does a network not tell apart from this one?"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fibermodels.api.codes import codes
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
    "codes",
    "explore",
    "fit",
    "from_pretrained",
    "load",
]

_HOME = {
    **dict.fromkeys(("FiberModel", "FiberSamples", "Subject"), "core"),
    **{name: f"api.{name}" for name in ("codes", "explore", "fit", "load")},
    "from_pretrained": "api.load",
}

_PACKAGES = (
    "applications",
    "data",
    "diffusion",
    "guidance",
    "latents",
    "metrics",
    "models",
    "nn",
    "subjects",
    "suites",
)
"""Packages that are at hand as `fibermodels.NAME`."""


def __dir__() -> list[str]:
    """For completion."""
    return sorted([*__all__, *_PACKAGES])


def __getattr__(name: str) -> Any:
    """Imports on first use: `import fibermodels` itself loads neither torch nor lightning."""
    if name in _PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    from fibermodels.config import lazy

    return lazy(__name__, _HOME, name)
