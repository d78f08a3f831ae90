"""What classes were called before, in one table, so that every checkpoint and card published so far still loads.

A description (see `fibermodels.config`) names a class by its public path. Earlier versions named the module that
defined the class. A class that has moved, or has got other arguments or other names of its weights since then, has
an entry in `FORMER` under its former path.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Former:
    """What became of a class."""

    path: str
    """Its public path today."""
    arguments: Callable[[Arguments], Arguments] = dict
    """Today's constructor arguments from the former ones, as plain types."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Former prefixes of the names of its weights, and those of today; the longest match counts."""
    mark: str = ""
    """An argument that only the former class had, where another class has its path today."""


def _part(path: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": path, "init_args": arguments}


def _features(arguments: Arguments) -> Arguments:
    dim = arguments.pop("feature_dim")
    return {**arguments, "feature_shape": [dim] if dim else []}


def _network(arguments: Arguments, path: str, *names: str) -> Arguments:
    """Hyperparameters of the network are arguments of the network now."""
    network = _part(path, **{name: arguments.pop(name) for name in names})
    return {**arguments, "network": network}


def _mlp(arguments: Arguments) -> Arguments:
    return _features(_network(arguments, "fibermodels.nn.MLP", "width", "blocks", "time_dim"))


def _unet(arguments: Arguments) -> Arguments:
    names = ("channels", "blocks", "patch", "attention", "frequency", "checkpointing")
    return _network(arguments, "fibermodels.nn.UNet", *names)


def _sampler(arguments: Arguments) -> Arguments:
    """`sampler` (of flow matching `solver`), `steps` and `eta` are one object now."""
    name, steps, eta = arguments.pop("sampler"), arguments.pop("steps"), arguments.pop("eta", 0.0)
    classes = {"ddim": "DDIM", "ancestral": "Ancestral", "heun": "Heun", "euler": "Euler", "midpoint": "Midpoint"}
    options = {"steps": steps, "eta": eta} if name == "ddim" else {"steps": steps}
    return {**arguments, "sampler": _part(f"fibermodels.diffusion.{classes[name]}", **options)}


def _flow_matching(arguments: Arguments) -> Arguments:
    arguments["sampler"] = arguments.pop("solver")
    return _mlp(_sampler(arguments))


def _image_diffusion(arguments: Arguments) -> Arguments:
    """It was unconditional wherever its weights were published."""
    own = {name: arguments.pop(name) for name in ("channels", "blocks", "patch")}
    network = _part("fibermodels.nn.UNet", **own, frequency=1000.0, middle=2, scale_shift=False)
    return {**_features(_sampler(arguments)), "network": network}


def _images(arguments: Arguments) -> Arguments:
    """Latent spaces of colour images had a `size`."""
    size = arguments.pop("size")
    return {**arguments, "image_shape": [3, size, size]}


def _flow(arguments: Arguments) -> Arguments:
    """Hyperparameters of the couplings are arguments of the flow now."""
    own = {name: arguments.pop(name) for name in ("width", "blocks", "layers", "seed")}
    return {**_features(arguments), "flow": _part("fibermodels.nn.AffineCouplings", **own)}


def _training(arguments: Arguments) -> Arguments:
    names = {"lr": "learning_rate", "rise": "warmup"}
    return {names.get(name, name): value for name, value in arguments.items() if name != "same_noise"}


IMAGES = [
    (file, name)
    for home, name in (
        ("image_folder", "ImageFolder"),
        ("imagenet", "ImageNet"),
        ("chexpert", "CheXpert"),
        ("cue_conflict", "CueConflict"),
    )
    for file in (home, "images")
]
"""Data sets of images, by the files that had their classes."""

MLP_KEYS = {"network.": "network.layers."}

FORMER: dict[str, Former] = {
    **{f"fibermodels.data.{file}.{name}": Former(f"fibermodels.data.{name}") for file, name in IMAGES},
    "fibermodels.data.colour_digits.ColourDigits": Former("fibermodels.suites.ColourDigits"),
    **{
        f"fibermodels.subjects.decolorise.{name}": Former(f"fibermodels.suites.{name}")
        for name in ("DecolorisedAutoencoder", "DecolorisedEncoder")
    },
    "fibermodels.models.flow_matching.FlowMatching": Former(
        "fibermodels.models.FlowMatching", _flow_matching, MLP_KEYS
    ),
    "fibermodels.models.diffusion.Diffusion": Former(
        "fibermodels.models.Diffusion", lambda arguments: _mlp(_sampler(arguments)), MLP_KEYS
    ),
    "fibermodels.models.flow_map.FlowMap": Former("fibermodels.models.FlowMap", _mlp, MLP_KEYS),
    "fibermodels.models.image_diffusion.ImageDiffusion": Former("fibermodels.models.Diffusion", _image_diffusion),
    "fibermodels.models.representation_diffusion.RepresentationDiffusion": Former(
        "fibermodels.models.Diffusion", lambda arguments: _unet(_sampler(arguments))
    ),
    "fibermodels.models.representation_flow_map.RepresentationFlowMap": Former("fibermodels.models.FlowMap", _unet),
    "fibermodels.models.controlnet.ControlNetInverter": Former("fibermodels.models.ControlNetInverter", _sampler),
    "fibermodels.latents.fiber_autoencoder.FiberAutoencoder": Former(
        "fibermodels.suites.ColourAutoencoder", lambda arguments: _features(_images(arguments))
    ),
    "fibermodels.latents.FiberAutoencoder": Former("fibermodels.suites.ColourAutoencoder", mark="map_width"),
    "fibermodels.latents.vae.VAE": Former("fibermodels.latents.VAE", _images),
    "fibermodels.models.denoising_flow.DenoisingFlow": Former("fibermodels.models.DenoisingFlow", _features),
    "fibermodels.models.free_form_flow.FreeFormFlow": Former("fibermodels.models.FreeFormFlow", _features),
    "fibermodels.models.injective_flow.FreeFormInjectiveFlow": Former(
        "fibermodels.models.FreeFormInjectiveFlow", _features
    ),
    "fibermodels.models.multilevel_flow.MultilevelFlow": Former("fibermodels.models.MultilevelFlow", _features),
    "fibermodels.models.normalizing_flow.NormalizingFlow": Former("fibermodels.models.NormalizingFlow", _flow),
    "fibermodels.training.module.Training": Former("fibermodels.training.Training", _training),
}


def modern(description: Any, state: dict[str, Any] | None = None, prefix: str = "") -> Any:
    """A description in today's terms.

    Args:
        description: of an object, by this version or an earlier one; it is not changed.
        state: the weights of the whole object, by name. Those of renamed parts are renamed in place. The weights of a
            part are found by the name of the constructor's argument that holds it.
        prefix: how the names of this object's weights begin.
    """
    if isinstance(description, list):
        return [modern(item, state, f"{prefix}{index}.") for index, item in enumerate(description)]
    if not isinstance(description, dict):
        return description
    if set(description) != {"class_path", "init_args"}:
        return {key: modern(item, state, f"{prefix}{key}.") for key, item in description.items()}
    path, arguments = description["class_path"], description["init_args"]
    former = FORMER.get(path)
    if former is not None and (not former.mark or former.mark in arguments):
        path, arguments = former.path, former.arguments(dict(arguments))
        _rename(state, prefix, former.keys)
    return {
        "class_path": path,
        "init_args": {key: modern(item, state, f"{prefix}{key}.") for key, item in arguments.items()},
    }


def _rename(state: dict[str, Any] | None, prefix: str, keys: Mapping[str, str]) -> None:
    for name in list(state or ()):
        own = name.removeprefix(prefix)
        if state is None or not name.startswith(prefix):
            continue
        start = max((old for old in keys if own.startswith(old)), key=len, default=None)
        if start is not None:
            state[prefix + keys[start] + own.removeprefix(start)] = state.pop(name)
