"""Latent spaces: `encode(x, h)`, `decode(z, h)`."""

from fibermodels.latents.conv_vae import ConvVAE
from fibermodels.latents.diffusers import AutoencoderKL
from fibermodels.latents.fiber_autoencoder import FiberAutoencoder
from fibermodels.latents.identity import Identity
from fibermodels.latents.pooled_maps import PooledMaps
from fibermodels.latents.vae import VAE

__all__ = ["VAE", "AutoencoderKL", "ConvVAE", "FiberAutoencoder", "Identity", "PooledMaps"]
