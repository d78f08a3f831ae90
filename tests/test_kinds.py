"""The contract of fiber models over other inputs than images: points of the plane, and maps of any range."""

import csv
import json

import numpy as np
import pytest
import torch
from cases import FEATURES, MODELS, mlp, prepared, randomised
from PIL import Image
from torch import nn

from fibermodels.api.fit import fit
from fibermodels.api.load import load
from fibermodels.checks import check_shape
from fibermodels.component import reading
from fibermodels.config import build, describe
from fibermodels.core import FiberSamples, HasLaw, Subject
from fibermodels.data import Arrays, InMemory, Representations
from fibermodels.data.arrays import read_arrays
from fibermodels.data.given import as_data
from fibermodels.diffusion import DDIM, Heun, Midpoint
from fibermodels.evaluation.calibration import calibration, scalar_ranks
from fibermodels.evaluation.drawing import Choice, Drawing
from fibermodels.evaluation.figures import read_grid, sample_grid
from fibermodels.evaluation.report.result import result_page
from fibermodels.evaluation.sampling import main as sample_main
from fibermodels.evaluation.scoring import evaluate
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
from fibermodels.latents import Identity
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
from fibermodels.nn import AffineCouplings
from fibermodels.noise import seeded
from fibermodels.pictures import coloured
from fibermodels.spaces import HasInputSpace, ImageSpace, InputSpace, space_of
from fibermodels.subjects import Cut, Head, Live, SpatialMean
from fibermodels.trainable import TrainableFiberModel
from fibermodels.training.recipe import Scale, training

SHAPES = {"points": (2,), "maps": (FEATURES, 4, 4)}
ONLY_IMAGES = {ControlNetInverter, Augmented, RandomViews, MACO}
"""They augment images, paint their spectrum, or steer a UNet."""


class Law(HasLaw, nn.Module):
    """Exact samples that keep the representation: the query itself."""

    def members(self, x, n, generator=None):
        return x.expand(n, *x.shape)

    def factors(self, images, x):
        return images.flatten(-1)

    def law_scores(self, samples, exact):
        return {}


def phi_of(kind: str) -> Subject:
    if kind == "maps":
        return SpatialMean(list(SHAPES[kind]))
    torch.manual_seed(0)
    return Cut("torch.nn.Linear", "logits", network_args={"in_features": 2, "out_features": FEATURES}, input_shape=[2])


def models_of(kind: str):
    """A tiny instance of every model that takes inputs of a kind."""
    shape, phi = SHAPES[kind], phi_of(kind)

    def space() -> Identity:
        return Identity(input_shape=list(shape), scale=0.8, mean=[3.0] * shape[0], std=[2.0] * shape[0])

    def flow() -> FlowMatching:
        return randomised(FlowMatching(space(), [FEATURES], mlp(), Midpoint(2)))

    def diffusion() -> Diffusion:
        return randomised(Diffusion(space(), [FEATURES], mlp(), sampler=Heun(2)))

    def guided(guidance=None) -> Guided:
        return Guided(diffusion(), phi, guidance or NDTM(inner=2), sampler=DDIM(2))

    small = {"width": 16, "blocks": 1}
    return {
        FlowMatching: flow,
        Diffusion: diffusion,
        FlowMap: lambda: randomised(FlowMap(space(), [FEATURES], mlp())),
        EnergyScore: lambda: randomised(EnergyScore(space(), [FEATURES], mlp())),
        NormalizingFlow: lambda: randomised(NormalizingFlow(space(), [FEATURES], AffineCouplings(width=16, blocks=2))),
        FreeFormFlow: lambda: randomised(FreeFormFlow(space(), [FEATURES], **small)),
        FreeFormInjectiveFlow: lambda: randomised(FreeFormInjectiveFlow(space(), [FEATURES], 1, **small)),
        DenoisingFlow: lambda: randomised(
            DenoisingFlow(space(), [FEATURES], manifold_dim=1, width=16, blocks=2, inner_blocks=1, layers=1)
        ),
        MultilevelFlow: lambda: randomised(
            MultilevelFlow(space(), [FEATURES], coarse_dim=1, width=16, blocks=2, detail_blocks=1, layers=1)
        ),
        NearestNeighbour: NearestNeighbour,
        Oracle: lambda: Oracle(Law()),
        Reconstruction: lambda: Reconstruction(space(), Law()),
        DecodedNoise: lambda: DecodedNoise(space()),
        SameDecision: SameDecision,
        Cascade: lambda: Cascade(
            randomised(FlowMap(Identity(input_shape=[3]), [FEATURES], mlp())),
            randomised(FlowMap(space(), [3], mlp())),
        ),
        ConditionFeedback: lambda: ConditionFeedback(flow(), phi, 2, memory=1),
        BestOf: lambda: BestOf(flow(), phi, draws=2),
        NoiseOptimisation: lambda: NoiseOptimisation(flow(), phi, steps=2),
        PixelOptimisation: lambda: PixelOptimisation(phi, steps=2, noise=2.0),
        Unguided: lambda: Unguided(diffusion(), DDIM(2)),
        Guided: guided,
        StrengthSearch: lambda: StrengthSearch(guided(DPS()), 1.0, samples=1, rounds=2),
        Renoised: lambda: Renoised(guided()),
        LatentDescent: lambda: LatentDescent(flow(), phi, steps=3),
        FiberProjection: lambda: FiberProjection(flow(), phi, iterations=2, damping=1.0),
        Langevin: lambda: Langevin(FiberProjection(flow(), phi, iterations=2, damping=1.0), steps=2),
    }


