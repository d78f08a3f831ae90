"""Networks under study."""

from fibermodels.subjects.decolorise import DecolorisedAutoencoder, DecolorisedEncoder

__all__ = ["DecolorisedAutoencoder", "DecolorisedEncoder"]
