"""Networks under study."""

from fibermodels.subjects.cut import Cut
from fibermodels.subjects.decolorise import DecolorisedAutoencoder, DecolorisedEncoder
from fibermodels.subjects.timm import Timm
from fibermodels.subjects.torchvision import Torchvision

__all__ = ["Cut", "DecolorisedAutoencoder", "DecolorisedEncoder", "Timm", "Torchvision"]
