"""A training of the recipe as the config that trains it: the objects describe themselves, and comments explain them."""

from collections.abc import Mapping, Sequence
from typing import Any

from fibermodels.config import describe
from fibermodels.data import Arrays, Table
from fibermodels.models import EnergyScore
from fibermodels.training.commented import Anchored, Verbatim, brief, commented, plain
from fibermodels.training.module import Training
from fibermodels.training.planning import Plan

NOTES = {
    "subject": "The frozen network under study, and the layer that is read.",
    "subject.layer": "spatial, pooled, logits, or the name of a module",
    "data.batch_size": "fewer if the memory does not suffice",
    "model.learning_rate": "its peak",
    "model.preview": "validation inputs in samples.png",
    "cache_draws": "latents that are the inputs themselves need no cache",
    "ema_decay": "of the averaged weights, which validation and checkpoints have",
}
"""Comments by path, as `commented.brief` takes them: those that all files have."""

FOLDER = {
    "data": "The images. The seed draws validation and test images, if the folder has no train, val and test.",
    "data.image_shape": "the same as the subject's; images are scaled and cropped to it",
    "data.workers": "processes that decode; they help without cache",
    "data.flip": "true mirrors half of the training images, for natural images without a left and a right",
    "data.val_size": "share of validation images, and of test images",
    "data.cache": "keeps decoded images in memory",
}
"""Comments on a folder of images."""

FILE = {
    "data": "The inputs in a file, in their own units. The seed draws validation and test inputs.",
    "data.val_size": "share of validation inputs, and of test inputs",
}
"""Comments on a file of numbers."""

TABLE = {
    "data": "The rows of a table, standardised by the training rows. The seed draws validation and test rows.",
    "data.label": "the column of classes, by name or number",
    "data.val_size": "share of each class for validation, and for the test",
}
"""Comments on a table."""

GENERATOR = {
    "model": "What is trained: a generator, by the energy score and by the fiber loss.",
    "model.learner.latents": "the generator draws pixels",
    "model.learner.network.width": "channels; more are better and slower",
    "model.learner.network.blocks": "residual blocks; likewise",
    "model.learner.patch_sizes": "in pixels; the score compares patches of these sizes",
    "model.learner.features": "The score also compares what the network's first stages see. More of them are nearer to "
    "the distribution of the data, and further from the target.",
    "model.fiber": "The fiber loss compares the representation of a sample with that of its target.",
    "model.fiber.weight": "more is nearer to the fiber, and less like the data",
    "model.optimizer": "learns much more in a step than adamw, whose best rate is .002",
}
"""Comments on the generator of images and maps."""

DENSITY = {
    "model": "What is trained: flow matching, a density of the inputs given the representation.",
    "model.learner.latents": "the inputs, standardised",
    "model.learner.network.width": "more is better and slower",
    "model.learner.network.blocks": "residual blocks; likewise",
    "model.learner.sampler": "how samples are drawn; more steps are nearer to the density, and slower",
    "model.fiber.weight": "a fiber loss above 0 is nearer to the fiber, and bends the density",
}
"""Comments on the density of other inputs."""

LARGE = """\
{} x {} pixels are many for it: this recipe was measured at 32 x 32. If the samples are poor or the training is slow, \
draw the latents of a pretrained autoencoder instead, as configs/imagenet/energy_score_convnext_base.yaml does: \
`latents: {{class_path: fibermodels.latents.AutoencoderKL, init_args: {{path: FOLDER, image_shape: {}}}}}`, \
patch_sizes [8, 32, {}], a wider Upsampler (width 512, blocks 4, head 64), and a GPU."""


def text(
    commands: Sequence[str],
    name: str,
    module: Training,
    data: Any,
    plan: Plan,
    weights: str | None,
    notes: Mapping[str, str],
) -> str:
    """The whole file.

    Args:
        commands: that train with it, sample and score.
        name: of the run.
        module: the training, of a subject that reads a layer of a network.
        data: the images or other inputs.
        plan: how long is trained.
        weights: the file of the subject's weights; None keeps those that its arguments name.
        notes: remarks on the subject's arguments, by name.
    """
    described = describe(module)["init_args"]
    subject = described.pop("subject")
    class_path, layer, shape = subject["class_path"], subject["init_args"]["layer"], list(module.learner.input_shape)
    learner = described["learner"]["init_args"]
    feature_shape = learner.pop("feature_shape")  # the command infers it
    generator = isinstance(module.learner, EnergyScore)
    known = NOTES | (GENERATOR if generator else DENSITY)
    known |= TABLE if isinstance(data, Table) else FILE if isinstance(data, Arrays) else FOLDER
    known |= {f"subject.{key}": note for key, note in notes.items()}
    if generator:
        known |= (
            {"model.learner.latents": LARGE.format(*shape[1:], shape, max(shape[1:]))} if max(shape[1:]) > 64 else {}
        )
        learner["features"] = [_alias(class_path, stage) for stage in learner["features"]]
    if weights is not None:
        subject["init_args"]["weights"] = weights
    inputs = describe(data)
    inputs["init_args"]["batch_size"] = plan.batch
    kept = {"subject": brief(subject, known, "subject"), "data": brief(inputs, known, "data")}
    kept["subject"]["init_args"] = Anchored("network", kept["subject"]["init_args"])
    network = subject["init_args"].get("network") or subject["init_args"]["model"]
    model = brief({"class_path": "fibermodels.training.Training", "init_args": described}, known, "model")
    content = {
        "name": name,
        **kept,
        "model": model["init_args"],
        "cache_draws": 0,
        "ema_decay": plan.ema_decay,
        "trainer": plan.trainer(),
    }
    word = "rows" if isinstance(data, Table) else module.learner.input_space.word
    what = f"Samples the fibers of {layer} of {network}: {word} with the same representation {feature_shape}."
    recipe = "configs/cifar10/energy_score.yaml (docs/cifar10.md)"
    if not generator:
        recipe = "configs/table/flow_matching.yaml (docs/inputs.md)"
    return _header(what, commands, recipe, plan) + commented(content, known)


def _alias(class_path: str, described: dict[str, Any]) -> Verbatim:
    """Another layer of the subject's network."""
    layer = described["init_args"]["layer"]
    return Verbatim(f"{{class_path: {class_path}, init_args: {{<<: *network, layer: {plain(layer)}}}}}")


def _header(what: str, commands: Sequence[str], recipe: str, plan: Plan) -> str:
    train, *after = commands
    length = f"The trainer makes {plan.epochs * plan.steps} steps"
    if plan.seconds is not None:
        length += f", of {plan.seconds:.2g} seconds each on the machine where this file was written"
    later = "\n".join(f"#   {command}" for command in after)
    return f"""\
# {what} To train:
#
#   {train}
#
# To see what it costs before it starts, add --dry_run true. Any key can be changed on the command line, too:
# --data.batch_size 32. The recipe is that of {recipe}.
# {length}; more are better.
# Then, to sample and to score:
#
{later}
"""
