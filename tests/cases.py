"""Tiny instances that many tests share: small networks with random weights on real bundled digits."""

from pathlib import Path

import numpy as np
import torch
from controllable import TinyPrior

from fibermodels.core import FiberModel, Remembers, Subject
from fibermodels.data.digits import load_digits
from fibermodels.diffusion import DDIM, Heun, Midpoint
from fibermodels.guidance import (
    DPS,
    MACO,
    NDTM,
    BestOf,
    ConditionFeedback,
    FiberProjection,
    Guided,
    Langevin,
    LatentDescent,
    NoiseOptimisation,
    PixelOptimisation,
    Renoised,
    StrengthSearch,
    Unguided,
)
from fibermodels.latents import VAE, ConvVAE, FiberAutoencoder, Identity
from fibermodels.models import (
    Augmented,
    Cascade,
    ControlNetInverter,
    DecodedNoise,
    DenoisingFlow,
    Diffusion,
    EnergyScore,
    FlowMap,
    FlowMatching,
    FreeFormFlow,
    FreeFormInjectiveFlow,
    MultilevelFlow,
    NearestNeighbour,
    NormalizingFlow,
    Oracle,
    RandomViews,
    Reconstruction,
    SameDecision,
)
from fibermodels.nn import MLP, AffineCouplings, Mixer, UNet, Upsampler
from fibermodels.noise import seeded
from fibermodels.suites import ColourAutoencoder, ColourDigits, DecolorisedEncoder, colour

FEATURES = 6
LATENT = 6


def subject(seed: int = 0) -> DecolorisedEncoder:
    torch.manual_seed(seed)
    return DecolorisedEncoder(dim=FEATURES, width=16, blocks=1)


def vae(**options) -> VAE:
    torch.manual_seed(1)
    return VAE(**{"image_shape": [3, 28, 28], "dim": LATENT, "width": 16, "blocks": 1, "patterns": 8} | options)


def conv_vae(**options) -> ConvVAE:
    torch.manual_seed(1)
    return ConvVAE(**{"image_shape": [3, 28, 28], "dim": LATENT, "channels": 8, "blocks": 1, "width": 16} | options)


