"""What a `Prompted` prior is told in each call of its network, as variables of an optimisation.

Reference: Augustin et al., DiG-IN, arXiv 2311.17833, algorithm 1: `C_t = C` and the null-text for t = 1, ..., T.
"""

from torch import Tensor

from fibermodels.core import Pushforward
from fibermodels.diffusion import Prompted
from fibermodels.guidance.guided import Unguided


def told(model: Pushforward, h: Tensor) -> dict[str, Tensor]:
    """The prior's own `null` text and `prompt`, repeated for every call: `(B, calls, *shape)` each.

    Args:
        model: an `Unguided` over a `Prompted` prior.
        h: what the prior is bound to, `(B, *feature_shape)`.

    Raises:
        ValueError: another model, or a prior that is told nothing.
    """
    prior, calls = _prompted(model), model.network_calls
    null, prompt = prior.prompts(h).unbind(1)
    own = {"null": null, "prompt": prompt}
    return {name: vectors[:, None].expand(-1, calls, *vectors.shape[1:]) for name, vectors in own.items()}


def check_rates(model: Pushforward, condition: float, null: float, prompt: float) -> None:
    """Refuses learning rates of null-texts and prompts for a model where these have no influence.

    Raises:
        ValueError: with the names of the rates, which are 0 where a variable does not move.
    """
    if not (null or prompt):
        return
    own, scale = "NoiseOptimisation", _prompted(model).guidance_scale
    if condition:
        raise ValueError(f"{own}: condition_learning_rate: expected 0 beside prompts and null-texts, got {condition}")
    if null and scale == 1:
        raise ValueError(f"{own}: null_learning_rate: expected 0 for a prior with guidance_scale 1, got {null}")
    if prompt and scale == 0:
        raise ValueError(f"{own}: prompt_learning_rate: expected 0 for a prior with guidance_scale 0, got {prompt}")


def _prompted(model: Pushforward) -> Prompted:
    if not (isinstance(model, Unguided) and isinstance(model.prior, Prompted)):
        inner = model.prior if isinstance(model, Unguided) else model
        raise ValueError(
            "NoiseOptimisation: prompt_learning_rate and null_learning_rate need an Unguided over a prior that takes "
            f"prompts, got {type(inner).__name__}"
        )
    return model.prior
