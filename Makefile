# Everything runs in .venv, which the first target that needs it builds; nothing but python3 and make is assumed.
PYTHON ?= python3
JOBS ?= 2
CASES ?= 2000
SEED ?= 0
COMPAT_TRANSFORMERS := 4.57.1

BIN := .venv/bin
COMPAT := .venv-compat
PIP_FLAGS := --disable-pip-version-check
ENV_STAMP := .venv/.stamp-env
REAL_STAMP := .venv/.stamp-real
COMPAT_STAMP := $(COMPAT)/.stamp-env

# pytest-xdist runs JOBS processes; one thread each keeps them from competing for the same cores. A file stays in one
# process, which makes what its tests share once.
PYTHON_TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
PYTEST := $(PYTHON_TESTS) -n $(JOBS) --dist loadfile

# The mathematics, one family of each structure grown in memory, the command line, one folder grown and verified.
SMOKE := \
	tests/algebra/test_maps.py tests/algebra/test_laws.py tests/weights/test_grow.py \
	tests/architectures/test_families.py::test_one_family_of_each_structure \
	tests/cli/test_cli.py tests/cli/test_cli_widen_verify.py tests/project/test_rooms.py

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

.PHONY: help env demo smoke test test-slow test-real test-compat test-gpu fuzz check format families clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

env: $(ENV_STAMP) ## Build .venv, or bring it up to date
	@:

demo: env ## Run the demonstration (half a minute, once .venv is there)
	@$(BIN)/grow demo

smoke: env ## Run a few tests of everything in under a minute
	@$(PYTHON_TESTS) $(SMOKE)

test: env ## Run the tests (not the slow, real, compat and gpu ones)
	@$(PYTEST)

test-slow: env ## Run the slow tests: all of them, or a part such as SHARD=1/8
	@$(PYTEST) -m slow $(if $(SHARD),--shard $(SHARD))

test-real: $(REAL_STAMP) ## Run the tests that need downloaded real weights
	@$(PYTEST) -m real

test-compat: env $(COMPAT_STAMP) ## Run the tests against another transformers version
	@GROWTH_COMPAT_PYTHON="$(CURDIR)/$(COMPAT)/bin/python" $(PYTEST) -m compat

test-gpu: env ## Run the tests that need a GPU, then time growth on it; without one they fail
	@$(PYTHON_TESTS) -m gpu tests/gpu
	@$(BIN)/python benchmarks/gpu.py

fuzz: env ## Damage configs and checkpoints at random: CASES=50000 SEED=0, or one, CASE=17
	@PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m fuzz --seed $(SEED) $(if $(CASE),--case $(CASE),--cases $(CASES))

check: env ## Check formatting, lint and types, then run the tests
	@$(BIN)/ruff format -q --check
	@$(BIN)/ruff check -q
	@$(BIN)/mypy --no-error-summary growth cli
	@$(MAKE) test

format: env ## Format the code and fix what ruff can fix
	@$(BIN)/ruff check -q --fix-only
	@$(BIN)/ruff format -q

families: env ## Write the table of docs/families.md
	@$(BIN)/python -c "$$FAMILIES_TABLE" $(BIN)/grow

clean: ## Remove build products and tool caches (keeps the environments)
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -path './.venv*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# The editable install is found after the path, so that a folder called growth in the working folder, such as the
# folder of a clone seen from above, would win. A path file puts the source onto the path itself.
export SOURCE_PATH = import pathlib, sys, sysconfig; \
	pathlib.Path(sysconfig.get_path("purelib"), "growth-source.pth").write_text(sys.argv[1] + "\n", encoding="utf-8")

# What stands between the two marks of the page becomes what the command prints.
export FAMILIES_TABLE = import pathlib, re, subprocess, sys; \
	page = pathlib.Path("docs/families.md"); \
	command = [sys.argv[1], "architectures", "--markdown"]; \
	table = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout.strip(); \
	old = page.read_text(encoding="utf-8"); \
	new = re.sub("(?s)(<!-- families: [^>]*-->).*(<!-- end of families -->)", lambda marks: "\n".join((marks[1], table, marks[2])), old); \
	page.write_text(new, encoding="utf-8")

# torch goes first, alone, at the tested version: left to the resolver it can come as another, far larger build.
$(ENV_STAMP): pyproject.toml constraints.txt
	@echo "Setting up .venv: PyTorch, transformers and the tools of the tests, 1.5 GB of disk. One minute to ten, by the network."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install $(PIP_FLAGS) -c constraints.txt "$$(grep '^torch==' constraints.txt)"
	@$(BIN)/python -m pip install $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	@$(BIN)/python -c "$$SOURCE_PATH" "$(CURDIR)"
	@touch $@

$(REAL_STAMP): $(ENV_STAMP)
	@$(BIN)/python -m pip install $(PIP_FLAGS) -c constraints.txt -e '.[dev,real]'
	@touch $@

# growth itself is left out: this environment stands for someone who only loads what growth has written. The pins
# that the other transformers release does not accept are dropped from the constraints.
$(COMPAT_STAMP): Makefile constraints.txt
	@echo "Setting up $(COMPAT) with transformers $(COMPAT_TRANSFORMERS)"
	@$(COMPAT)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(COMPAT)
	@grep -vE '^(transformers|huggingface_hub|tokenizers)==' constraints.txt > $(COMPAT)/constraints.txt
	@$(COMPAT)/bin/python -m pip install $(PIP_FLAGS) -c $(COMPAT)/constraints.txt "$$(grep '^torch==' constraints.txt)"
	@$(COMPAT)/bin/python -m pip install $(PIP_FLAGS) -c $(COMPAT)/constraints.txt \
		transformers==$(COMPAT_TRANSFORMERS) numpy safetensors
	@touch $@
