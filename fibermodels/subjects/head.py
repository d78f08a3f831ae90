"""The last linear layer of a network by itself: what it keeps of a pooled vector."""

from torch import Tensor, nn

from fibermodels.core import Subject
from fibermodels.subjects.layers import Layer
from fibermodels.subjects.networked import Networked


class Head(Subject):
    """`phi(v) = W v + b`: pooled vectors `(B, D)` to logits `(B, K)`.

    Its fibers are all pooled vectors with the same logits. A density over them, and a generator of inputs for a pooled
    vector, sample the inputs of given logits in two stages (see `data.Representations`).

    Args:
        subject: the network, read at the input of a linear layer, such as `layer: pooled`.

    Raises:
        ValueError: the network is not read at the input of a linear layer.
    """

    def __init__(self, subject: Networked) -> None:
        super().__init__()
        reading = subject.reading
        layer = subject.network.get_submodule(reading.name) if isinstance(reading, Layer) and reading.given else None
        if not isinstance(layer, nn.Linear) or subject.units is not None:
            raise ValueError(
                "Head: subject: expected a network that is read at the input of a linear layer, all units, such as "
                f"layer: pooled, got {type(subject).__name__} with a representation {list(subject.feature_shape)}"
            )
        self.layer = layer
        self.input_shape, self.feature_shape = (layer.in_features,), (layer.out_features,)
        self.freeze()

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.layer(images)
        return output
