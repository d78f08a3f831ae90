"""Suites: data with known fibers, the subjects that belong to them, and one latent space that knows a law."""

from typing import TYPE_CHECKING, Any

from fibermodels.config import lazy

if TYPE_CHECKING:
    from fibermodels.suites.angular import AngularScore, FourModes
    from fibermodels.suites.blobs import BlobMoments, Blobs
    from fibermodels.suites.causal_digits import CausalClassifier, CausalDigits
    from fibermodels.suites.circles import Circles, CirclesClassifier
    from fibermodels.suites.colour_autoencoder import ColourAutoencoder
    from fibermodels.suites.colour_digits import ColourDigits
    from fibermodels.suites.cue_digits import CueDigits
    from fibermodels.suites.decolorise import DecolorisedAutoencoder, DecolorisedEncoder
    from fibermodels.suites.dependent_colours import DependentColours
    from fibermodels.suites.orbits import Orbits, PowerSpectrum
    from fibermodels.suites.textured_digits import DetexturedEncoder, TexturedDigits

__all__ = [
    "AngularScore",
    "BlobMoments",
    "Blobs",
    "CausalClassifier",
    "CausalDigits",
    "Circles",
    "CirclesClassifier",
    "ColourAutoencoder",
    "ColourDigits",
    "CueDigits",
    "DecolorisedAutoencoder",
    "DecolorisedEncoder",
    "DependentColours",
    "DetexturedEncoder",
    "FourModes",
    "Orbits",
    "PowerSpectrum",
    "TexturedDigits",
]

_HOME = {
    "AngularScore": "angular",
    "FourModes": "angular",
    "Circles": "circles",
    "CirclesClassifier": "circles",
    "CausalClassifier": "causal_digits",
    "CausalDigits": "causal_digits",
    "BlobMoments": "blobs",
    "Blobs": "blobs",
    "ColourAutoencoder": "colour_autoencoder",
    "ColourDigits": "colour_digits",
    "CueDigits": "cue_digits",
    "DecolorisedAutoencoder": "decolorise",
    "DecolorisedEncoder": "decolorise",
    "DependentColours": "dependent_colours",
    "DetexturedEncoder": "textured_digits",
    "Orbits": "orbits",
    "PowerSpectrum": "orbits",
    "TexturedDigits": "textured_digits",
}


def __getattr__(name: str) -> Any:
    """Imports on first use: data modules load lightning, which takes seconds."""
    return lazy(__name__, _HOME, name)
