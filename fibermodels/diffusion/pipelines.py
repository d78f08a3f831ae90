"""The parts of a diffusers pipeline, from its local folder: the network, and how it is asked.

A pipeline's folder has the network in `unet` or `transformer` and the scheduler in `scheduler`; where a part's folder
is missing, its files are looked for in the pipeline's own.
"""

import difflib
from pathlib import Path
from typing import Any

from fibermodels.checks import check_choice
from fibermodels.diffusion.parametrisation import Parametrisation, PredictionName
from fibermodels.diffusion.schedule import Spacing, Tabulated, shifted, spaced
from fibermodels.latents.folders import DTYPES, load_part, read_json

NETWORKS = {
    "UNet2DModel": "UNet2DModel",
    "UNet2DConditionModel": "UNet2DConditionModel",
    "DiTTransformer2DModel": "DiTTransformer2DModel",
    "Transformer2DModel": "DiTTransformer2DModel",  # as it was called in older folders
}
"""Networks that are understood, and the classes that they are loaded as."""

TABLES = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
)
"""Samplers over one and the same kind of table, of betas; which of them a folder names does not matter here."""

FLOWS = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
"""Samplers of flow matching."""


def network_class(name: str) -> Any:
    """A class of `NETWORKS`."""
    import diffusers

    return getattr(diffusers, NETWORKS[name])


def read_network(owner: str, folder: Path, dtype: str, variant: str | None) -> Any:
    """The network of a pipeline's folder, frozen.

    Raises:
        FileNotFoundError: none there.
        ValueError: a class that is not understood, or weights that cannot be loaded.
    """
    check_choice(owner, "dtype", dtype, DTYPES)
    home = next((folder / name for name in ("unet", "transformer") if (folder / name).is_dir()), folder)
    if not (home / "config.json").is_file():
        raise FileNotFoundError(
            f"{owner}: '{folder}' is no pipeline: expected a folder 'unet' or 'transformer' with a config.json in it"
        )
    name = str(read_json(owner, home / "config.json").get("_class_name"))
    if name not in NETWORKS:
        near = difflib.get_close_matches(name, NETWORKS, 1)
        raise ValueError(
            f"{owner}: '{home}' holds a {name}: expected one of {list(NETWORKS)}" + (f", say {near[0]}" if near else "")
        )
    return load_part(
        owner, network_class(name), home, low_cpu_mem_usage=False, torch_dtype=DTYPES[dtype], variant=variant
    )


def read_parametrisation(
    owner: str, folder: Path, prediction: PredictionName | None, spacing: Spacing = "angle"
) -> Parametrisation:
    """How the network of a pipeline's folder is asked, from its scheduler; `prediction` None believes the scheduler.

    Raises:
        FileNotFoundError: no scheduler there.
        ValueError: one that is not understood.
    """
    home = folder / "scheduler" if (folder / "scheduler").is_dir() else folder
    config = read_json(owner, home / "scheduler_config.json")
    name = str(config.get("_class_name"))
    if name not in TABLES + FLOWS:
        raise ValueError(f"{owner}: '{home}' holds a {name}: expected one of {list(TABLES + FLOWS)}")
    try:
        if name in FLOWS:
            steps = int(config.get("num_train_timesteps", 1000))
            # where a scheduler shifts by the resolution, any grid is right: the network is told the noise level
            shift = 1.0 if config.get("use_dynamic_shifting") else float(config.get("shift", 1.0))
            return Parametrisation(spaced(shifted(shift), spacing), prediction or "flow", None, steps)
        table = beta_table(config)
        chosen = prediction or config.get("prediction_type", "epsilon")
        limit = float(config.get("clip_sample_range", 1.0)) if config.get("clip_sample", False) else None
        return Parametrisation(spaced(table, spacing), chosen, table, table.steps, limit)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ValueError(f"{owner}: the scheduler in '{home}': {error}") from error


def beta_table(config: dict[str, Any]) -> Tabulated:
    """The table of betas that a scheduler's settings stand for, as diffusers computes it."""
    from diffusers import DDPMScheduler

    names = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas")
    own = {name: config[name] for name in (*names, "rescale_betas_zero_snr") if name in config}
    return Tabulated(DDPMScheduler(**own).alphas_cumprod)