def inputs_of(kind: str, count: int = 8) -> torch.Tensor:
    return 3 + 2 * torch.randn(count, *SHAPES[kind], generator=seeded("kinds", kind))


EVERY = [(kind, cls) for kind in SHAPES for cls in models_of(kind)]


@pytest.mark.parametrize("kind", SHAPES)
def test_every_model_is_here_or_says_why(kind):
    assert set(models_of(kind)) | ONLY_IMAGES == set(MODELS)


@pytest.mark.filterwarnings("ignore:.*within a fifth of target_rms.*:UserWarning")
@pytest.mark.parametrize(("kind", "cls"), EVERY, ids=lambda value: getattr(value, "__name__", value))
def test_the_contract(kind, cls):
    """Shapes, any range, a target's samples whatever the batch, and the description."""
    phi, x = phi_of(kind).double(), inputs_of(kind).double()
    model, h = prepared(models_of(kind)[cls]().double(), phi, x), phi(x)
    samples = model.sample(h, 2, seeded(1), x)
    assert samples.shape == (2, 8, *SHAPES[kind])
    assert samples.isfinite().all()
    assert not samples.requires_grad
    assert samples.min() < 0 or samples.max() > 1, "inputs that are no images are not clipped"
    generator = seeded(1)
    parts = [model.sample(a, 2, generator, b) for a, b in zip(h.split([3, 5]), x.split([3, 5]), strict=True)]
    torch.testing.assert_close(torch.cat(parts, 1), samples, atol=1e-8, rtol=0)
    if cls not in (Oracle, Reconstruction):
        twin = build(describe(model)).double()
        twin.load_state_dict(model.state_dict())
        torch.testing.assert_close(prepared(twin, phi, x).sample(h, 2, seeded(1), x), samples)
    if isinstance(model, HasInputSpace):
        assert model.input_space == InputSpace(SHAPES[kind])
        with pytest.raises(ValueError, match="x: expected finite numbers"):
            model.sample(h, 1, x=x / 0)
    if isinstance(model, TrainableFiberModel):
        terms = model.loss(x, h)
        assert all(term.shape == (8,) for term in terms.values())
        sum(term.mean() for term in terms.values()).backward()
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


