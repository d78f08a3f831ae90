PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
MNIST := configs/colour_mnist
WEIGHTS := data/weights/colour_mnist
NUM_TARGETS ?= 10000

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-slow check docs benchmark benchmark-colour-mnist benchmark-guidance benchmark-suites benchmark-cifar general latent-study \
	subject colour-autoencoder vae priors clean

help:  ## print this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-24s %s\n", $$1, $$2}'

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PY) -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

quickstart: $(VENV)/installed  ## train a small fiber model on the digits of scikit-learn, and compare it with the exact oracle
	$(PY) train.py --config configs/quickstart.yaml --overwrite true
	$(PY) evaluate.py --checkpoint runs/quickstart/checkpoints/best.ckpt --num_targets 250 --out runs/quickstart/result --overwrite true
	$(PY) evaluate.py --model configs/digits/oracle.yaml --num_targets 250 --out runs/quickstart/oracle --overwrite true
	$(PY) evaluate.py --model configs/digits/nearest_neighbour.yaml --num_targets 250 --out runs/quickstart/nearest_neighbour --overwrite true
	$(PY) evaluate.py --compare runs/quickstart/result runs/quickstart/oracle runs/quickstart/nearest_neighbour \
		--out runs/quickstart --overwrite true
	@echo "samples beside their targets: runs/quickstart/result/samples.png"

test: $(VENV)/installed-dev  ## run the tests (under 5 minutes on two cores)
	$(PY) -m pytest -n 2

test-slow: $(VENV)/installed-dev  ## run all tests, with the slow ones
	$(PY) -m pytest -n 2 -m "slow or not slow"

check: $(VENV)/installed-dev  ## check style, format, types, imports and the documentation site
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m pytest -q tests/test_architecture.py
	$(PY) -m mkdocs build --strict --quiet

$(VENV)/installed-docs: $(VENV)/installed
	$(PY) -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

docs: $(VENV)/installed-docs  ## build the documentation site in build/site
	$(PY) -m mkdocs build --strict

$(VENV)/installed-bench: $(VENV)/installed
	$(PY) -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(PY) -m pip install --quiet --constraint constraints.txt --no-deps torchcfm  # its loss needs POT, not its forty others
	@touch $@

benchmark: $(VENV)/installed-bench  ## compare the speed with zuko, normflows, FrEIA and torchcfm
	$(PY) benchmarks/speed.py

benchmark-colour-mnist: $(VENV)/installed  ## train, score and compare all models on colour MNIST (hours on a CPU)
	$(PY) benchmarks/colour_mnist.py --num_targets $(NUM_TARGETS)
	$(PY) benchmarks/tables.py

benchmark-guidance: $(VENV)/installed  ## score guided and refined models on colour MNIST with the committed weights (hours on a CPU)
	$(PY) benchmarks/guidance.py
	$(PY) benchmarks/guidance_cost.py
	$(PY) benchmarks/tables.py

benchmark-suites: $(VENV)/installed  ## train and score every family, and the general configuration, on suites of known fibers (hours on a CPU)
	$(PY) benchmarks/suites.py
	$(PY) benchmarks/general.py
	$(PY) benchmarks/tables.py

general: $(VENV)/installed  ## train the general model of colour digits again (40 minutes on a CPU)
	$(PY) benchmarks/general.py --suites '[colour_digits]'

benchmark-cifar: $(VENV)/installed  ## train and score inverters of two CIFAR-10 classifiers (hours on a CPU)
	$(PY) benchmarks/cifar10.py
	$(PY) benchmarks/tables.py

subject: $(VENV)/installed  ## train the subject of colour MNIST again (10 minutes on two cores)
	$(PY) train.py --config $(MNIST)/subject.yaml
	$(PY) export.py --checkpoint runs/colour_mnist/subject/checkpoints/best.ckpt --out $(WEIGHTS)/subject --frozen false --overwrite true

FIRST := colour_mnist/colour_autoencoder-1
colour-autoencoder: $(VENV)/installed  ## train the latent space of colour MNIST again, for a shorter time than the committed one (15 minutes on a CPU)
	$(PY) train.py --config $(MNIST)/colour_autoencoder.yaml --name $(FIRST) --model.learner.init_args.scale 3 \
		--model.learner.init_args.tau 0.15 --model.learning_rate 0.002 --ema_decay 0 --trainer.max_epochs 10
	$(PY) train.py --config $(MNIST)/colour_autoencoder.yaml --start_from runs/$(FIRST)/checkpoints/last.ckpt
	$(PY) export.py --checkpoint runs/colour_mnist/colour_autoencoder/checkpoints/last.ckpt \
		--out $(WEIGHTS)/colour_autoencoder --half true --frozen false --overwrite true

vae: $(VENV)/installed  ## train the VAE again, which does not use the subject (10 minutes on a CPU)
	$(PY) train.py --config $(MNIST)/vae.yaml
	$(PY) export.py --checkpoint runs/colour_mnist/vae/checkpoints/best.ckpt --out $(WEIGHTS)/vae --half true --frozen false --overwrite true

UNCORRELATED := --data.init_args.variant uncorrelated
priors: $(VENV)/installed  ## train the unconditional priors again (90 minutes on two cores)
	$(PY) train.py --config $(MNIST)/prior.yaml
	$(PY) train.py --config $(MNIST)/prior.yaml $(UNCORRELATED) --name colour_mnist/prior-uncorrelated
	$(PY) train.py --config $(MNIST)/prior-pixels.yaml
	$(PY) train.py --config $(MNIST)/prior-pixels.yaml $(UNCORRELATED) --name colour_mnist/prior-pixels-uncorrelated \
		--model.learning_rate 0.0005 --trainer.max_epochs 2 --start_from runs/colour_mnist/prior-pixels/checkpoints/last.ckpt
	for name in prior prior-uncorrelated prior-pixels prior-pixels-uncorrelated; do \
		$(PY) export.py --checkpoint runs/colour_mnist/$$name/checkpoints/last.ckpt --out $(WEIGHTS)/$$name --half true --frozen false --overwrite true || exit 1; \
	done

latent-study: $(VENV)/installed  ## compare variants of the latent space on validation digits (1 hour on a CPU)
	$(PY) benchmarks/latent_space.py
	$(PY) benchmarks/tables.py

clean:  ## remove runs and caches, but no results
	rm -rf runs .pytest_cache .mypy_cache .ruff_cache