def colour_autoencoder(**options) -> ColourAutoencoder:
    torch.manual_seed(1)
    size = {"width": 16, "blocks": 1, "patterns": 8, "map_width": 16, "map_blocks": 1}
    return ColourAutoencoder([3, 28, 28], [FEATURES], LATENT // 3, **size | options)


def fiber_autoencoder(**options) -> FiberAutoencoder:
    torch.manual_seed(1)
    size = {"dim": LATENT, "channels": 8, "width": 16, "blocks": 1, "products": 2}
    return FiberAutoencoder([3, 28, 28], [FEATURES], **size | options)


def log_ratio(mean, scale, value):
    """Gaussian log-likelihood without its constant, by torch.distributions."""
    normal = torch.distributions.Normal
    peak = normal(0.0, scale).log_prob(torch.zeros(()))
    return (normal(mean, scale).log_prob(value) - peak).flatten(1).sum(1)


def images(count: int, seed: int = 0) -> torch.Tensor:
    """Coloured real digits `(count, 3, 28, 28)`."""
    digits = load_digits("digits", "test")[:count]
    return colour.colourise(digits, colour.sample_backgrounds(len(digits), seeded("cases", seed)))


def write_mnist(root: Path, train: int, test: int) -> Path:
    """A data set of noise in MNIST's layout, the first digit of each part touching the first column."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, count in (("train", train), ("t10k", test)):
        images = np.zeros((count, 28, 28), np.uint8)
        images[:, 5:20, 5:20] = rng.integers(0, 256, (count, 15, 15))
        images[0, 10, 0] = 200
        labels = rng.integers(0, 10, count).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
            (raw / f"{part}-{kind}-ubyte").write_bytes(header + array.tobytes())
    return root


def randomised(model: FiberModel) -> FiberModel:
    """Weights away from their (zero) initialisation, so that nothing is right by accident."""
    generator = seeded("randomised")
    frozen = {id(p) for p in model.latents.parameters()}
    for p in model.parameters():
        if id(p) not in frozen and p.requires_grad:
            p.data += 0.1 * torch.randn(p.shape, generator=generator)
    return model


def mlp(width: int = 16, blocks: int = 1) -> MLP:
    return MLP(width, blocks, time_dim=8)


def flow_matching(width: int = 16, blocks: int = 1, steps: int = 2, **options) -> FlowMatching:
    torch.manual_seed(2)
    options = {"latents": vae(), "feature_shape": [FEATURES], "sampler": Midpoint(steps)} | options
    return randomised(FlowMatching(network=mlp(width, blocks), **options))


def flow_map(width: int = 16, blocks: int = 1, **options) -> FlowMap:
    torch.manual_seed(4)
    options = {"latents": vae(), "feature_shape": [FEATURES]} | options
    return randomised(FlowMap(network=mlp(width, blocks), **options))


def normalizing_flow(**options) -> NormalizingFlow:
    torch.manual_seed(3)
    flow = options.pop("flow", None) or AffineCouplings(width=16, blocks=3)
    return randomised(NormalizingFlow(options.pop("latents", None) or vae(), [FEATURES], flow, **options))


def diffusion(width: int = 16, blocks: int = 1, steps: int = 2, **options) -> Diffusion:
    torch.manual_seed(4)
    options = {"latents": vae(), "feature_shape": [FEATURES], "sampler": Heun(steps)} | options
    return randomised(Diffusion(network=mlp(width, blocks), **options))


def unet_diffusion(feature_shape: list[int] | None = None, unet: dict | None = None, **options) -> Diffusion:
    """A UNet over pixels, told a vector unless another shape is given."""
    torch.manual_seed(4)
    features = [FEATURES] if feature_shape is None else feature_shape
    network = UNet(**{"channels": [16, 16]} | (unet or {}))
    options = {"schedule": "straight", "objective": "velocity", "sampler": Heun(2)} | options
    return randomised(Diffusion(Identity((3, 28, 28), 2.0), features, network, **options))


def unet_flow_map(feature_shape: list[int] | None = None, unet: dict | None = None, **options) -> FlowMap:
    torch.manual_seed(4)
    features, network = feature_shape or [FEATURES], UNet(**{"channels": [16, 16]} | (unet or {}))
    return randomised(FlowMap(Identity((3, 28, 28), 2.0), features, network, **options))


def controlnet(prior: TinyPrior | None = None, feature_shape: tuple[int, ...] = (FEATURES,), **options):
    torch.manual_seed(6)
    options = {"width": 8, "sampler": DDIM(2)} | options
    return randomised(ControlNetInverter(prior or TinyPrior(), list(feature_shape), **options))


def free_form_flow(**options) -> FreeFormFlow:
    torch.manual_seed(4)
    return randomised(FreeFormFlow(vae(), [FEATURES], **{"width": 16, "blocks": 1} | options))


def injective_flow(**options) -> FreeFormInjectiveFlow:
    torch.manual_seed(5)
    return randomised(FreeFormInjectiveFlow(vae(), [FEATURES], **{"bottleneck": 2, "width": 16, "blocks": 1} | options))


def denoising_flow(**options) -> DenoisingFlow:
    torch.manual_seed(4)
    options = {"manifold_dim": 2, "width": 16, "blocks": 3, "inner_blocks": 2, "layers": 1} | options
    return randomised(DenoisingFlow(vae(), [FEATURES], **options))


def multilevel_flow(**options) -> MultilevelFlow:
    torch.manual_seed(5)
    options = {"coarse_dim": 2, "width": 16, "blocks": 3, "detail_blocks": 2, "layers": 1} | options
    return randomised(MultilevelFlow(vae(), [FEATURES], **options))


def energy_score(width: int = 16, blocks: int = 1, **options) -> EnergyScore:
    torch.manual_seed(5)
    options = {"latents": vae(), "feature_shape": [FEATURES]} | options
    return randomised(EnergyScore(network=mlp(width, blocks), **options))


def energy_maps(feature_shape: list[int] | None = None, **options) -> EnergyScore:
    """Pixels by a cheap network of maps, told a vector unless another shape is given."""
    torch.manual_seed(5)
    return randomised(EnergyScore(Identity((3, 28, 28)), feature_shape or [FEATURES], Upsampler(16, 1, 8), **options))


def cascade() -> Cascade:
    """A density over maps that are told by a vector, and a generator of pixels from such maps."""
    torch.manual_seed(7)
    shape = [5, 2, 3]
    first = FlowMatching(Identity(input_shape=shape), [FEATURES], Mixer(16, 1, 8), Midpoint(2))
    return Cascade(randomised(first), energy_maps(shape))


def unguided(**options) -> Unguided:
    return Unguided(diffusion(), **{"sampler": DDIM(2)} | options)


def guided(**options) -> Guided:
    return Guided(diffusion(), subject(), **{"guidance": NDTM(inner=2), "sampler": DDIM(2)} | options)


def projection(**options) -> FiberProjection:
    return FiberProjection(flow_matching(), subject(), **{"iterations": 2, "damping": 1.0} | options)


MODELS = {
    Diffusion: diffusion,
    ControlNetInverter: controlnet,
    FlowMap: flow_map,
    FlowMatching: flow_matching,
    FreeFormFlow: free_form_flow,
    FreeFormInjectiveFlow: injective_flow,
    NormalizingFlow: normalizing_flow,
    DenoisingFlow: denoising_flow,
    EnergyScore: energy_score,
    MultilevelFlow: multilevel_flow,
    NearestNeighbour: NearestNeighbour,
    SameDecision: SameDecision,
    Augmented: Augmented,
    Cascade: cascade,
    RandomViews: RandomViews,
    Oracle: lambda: Oracle(ColourDigits()),
    DecodedNoise: lambda: DecodedNoise(fiber_autoencoder()),
    Reconstruction: lambda: Reconstruction(vae(), ColourDigits()),
    ConditionFeedback: lambda: ConditionFeedback(flow_matching(), subject(), 2, memory=1),
    BestOf: lambda: BestOf(flow_map(), subject(), draws=2),
    NoiseOptimisation: lambda: NoiseOptimisation(flow_map(), subject(), steps=2),
    MACO: lambda: MACO(subject(), steps=2, learning_rate=0.1),
    PixelOptimisation: lambda: PixelOptimisation(subject(), steps=2),
    Unguided: unguided,
    Guided: guided,
    StrengthSearch: lambda: StrengthSearch(guided(guidance=DPS()), 1.0, samples=1, rounds=2),
    Renoised: lambda: Renoised(guided()),
    LatentDescent: lambda: LatentDescent(flow_matching(), subject(), steps=3),
    FiberProjection: projection,
    Langevin: lambda: Langevin(projection(), steps=2),
}
"""A tiny case of every concrete FiberModel; the contract test fails for a class that is missing."""

ONLY_TRAINING = {FreeFormFlow: "encoder.", FreeFormInjectiveFlow: "encoder."}
"""Parameters by the start of their names, which a family trains with and samples without."""


def prepared(model: FiberModel, subject: Subject, x: torch.Tensor) -> FiberModel:
    """The model, with something to remember where it wants that."""
    if isinstance(model, Remembers):
        model.remember(x, subject(x))
    return model.eval()


def train(model, data, steps, lr=3e-3):
    """A short training as `Training` does it."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        sum(term.mean() for term in model.latent_loss(*data(256)).values()).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