class TestSpaces:
    def test_a_shape_says_the_kind(self):
        phi = phi_of("points")
        assert phi.input_shape == (2,)
        phi.image_shape = (1, 2, 4)
        assert phi.input_space == ImageSpace((1, 2, 4))
        assert ImageSpace((1, 2, 4)) != InputSpace((1, 2, 4))
        with pytest.raises(ValueError, match=r"Cut: expected images in \[0, 1\], got inputs \[2\]"):
            _ = phi_of("points").image_shape

    def test_a_class_may_state_its_shape(self):
        made = type("Stated", (Subject,), {"image_shape": (1, 2, 2), "feature_shape": (1,), "forward": lambda s, x: x})
        assert made().input_space == ImageSpace((1, 2, 2))
        assert made().image_shape == (1, 2, 2)

    def test_points_are_finite_and_of_their_shape(self):
        space = InputSpace((2,))
        space.check(torch.tensor([[-7.0, 90.0]]))
        for bad, message in (
            (torch.zeros(2), r"expected shape \(B, 2\), got one input: give input\[None\]"),
            (torch.zeros(5, 3), r"expected shape \(B, 2\), got \(5, 3\)"),
            (torch.zeros(5, 2).long(), "expected floating point, got"),
            (torch.tensor([[0.0, 1.0], [torch.inf, 0.0]]), "first in row 1"),
        ):
            with pytest.raises(ValueError, match=message):
                space.check(bad)
        check_shape(torch.zeros(2, 2), (2,), "x", "inputs")  # as many as there are entries

    @pytest.mark.parametrize(
        ("image", "other", "message"),
        [
            (None, None, "got none"),
            ([3, 4, 4], [2], "got both"),
            ([3, 4], None, r"image_shape: expected \[channels, height, width\], got \[3, 4\]"),
            (None, [0], "input_shape: expected at least one positive number"),
        ],
    )
    def test_what_is_no_space(self, image, other, message):
        with pytest.raises(ValueError, match=message):
            space_of("Identity", image, other)

    def test_identity_is_exact_and_images_alone_are_clipped(self):
        x = inputs_of("maps")
        own = Identity(input_shape=list(x.shape[1:]), scale=0.5, mean=[3.0] * FEATURES, std=[2.0] * FEATURES)
        z = own.encode(x, None)
        assert z.std().item() == pytest.approx(0.5, abs=0.03)
        torch.testing.assert_close(own.decode(z, None), x)
        assert own.shape == tuple(x.shape[1:])
        assert Identity((1, 2, 2)).decode(torch.full((1, 4), 9.0), None).max() == 1
        for options, message in (({"mean": [0.0]}, "expected 6 numbers"), ({"std": [0.0] * 6}, "every std positive")):
            with pytest.raises(ValueError, match=message):
                Identity(input_shape=list(x.shape[1:]), **options)


