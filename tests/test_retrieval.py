"""Looking images up: exact against brute force, in blocks, fetched on demand; and the query's random views."""

import pytest
import torch
from cases import images, subject
from PIL import Image

from fibermodels.data import ImageFolder
from fibermodels.evaluation.scoring import remember
from fibermodels.models import Augmented, NearestNeighbour, RandomViews, SameDecision, nearest_neighbour
from fibermodels.models.augmented import crop_box
from fibermodels.noise import seeded


class Gallery:
    """Images that notes which of them were asked for."""

    def __init__(self, count):
        self.pictures = torch.rand(count, 3, 4, 4, generator=seeded("gallery"))
        self.asked = []

    def __len__(self):
        return len(self.pictures)

    def inputs(self, indices):
        self.asked += indices.tolist()
        return self.pictures[indices]


def brute_force(h, known, k, exclude_below=0.0):
    """Every distance by differences in double precision, sorted; equals by their index."""
    distance = (h[:, None].double() - known[None].double()).square().mean(-1)
    distance[distance < exclude_below] = torch.inf
    order = distance.sort(dim=1, stable=True).indices[:, :k]
    return (distance.gather(1, order) * known.shape[1]).sqrt(), order


class TestNearest:
    @pytest.fixture(autouse=True)
    def small_blocks(self, monkeypatch):
        monkeypatch.setattr(nearest_neighbour, "ROWS", 7)
        monkeypatch.setattr(nearest_neighbour, "VALUES", 32 * 90)

    @pytest.mark.parametrize("offset", [0.0, 1000.0])
    @pytest.mark.parametrize("k", [1, 5, 300])
    def test_it_is_brute_force(self, k, offset):
        known = torch.randn(300, 32, generator=seeded("known")) + offset
        h = torch.randn(20, 32, generator=seeded("h")) + offset
        model = NearestNeighbour().remember(Gallery(300), known)
        distance, index = model.nearest(h, k)
        expected, order = brute_force(h, known, k)
        torch.testing.assert_close(distance, expected.float(), rtol=1e-4, atol=0)
        assert torch.equal(index, order)

    def test_of_any_shape(self):
        known, h = (torch.randn(n, 2, 4, 4, generator=seeded(n)) for n in (200, 9))
        _, index = NearestNeighbour().remember(Gallery(200), known).nearest(h, 3)
        assert torch.equal(index, brute_force(h.flatten(1), known.flatten(1), 3)[1])
        assert NearestNeighbour().remember(Gallery(200), known).nearest(h[:0], 3)[1].shape == (0, 3)

    def test_equals_stay_in_their_order(self):
        known = torch.zeros(200, 32)
        _, index = NearestNeighbour().remember(Gallery(200), known).nearest(torch.ones(3, 32), 4)
        assert (index.diff(dim=1) > 0).all()

    @pytest.mark.parametrize("copies", [1, 40])
    def test_copies_of_the_target_are_left_out(self, copies):
        """However many there are."""
        others = torch.randn(200, 32, generator=seeded("known"))
        h = torch.randn(4, 32, generator=seeded("h"))
        near = h.repeat(copies, 1) + 0.005
        known = torch.cat((near, others))
        distance, index = NearestNeighbour().remember(Gallery(len(known)), known).nearest(h, 3, exclude_below=1e-4)
        expected, order = brute_force(h, known, 3, exclude_below=1e-4)
        assert torch.equal(index, order)
        assert index.min() >= len(near)
        torch.testing.assert_close(distance, expected.float(), rtol=1e-4, atol=0)
        model = NearestNeighbour(exclude_below=1e-4).remember(Gallery(len(known)), known)
        assert torch.equal(model.sample(h, 1)[0], model.gallery.pictures[order[:, 0]])

    def test_too_few_are_left(self):
        known = torch.cat((torch.zeros(5, 32), torch.ones(2, 32)))
        model = NearestNeighbour(exclude_below=0.1).remember(Gallery(7), known)
        assert model.sample(torch.zeros(1, 32), 2).shape == (2, 1, 3, 4, 4)
        with pytest.raises(ValueError, match=r"fewer than 3 of the 7 remembered images differ .* mean square of 0\.1"):
            model.sample(torch.zeros(1, 32), 3)
        with pytest.raises(ValueError, match="exclude_below: expected"):
            NearestNeighbour(exclude_below=-1.0)

    def test_only_the_winners_are_fetched(self):
        known, h = (torch.randn(n, 32, generator=seeded(n)) for n in (300, 20))
        gallery = Gallery(300)
        samples = NearestNeighbour().remember(gallery, known).sample(h, 2)
        order = brute_force(h, known, 2)[1]
        assert torch.equal(samples, gallery.pictures[order.T])
        assert sorted(gallery.asked) == sorted(set(order.flatten().tolist())), "each once"


def test_a_folder_is_remembered_by_its_representations(tmp_path):
    """What `evaluate` gives a nearest neighbour: the same images as the whole set in memory."""
    for i, image in enumerate((255 * images(30)).byte()):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / f"{i}.png")
    data, phi = ImageFolder(str(tmp_path), [3, 28, 28], val_size=5), subject()
    train, x = data.split("train"), data.split("test").images()
    model = NearestNeighbour()
    remember(model, phi, data)
    samples = model.sample(phi(x), 2)
    whole = train.images()
    order = brute_force(phi(x), phi(whole), 2)[1]
    assert torch.equal(samples, whole[order.T])
    assert model.gallery is train, "no image is kept"


