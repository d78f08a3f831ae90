"""Suites: data with known fibers, and the subjects that belong to them."""

from typing import TYPE_CHECKING, Any

from fibermodels.config import lazy

if TYPE_CHECKING:
    from fibermodels.suites.colour_digits import ColourDigits
    from fibermodels.suites.decolorise import DecolorisedAutoencoder, DecolorisedEncoder

__all__ = ["ColourDigits", "DecolorisedAutoencoder", "DecolorisedEncoder"]

_HOME = {"ColourDigits": "colour_digits", "DecolorisedAutoencoder": "decolorise", "DecolorisedEncoder": "decolorise"}


def __getattr__(name: str) -> Any:
    """Imports on first use: data modules load lightning, which takes seconds."""
    return lazy(__name__, _HOME, name)