class TestData:
    def test_tensors_of_any_shape(self):
        x = inputs_of("points", 50)
        data = as_data(x)
        parts = [data.split(part).inputs() for part in ("train", "val", "test")]
        assert sorted(map(tuple, torch.cat(parts).tolist())) == sorted(map(tuple, x.tolist()))
        assert data.split("train").space() == InputSpace((2,))
        assert next(iter(data.train_dataloader()))["x"].shape == (40, 2)
        with pytest.raises(ValueError, match=r"maps that are no images are data\.InMemory\(maps\)"):
            as_data(inputs_of("maps", 50)[:, :3])
        assert InMemory(inputs_of("maps", 50)).split("val").space() == InputSpace(SHAPES["maps"])

    @pytest.mark.parametrize("ending", ["npy", "npz", "csv", "safetensors"])
    def test_files_of_numbers(self, ending, tmp_path):
        from safetensors.torch import save_file

        x, y, path = inputs_of("points", 40), torch.arange(40) % 3, tmp_path / f"rows.{ending}"
        if ending == "npy":
            np.save(path, x.numpy())
        elif ending == "npz":
            np.savez(path, x=x.numpy(), y=y.numpy())
        elif ending == "safetensors":
            save_file({"x": x, "y": y}, path)
        else:
            lines = [",".join(map(str, [*row, label])) for row, label in zip(x.tolist(), y.tolist(), strict=True)]
            path.write_text("\n".join(["a,b,y", *lines]))
        found, labels = read_arrays(path)
        torch.testing.assert_close(found, x)
        assert labels is None if ending == "npy" else torch.equal(labels, y)
        twin = build(describe(Arrays(str(path), batch_size=8)))
        assert len(twin.split("train")) == 32
        assert twin.name == "rows"

    def test_what_is_no_file_of_numbers(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="there is no file at"):
            read_arrays(tmp_path / "none.npy")
        (tmp_path / "words.csv").write_text("a,b\n1,two\n")
        np.save(tmp_path / "objects.npy", np.array([{"a": 1}]), allow_pickle=True)
        (tmp_path / "x.txt").write_text("1")
        for name in ("words.csv", "objects.npy", "x.txt"):
            with pytest.raises(ValueError, match=f"{name}': expected"):
                read_arrays(tmp_path / name)

    def test_representations_are_those_of_the_subject_and_stored_once(self, tmp_path):
        np.save(tmp_path / "x.npy", inputs_of("points", 30).numpy())
        own, phi = Arrays(str(tmp_path / "x.npy")), phi_of("points")
        data = Representations(own, phi, folder=str(tmp_path / "stored"))
        for part in ("train", "val", "test"):
            torch.testing.assert_close(data.split(part).inputs(), phi(own.split(part).inputs()))
        assert len(list((tmp_path / "stored").glob("*.safetensors"))) == 3
        again = Representations(own, phi, folder=str(tmp_path / "stored"))
        phi.forward = None  # it is not asked again
        assert torch.equal(again.split("val").inputs(), data.split("val").inputs())

    def test_the_mean_over_places(self):
        x = inputs_of("maps")
        torch.testing.assert_close(phi_of("maps")(x), x.mean((2, 3)))
        assert SpatialMean([3, 9])(torch.ones(2, 3, 9)).shape == (2, 3)
        with pytest.raises(ValueError, match=r"expected \[C, H, W\] or \[C, L\], got \[3\]"):
            SpatialMean([3])


