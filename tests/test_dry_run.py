"""What a dry run says: counts that follow from the definitions of the layers."""

import sys

import pytest
import torch
from cases import flow_matching, subject, unet_diffusion
from lightning.pytorch import Trainer
from torch import nn

from fibermodels.models import FiberLoss
from fibermodels.noise import seeded
from fibermodels.suites.colour_digits import ColourDigits
from fibermodels.training import Training
from fibermodels.training.averaging import AveragedWeights
from fibermodels.training.cli import main
from fibermodels.training.cost import ROWS, cost, line, measure
from fibermodels.training.dry_run import (
    checkpoint_bytes,
    dry_run,
    first_batch,
    memory,
    parameters,
    sizes,
    steps,
)
from fibermodels.training.objective import own_terms

A, B, C = 30, 50, 20


def mlp():
    return nn.Sequential(nn.Linear(A, B, bias=False), nn.ReLU(), nn.Linear(B, C, bias=False))


@pytest.mark.parametrize("needs", [False, True], ids=["data", "inner"])
def test_operations_and_bytes_of_two_layers(needs):
    """A product of (m, k) and (k, n) takes 2 m n k operations; backward, one for the weight and one for the
    input, where that needs a gradient. Kept are the input, the hidden layer, and what is squared."""
    network, n = mlp(), 7
    x = torch.randn(n, A, requires_grad=needs)
    found = cost(lambda: network(x).square().sum(), network.parameters())
    assert found.flops == 2 * n * A * B * (3 if needs else 2) + 2 * n * B * C * 3
    assert found.activations == 4 * n * (A + B + C)
    assert found.seconds > 0


def test_a_cost_is_linear_in_the_rows():
    network = mlp()
    loss = lambda n: network(torch.zeros(n, A)).square().sum()  # noqa: E731
    fitted = line(loss, network.parameters())
    for n in (1, 9, 64):
        direct = cost(lambda n=n: loss(n), network.parameters())
        predicted = fitted.at(n)
        assert predicted.flops == pytest.approx(direct.flops)
        assert predicted.activations == pytest.approx(direct.activations)
        assert predicted.seconds == pytest.approx(predicted.flops / fitted.rate)


def test_recomputed_activations_are_not_kept():
    """Only the input of each recomputed block is; the operations of its forward pass are counted twice."""
    blocks = nn.ModuleList(nn.Sequential(nn.Linear(A, A), nn.Tanh(), nn.Linear(A, A), nn.Tanh()) for _ in range(3))

    def loss(recompute):
        x = torch.ones(5, A)
        for block in blocks:
            x = torch.utils.checkpoint.checkpoint(block, x, use_reentrant=False) if recompute else block(x)
        return x.sum()

    plain, less = (cost(lambda r=r: loss(r), blocks.parameters()) for r in (False, True))
    assert less.activations == 4 * 5 * A * 3
    assert plain.activations == 4 * 5 * A * 7
    assert less.flops == plain.flops + 2 * 5 * A * A * 6


@pytest.mark.parametrize("build", [flow_matching, unet_diffusion], ids=lambda f: f.__name__)
def test_the_costs_of_a_model_at_other_rows(build):
    """From two and four rows, those of sixteen: counted there."""
    module = Training(build(), subject(), FiberLoss(1.0, rows=4)).train()
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    x = ColourDigits().split("train").images(slice(16))
    base, fiber = measure(module, trainer, {"x": x[:ROWS]})
    assert all(p.grad is None for p in module.parameters())
    batch = {"x": x}
    direct = cost(
        lambda: sum(t.mean() for t in own_terms(module.learner, module.subject, batch)[0].values()), module.parameters()
    )
    assert base.at(16).flops == pytest.approx(direct.flops, rel=1e-6)
    assert base.at(16).activations == pytest.approx(direct.activations, rel=0.02)
    assert fiber.each.flops > 0


def test_sizes_are_those_of_the_tensors(tmp_path):
    module = Training(flow_matching(width=512), subject())
    parts, (weights, size) = parameters(module), sizes(module)
    trained = [p for p in module.parameters() if p.requires_grad]
    frozen = [p for p in module.parameters() if not p.requires_grad]
    assert sum(part[0] for part in parts.values()) == sum(p.numel() for p in trained)
    assert sum(part[1] for part in parts.values()) == sum(p.numel() for p in frozen)
    assert set(parts) == {"learner.latents", "learner.network", "subject"}
    assert size == 4 * sum(p.numel() for p in trained)
    assert memory(weights, size, True) - memory(weights, size, False) == size
    assert memory(weights, size, True, 4, unit=100) == memory(weights, size, True) / 4 + 100

    average = AveragedWeights(0.9)
    run = Trainer(
        accelerator="cpu", max_steps=1, logger=False, enable_checkpointing=False, limit_val_batches=0,
        callbacks=[average], enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    run.fit(module, datamodule=ColourDigits(batch_size=16))
    assert sum(a.numel() * 4 for a in average.averages) == size
    moments = [v for s in run.optimizers[0].state.values() for v in s.values() if v.numel() > 1]
    assert sum(4 * v.numel() for v in moments) == pytest.approx(2 * size, rel=0.01)
    run.save_checkpoint(tmp_path / "all.ckpt")
    assert (tmp_path / "all.ckpt").stat().st_size == pytest.approx(checkpoint_bytes(weights, size, True), rel=0.02)


@pytest.mark.parametrize("accumulated", [1, 3])
@pytest.mark.parametrize("limit", [-1, 5])
def test_steps_are_those_that_lightning_counts(accumulated, limit):
    run = Trainer(
        accelerator="cpu", max_epochs=2, max_steps=limit, accumulate_grad_batches=accumulated, logger=False,
        enable_checkpointing=False, limit_val_batches=0, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    data = ColourDigits(batch_size=300)
    run.fit(Training(flow_matching(), subject()), datamodule=data)
    assert steps(len(data.split("train")), 300, 1, accumulated, 2, limit)[1] == run.global_step
    assert steps(1297, 300, 2, accumulated, 2, -1)[0] == -(-2 // accumulated)


def test_encoded_sets_spare_the_subject_and_the_encoder():
    module = Training(flow_matching(), subject()).train()
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    each = [
        measure(module, trainer, first_batch(module, ColourDigits(), cached))[0].each.flops for cached in (False, True)
    ]
    with torch.no_grad():
        x = torch.rand(1, 3, 28, 28, generator=seeded(0))
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            module.learner.latents.moments(x, module.subject(x))
    assert each[0] - each[1] == pytest.approx(counter.get_total_flops())


def test_the_command_prints_and_trains_nothing(tmp_path, monkeypatch, capsys):
    arguments = ["--config", "configs/quickstart.yaml", "--runs", str(tmp_path / "runs"), "--dry_run", "true"]
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments, "--trainer.accelerator", "cpu"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    shown = capsys.readouterr().out
    assert "511,776 trained, 5,401,551 frozen" in shown
    assert "10 steps an epoch, 3,000 in all, 384,000 images seen" in shown
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("options", [(0.0, 0.3), (312.0, 0.0), (312.0, 1.5)])
def test_bad_throughput(options):
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    with pytest.raises(ValueError, match="gpu_tflops|utilisation"):
        dry_run(Training(flow_matching(), subject()), ColourDigits(), trainer, True, *options)
