PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
MNIST := configs/colour_mnist
WEIGHTS := data/weights/colour_mnist
NUM_TARGETS ?= 10000

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-slow check benchmark benchmark-colour-mnist benchmark-guidance benchmark-cifar latent-study \
	subject fiber-autoencoder vae priors clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-24s %s\n", $$1, $$2}'

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PY) -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

quickstart: $(VENV)/installed  ## train a small fiber model on embedded digits, score it beside the truth
	$(PY) train.py --config configs/quickstart.yaml --overwrite true
	$(PY) evaluate.py --checkpoint runs/quickstart/checkpoints/best.ckpt --num_targets 250 --out runs/quickstart/result --overwrite true
	$(PY) evaluate.py --model configs/digits/oracle.yaml --num_targets 250 --out runs/quickstart/oracle --overwrite true
	$(PY) evaluate.py --model configs/digits/nearest_neighbour.yaml --num_targets 250 --out runs/quickstart/nearest_neighbour --overwrite true
	$(PY) evaluate.py --compare runs/quickstart/result runs/quickstart/oracle runs/quickstart/nearest_neighbour \
		--out runs/quickstart --overwrite true
	@echo "samples beside their targets: runs/quickstart/result/samples.png"

test: $(VENV)/installed-dev  ## the test suite (under 5 minutes on two cores)
	$(PY) -m pytest -n 2

test-slow: $(VENV)/installed-dev  ## the test suite with the long tests
	$(PY) -m pytest -n 2 -m "slow or not slow"

check: $(VENV)/installed-dev  ## lint, format, types, architecture
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m pytest -q tests/test_architecture.py

$(VENV)/installed-bench: $(VENV)/installed
	$(PY) -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(PY) -m pip install --quiet --constraint constraints.txt --no-deps torchcfm  # its loss needs POT, not its forty others
	@touch $@

benchmark: $(VENV)/installed-bench  ## speed beside zuko, normflows, FrEIA and torchcfm, in one run
	$(PY) benchmarks/speed.py

benchmark-colour-mnist: $(VENV)/installed  ## train, score and compare everything on colour MNIST (hours on a CPU)
	$(PY) benchmarks/colour_mnist.py --num_targets $(NUM_TARGETS)
	$(PY) benchmarks/tables.py

benchmark-guidance: $(VENV)/installed  ## guided and refined models on colour MNIST, from the published weights (hours on a CPU)
	$(PY) benchmarks/guidance.py
	$(PY) benchmarks/guidance_cost.py
	$(PY) benchmarks/tables.py

benchmark-cifar: $(VENV)/installed  ## inverters of two CIFAR-10 classifiers, trained, sampled and scored (hours on a CPU)
	$(PY) benchmarks/cifar10.py
	$(PY) benchmarks/tables.py

subject: $(VENV)/installed  ## retrain the committed subject of colour MNIST (10 minutes on two cores)
	$(PY) train.py --config $(MNIST)/subject.yaml
	$(PY) export.py --checkpoint runs/colour_mnist/subject/checkpoints/best.ckpt --out $(WEIGHTS)/subject --overwrite true

FIRST := colour_mnist/fiber_autoencoder-1
fiber-autoencoder: $(VENV)/installed  ## train the latent space of colour MNIST anew (15 minutes on a CPU; short of the committed one)
	$(PY) train.py --config $(MNIST)/fiber_autoencoder.yaml --name $(FIRST) --model.learner.init_args.scale 3 \
		--model.learner.init_args.tau 0.15 --model.learning_rate 0.002 --ema_decay 0 --trainer.max_epochs 10
	$(PY) train.py --config $(MNIST)/fiber_autoencoder.yaml --start_from runs/$(FIRST)/checkpoints/last.ckpt
	$(PY) export.py --checkpoint runs/colour_mnist/fiber_autoencoder/checkpoints/last.ckpt \
		--out $(WEIGHTS)/fiber_autoencoder --half true --overwrite true

vae: $(VENV)/installed  ## retrain the committed VAE that knows nothing of the subject (10 minutes on a CPU)
	$(PY) train.py --config $(MNIST)/vae.yaml
	$(PY) export.py --checkpoint runs/colour_mnist/vae/checkpoints/best.ckpt --out $(WEIGHTS)/vae --half true --overwrite true

UNCORRELATED := --data.init_args.variant uncorrelated
priors: $(VENV)/installed  ## retrain the committed unconditional priors (an hour and a half on two cores)
	$(PY) train.py --config $(MNIST)/prior.yaml
	$(PY) train.py --config $(MNIST)/prior.yaml $(UNCORRELATED) --name colour_mnist/prior-uncorrelated
	$(PY) train.py --config $(MNIST)/prior-pixels.yaml
	$(PY) train.py --config $(MNIST)/prior-pixels.yaml $(UNCORRELATED) --name colour_mnist/prior-pixels-uncorrelated \
		--model.learning_rate 0.0005 --trainer.max_epochs 2 --start_from runs/colour_mnist/prior-pixels/checkpoints/last.ckpt
	for name in prior prior-uncorrelated prior-pixels prior-pixels-uncorrelated; do \
		$(PY) export.py --checkpoint runs/colour_mnist/$$name/checkpoints/last.ckpt --out $(WEIGHTS)/$$name --half true --overwrite true || exit 1; \
	done

latent-study: $(VENV)/installed  ## compare variants of the latent space on validation digits (an hour on a CPU)
	$(PY) benchmarks/latent_space.py
	$(PY) benchmarks/tables.py

clean:  ## remove runs and caches, not results
	rm -rf runs .pytest_cache .mypy_cache .ruff_cache