class TestSubjects:
    def test_the_last_linear_layer_by_itself_completes_the_network(self):
        network = nn.Sequential(nn.Conv1d(2, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(40, 5)).eval()
        x = torch.randn(3, 2, 10)
        head = Head(Live(network, "pooled", input_shape=[2, 10]))
        assert (head.input_shape, head.feature_shape) == ((40,), (5,))
        torch.testing.assert_close(head(Live(network, "pooled", input_shape=[2, 10])(x)), network(x))
        with pytest.raises(ValueError, match="Head: subject: expected a network that is read at the input of a linear"):
            Head(Live(network, "logits", input_shape=[2, 10]))

    def test_a_subject_inside_another_one_is_the_same_layer_without_its_file(self, tmp_path):
        """A checkpoint holds the weights, so a subject is built again without the files that it was made from."""
        state = tmp_path / "net.pt"
        torch.save(nn.Linear(3, 2).state_dict(), state)
        made = {"network": "torch.nn.Linear", "network_args": {"in_features": 3, "out_features": 2}, "layer": "pooled"}
        head = Head(Cut(**made, input_shape=[3], weights=str(state)))
        again = build(describe(head), weights=False)
        assert describe(again) != describe(head)
        assert reading(describe(again)) == reading(describe(head))

    def test_a_network_of_signals_is_read_at_any_layer(self):
        network = nn.Sequential(nn.Conv1d(2, 4, 3, padding=1), nn.Flatten(), nn.Linear(40, 5)).eval()
        x = torch.randn(3, 2, 10)
        for layer, expected in (("spatial", network[0](x)), ("logits", network(x)), ("1", network[0](x).flatten(1))):
            torch.testing.assert_close(Live(network, layer, input_shape=[2, 10])(x), expected)

    def test_vectors_are_normalised_entry_by_entry(self):
        network = nn.Linear(2, 3).eval()
        phi = Live(network, "logits", input_shape=[2], mean=[1.0, 2.0], std=[2.0, 4.0])
        x = inputs_of("points")
        torch.testing.assert_close(phi(x), network((x - torch.tensor([1.0, 2.0])) / torch.tensor([2.0, 4.0])))
        with pytest.raises(ValueError, match="Live: input_size: expected none with input_shape"):
            Live(network, "logits", input_shape=[2], input_size=[8, 8])
        with pytest.raises(ValueError, match="does not take inputs of"):
            Live(network, "logits", input_shape=[3])


def drawn(kind: str, n: int = 6, count: int = 30) -> FiberSamples:
    x, phi = inputs_of(kind, count), phi_of(kind)
    x_hat = x + 0.3 * torch.randn(n, *x.shape, generator=seeded("drawn"))
    return FiberSamples(x, phi(x), x_hat, torch.stack([phi(slot) for slot in x_hat]))


class TestResults:
    @pytest.mark.parametrize("shape", [(2,), (7,), (1,), (2, 12), (5, 4, 4)], ids=str)
    def test_a_picture_of_each_kind(self, shape, tmp_path):
        x = torch.randn(3, *shape, generator=seeded("picture"))
        x_hat, h = x + torch.randn(4, *x.shape, generator=seeded("hat")), torch.zeros(3, 1)
        samples = FiberSamples(x, h, x_hat, torch.zeros(4, 3, 1))
        sample_grid(samples, tmp_path / "samples.png")
        with Image.open(tmp_path / "samples.png") as picture:
            levels = np.asarray(picture.convert("RGB"))
        assert len(np.unique(levels.reshape(-1, 3), axis=0)) > 20
        assert (read_grid(tmp_path / "samples.png", 3, 4) is None) == (len(shape) < 3), "a plot is no grid of images"
        row = {"family": "Tested", "fiber_rms": 0.0, "num_targets": 3, "samples_per_target": 4}
        page = result_page(tmp_path, row, samples)
        assert page.count("data:image/png") >= 3
        assert ("Invariance maps" in page) == (len(shape) == 3)

    def test_maps_are_coloured_by_their_principal_channels(self):
        """Where the first principal component is large, red is bright; the samples have the targets' colours."""
        x = torch.randn(6, 5, 8, 8, generator=seeded("colour"))
        x[:, 2] *= 9
        shown, again = coloured(x, x[None])
        assert torch.equal(again[0], shown)
        red, strong = shown[:, 0].flatten(), x[:, 2].flatten()
        assert torch.corrcoef(torch.stack((red, strong)))[0, 1].abs() > 0.97
        image = torch.rand(2, 3, 4, 4)
        assert coloured(image, image[None])[0] is image

    @pytest.mark.parametrize("kind", SHAPES)
    def test_calibration_has_the_scalars_of_the_kind(self, kind):
        names = set(scalar_ranks(drawn(kind)))
        wanted = {"points": {"entry 1", "entry 2"}, "maps": {"mean of channel 6", "edge energy"}}
        assert wanted[kind] <= names
        assert {"tarp_pvalue", "joint_test_pvalue", "energy_score"} <= set(calibration(drawn(kind)))

    def test_exact_samples_pass_and_narrow_ones_do_not(self):
        """x = (h, e) with e ~ N(0, 1): the right spread passes the tests of ranks, half of it fails."""
        x = torch.randn(600, 2, generator=seeded("exact"))
        h = x[:, :1]
        found = []
        for spread in (1.0, 0.5):
            free = spread * torch.randn(9, 600, 1, generator=seeded("free"))
            x_hat = torch.cat((h.expand(9, -1, -1), free), -1)
            found.append(calibration(FiberSamples(x, h, x_hat, h.expand(9, -1, -1))))
        assert found[0]["rank_rejected"] == 0
        assert found[1]["rank_rejected"] > 0
        assert found[1]["rank_pvalue"] < 1e-6

    def test_an_evaluation_refuses_what_is_not_finite(self):
        phi, x = phi_of("points"), inputs_of("points")
        model = models_of("points")[FlowMatching]()
        model.latents.decode = lambda z, h: z / 0
        with pytest.raises(ValueError, match="samples of FlowMatching, slot 0, target 0: expected finite numbers"):
            Drawing(model, phi, x, 1).gather()
        with pytest.raises(ValueError, match=r"targets: expected shape \(B, 2\)"):
            Drawing(model, phi, inputs_of("maps"), 1)

    def test_an_evaluation_of_points(self):
        data, phi = InMemory(inputs_of("points", 300), name="normal"), phi_of("points")
        samples, values = evaluate(NearestNeighbour(), phi, data, Choice(25, 2))
        assert samples.x_hat.shape == (2, 25, 2)
        assert values["dataset"] == "normal"
        assert values["fiber_rms"] < 0.5


def test_a_fiber_model_of_points_from_the_command_line(tmp_path, monkeypatch):
    """A model file of points; samples of a table of points."""
    np.save(tmp_path / "points.npy", inputs_of("points", 100).numpy())
    np.savetxt(tmp_path / "queries.csv", inputs_of("points", 3).numpy(), delimiter=",")
    linear = {"network": "torch.nn.Linear", "layer": "logits", "input_shape": [2]}
    linear["network_args"] = {"in_features": 2, "out_features": 1}
    content = {
        "name": "nearest",
        "subject": {"class_path": "fibermodels.subjects.Cut", "init_args": linear},
        "data": {"class_path": "fibermodels.data.Arrays", "init_args": {"file": str(tmp_path / "points.npy")}},
        "model": {"class_path": "fibermodels.models.NearestNeighbour"},
    }
    (tmp_path / "model.yaml").write_text(json.dumps(content))
    given = ["--checkpoint", str(tmp_path / "model.yaml"), "-n", "2", "--device", "cpu", "--out", str(tmp_path / "out")]
    sample_main([*given, "--inputs", str(tmp_path / "queries.csv")])
    with (tmp_path / "out" / "samples.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"].rpartition("#")[2] for row in rows] == ["0", "0", "1", "1", "2", "2"]
    known = inputs_of("points", 100)
    for row in rows:
        point = torch.tensor([float(row["x0"]), float(row["x1"])])
        assert (known - point).abs().sum(1).min() < 1e-4
    assert (tmp_path / "out" / "samples.safetensors").is_file()
    with pytest.raises(SystemExit):
        sample_main([*given, "--images", str(tmp_path)])