class TestRandomViews:
    STILL = {"scale": [1.0, 1.0], "flip": 0.0, "jitter": 0.0, "grey": 0.0, "blur": [1e-3, 1e-3]}  # noqa: RUF012

    @pytest.fixture
    def image(self):
        return torch.rand(3, 32, 32, generator=seeded("image"))

    def views(self, image, count=1, **options):
        model, generator = RandomViews(**self.STILL | options), seeded("views")
        return torch.stack([model.view(image, generator) for _ in range(count)])

    def test_each_augmentation_alone(self, image):
        torch.testing.assert_close(self.views(image)[0], image)
        torch.testing.assert_close(self.views(image, flip=1.0)[0], image.flip(-1))
        grey = self.views(image, grey=1.0)[0]
        weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
        torch.testing.assert_close(grey, (weights * image).sum(0).expand(3, -1, -1), atol=1e-3, rtol=0)
        none = {"contrast": 0.0, "saturation": 0.0, "hue": 0.0}
        for view in self.views(image / 2, 20, jitter=1.0, brightness=0.4, **none):
            factor = view / (image / 2)
            torch.testing.assert_close(factor, factor.mean().expand_as(factor), atol=1e-3, rtol=0)
            assert 0.6 <= factor.mean() <= 1.4

    def test_the_blur_is_a_gaussian(self):
        """A point becomes a bell of the given width; the tails beyond four pixels aside."""
        point = torch.zeros(3, 33, 33)
        point[:, 16, 16] = 1
        view = self.views(point, blur=[1.0, 1.0])[0, 0]
        place = torch.arange(33.0) - 16
        assert view.sum().item() == pytest.approx(1, abs=1e-4)
        assert (view.sum(0) * place.square()).sum().item() == pytest.approx(1, abs=0.01)

    def test_crops_are_torchvisions(self):
        """In law: the same means of area and proportions, over 3,000 draws each."""
        from torchvision.transforms import RandomResizedCrop

        generator = seeded("crops")
        ours = torch.tensor([crop_box(90, 120, [0.32, 1.0], generator) for _ in range(3000)]).float()
        torch.manual_seed(0)
        blank = torch.zeros(3, 90, 120)
        draws = [RandomResizedCrop.get_params(blank, [0.32, 1.0], [3 / 4, 4 / 3]) for _ in range(3000)]
        theirs = torch.tensor(draws).float()
        assert (ours[:, 0] + ours[:, 2]).max() <= 90
        assert (ours[:, 1] + ours[:, 3]).max() <= 120
        assert ours.min() >= 0
        for boxes in (ours, theirs):
            boxes[:, 2:] += 1e-6
        area = [(boxes[:, 2] * boxes[:, 3] / (90 * 120)).mean().item() for boxes in (ours, theirs)]
        ratio = [(boxes[:, 3] / boxes[:, 2]).log().mean().item() for boxes in (ours, theirs)]
        corner = [boxes[:, :2].mean(0) for boxes in (ours, theirs)]
        assert area[0] == pytest.approx(area[1], abs=0.015)
        assert ratio[0] == pytest.approx(ratio[1], abs=0.015)
        torch.testing.assert_close(*corner, atol=0.8, rtol=0)

    def test_any_image(self):
        for shape in ((1, 28, 28), (3, 24, 40)):
            x = torch.rand(4, *shape, generator=seeded("x"))
            views = RandomViews().sample(x, 5, seeded(0), x)
            assert views.shape == (5, *x.shape)
            assert views.min() >= 0
            assert views.max() <= 1

    @pytest.mark.parametrize(
        "option", [{"scale": [0.0, 1.0]}, {"blur": [2.0, 1.0]}, {"flip": 1.5}, {"hue": 0.6}, {"grey": -0.1}]
    )
    def test_bad_options(self, option):
        with pytest.raises(ValueError, match=f"{next(iter(option))}: expected"):
            RandomViews(**option)


class TestAugmented:
    def test_a_natural_image_goes_on_at_its_border(self):
        """Shifted by whole pixels, it is a window of the image and its mirror images."""
        x = torch.rand(6, 3, 20, 30, generator=seeded("x"))
        model = Augmented(0.0, 0.2, 0.0, 0.0, 0.0, fill="reflect")
        wide = torch.nn.functional.pad(x, (6, 6, 4, 4), mode="reflect")
        shifted = 0
        for image, view in zip(wide, model.sample(x, 1, seeded(0), x)[0], strict=True):
            windows = {(a, b): image[:, a : a + 20, b : b + 30] for a in range(9) for b in range(13)}
            found = [place for place, window in windows.items() if torch.allclose(window, view, atol=1e-4)]
            assert len(found) == 1
            shifted += found != [(4, 6)]
        assert shifted >= 4

    def test_bad_fill(self):
        with pytest.raises(ValueError, match="fill must be one of"):
            Augmented(fill="black")


def test_images_of_the_same_decision_are_drawn_alike():
    """Of 40 images, 10 are decided as the target: each is drawn about as often, and no other."""
    known = torch.eye(4).repeat(10, 1)
    gallery = torch.arange(40.0)[:, None, None, None].expand(-1, 1, 2, 2) / 40
    model = SameDecision().remember(gallery, known)
    drawn = (
        40 * model.sample(torch.tensor([[0.1, 3.0, 0, 0], [0, 0, 0, 1.0]]), 2000, seeded("draw"))[..., 0, 0, 0]
    ).round()
    for target, decision in enumerate((1, 3)):
        values, counts = drawn[:, target].unique(return_counts=True)
        assert (values % 4 == decision).all()
        assert len(values) == 10
        assert ((counts - 200).square() / 200).sum() < 27.9, "chi-squared of 9 degrees of freedom at .001"
    with pytest.raises(ValueError, match="none of the 40 remembered images has 4"):
        model.sample(torch.eye(5)[4:])
    with pytest.raises(ValueError, match="as many images as representations"):
        SameDecision().remember(gallery, known[:3])
