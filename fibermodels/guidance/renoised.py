"""Guidance towards what the prior still sees of the query at the present noise level.

Early in sampling a state holds no detail. So each call of the denoiser aims at

    phi(decode(E[z_0 | z_t])),    z_t = alpha_t query + sigma_t e,    e ~ N(0, I) fresh in every call,

instead of `h`: at pure noise it is the representation of the prior's mean, at time 0 that of the query itself.

Reference: arXiv 2603.21782, section 3.2, with the fresh noise of its published code.
"""

from torch import Tensor

from fibermodels.guidance.guided import Guided, Steered, Steering
from fibermodels.guidance.objective import Objective
from fibermodels.noise import pushed_noise


class Renoised(Steered):
    """A guided prior that aims at the renoised query: it needs the queries `x`, and one call of the denoiser more
    for each call of the sampler.

    Args:
        model: the guided prior.
    """

    def __init__(self, model: Guided) -> None:
        super().__init__()
        self.model, self.subject, self.strength = model, model.subject, model.strength
        self.input_space = model.input_space
        shape, calls = tuple(model.prior.latents.latent_shape), model.sampler.calls
        self.own = model.sampler.steps if model.sampler.stochastic else 1
        """How much of a sample's noise the sampler takes; the rest is for the queries."""
        self.noise_shape = (self.own + calls, *shape)
        self.network_calls = model.network_calls + calls

    def steering(self, h: Tensor, x: Tensor | None) -> Steering:
        x = self.queries(x)
        self.input_space.check(x, "Renoised: x")
        query = self.model.prior.encode(x, h)
        return lambda noise, strength: pushed_noise(self.steer, noise, h, strength, query)

    def steer(self, noise: Tensor, h: Tensor, strength: Tensor, query: Tensor) -> Tensor:
        """As in `Guided`, of queries with the representations `h` and the latents `query` `(B, D)`."""
        own, fresh = noise[:, : self.own], iter(noise[:, self.own :].unbind(1))

        def aim(objective: Objective, t: Tensor) -> Tensor:
            data, _ = objective.denoise(objective.schedule.noised(query, next(fresh), t), t)
            return objective.representations(data)

        return self.model.steer(own if self.model.sampler.stochastic else own[:, 0], h, strength, aim)