def test_fit_of_points(tmp_path):
    """The few calls of `fit`, for a tensor of points: the run draws, samples, scores, and is loaded again."""
    torch.manual_seed(0)
    network, x = nn.Linear(2, 1), inputs_of("points", 120)
    run = fit(network, x, "logits", 0.01, runs=tmp_path, batch_size=32, progress=False)
    assert isinstance(run.model, FlowMatching)
    assert run.sample(x[0], n=3).shape == (3, 2)
    assert run.sample(x[:5], n=3).shape == (3, 5, 2)
    assert run.sample(h=network(x[0]).detach(), n=3).shape == (3, 2)
    assert run.score(10, 2)["fiber_rms"] > 0
    assert len(run.plot(n=2).axes) == 10  # all targets, all samples, and eight targets
    assert (tmp_path / "fit" / "samples.png").is_file()
    run.save(tmp_path / "saved")
    again = load(tmp_path / "saved", subject=network)
    torch.testing.assert_close(again.sample(x[0], n=3), run.sample(x[0], n=3))
    with pytest.raises(ValueError, match=r"input: expected shape \(B, 2\)"):
        run.sample(torch.zeros(4, 3))


def test_maps_get_the_recipe_of_images():
    phi = SpatialMean([3, 8, 8])
    module = training(phi, 48, learning_rate=1e-3, scale=Scale.of(5 + 2 * torch.randn(50, 3, 8, 8)))
    assert isinstance(module.learner, EnergyScore)
    assert module.fiber.weight == 1
    assert module.learner.latents.mean.flatten().tolist() == pytest.approx([5.0] * 3, abs=0.2)
    assert module.learner.sample(phi(torch.randn(2, 3, 8, 8))).shape == (1, 2, 3, 8, 8)
