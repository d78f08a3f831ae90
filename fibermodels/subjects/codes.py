"""The features of a sparse autoencoder as a subject."""

from torch import Tensor

from fibermodels.core import Subject
from fibermodels.subjects.sparse_autoencoder import SparseAutoencoder


class Codes(Subject):
    """`phi(x) = z(subject(x))`: which features of a dictionary the representation uses, and how much of each.

    A feature that is off has no derivative, so guidance that should turn it on takes `through: true`: the same codes,
    with the derivative of the activations before the gate.

    Args:
        subject: the network at a layer, such as a `Cut`.
        autoencoder: trained on its representations.
        units: features, in this order; None takes all.
        through: whether derivatives pass through the gate, also of features that are off.

    Raises:
        ValueError: `subject` is a network and not a `Subject`; the autoencoder takes other representations; `units` is
            empty or has numbers out of range.
    """

    def __init__(
        self,
        subject: Subject,
        autoencoder: SparseAutoencoder,
        units: list[int] | None = None,
        through: bool = False,
    ) -> None:
        super().__init__()
        given: object = subject
        if not isinstance(given, Subject):
            raise ValueError(
                "Codes: subject: expected a Subject, such as subjects.Live(network, layer, image_shape), got a "
                f"{type(given).__name__}"
            )
        if tuple(subject.feature_shape) != autoencoder.input_shape:
            raise ValueError(
                f"Codes: autoencoder: expected one of representations {list(subject.feature_shape)}, got one of "
                f"{list(autoencoder.input_shape)}"
            )
        features, *places = autoencoder.codes_shape
        bad = [unit for unit in units or [] if not 0 <= unit < features]
        if units is not None and (bad or not units):
            raise ValueError(f"Codes: units: expected numbers from 0 to {features - 1}, got {bad or units}")
        self.subject, self.autoencoder, self.through = subject, autoencoder, through
        self.units = None if units is None else list(units)
        self.input_space = subject.input_space
        self.feature_shape = (features if units is None else len(units), *places)
        self.freeze()

    def forward(self, images: Tensor) -> Tensor:
        found = self.autoencoder.encode(self.subject(images), self.through)
        return found if self.units is None else found[:, self.units]
