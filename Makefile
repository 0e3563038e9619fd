# make demo    a three-node network on this host, an application on it, and the proof that it is connected
# make test    everything, on a fresh machine
# make check   format, lint, types, import rules, docs in step
# make bench   the figures in docs/performance.md

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
SIDE_BY_SIDE := --numprocesses 2

.PHONY: demo test test-fast test-kube kube-apiserver check docs bench format system clean

demo: $(STAMP) system
	$(BIN)/python -m labs.demo

test: $(STAMP) system
	$(BIN)/python -m pytest -q -m "not switch and not lab and not kube" $(SIDE_BY_SIDE)
	$(BIN)/python -m pytest -q -m "(switch or lab) and not kube and not alone" --numprocesses 3 --dist loadfile
	$(BIN)/python -m pytest -q -m "alone and not kube"

test-fast: $(STAMP)
	$(BIN)/python -m pytest -q -m "not switch and not lab and not kube" $(SIDE_BY_SIDE)

test-kube: $(STAMP) system kube-apiserver
	NCP_REQUIRE_KUBE=1 $(BIN)/python -m pytest -q -m kube

kube-apiserver: $(STAMP)
	@labs/install_system.sh dpkg-source:dpkg-dev flock:util-linux
	labs/build_kube_apiserver.sh

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m docs.generate --check

docs: $(STAMP)
	$(BIN)/python -m docs.generate

bench: $(STAMP) system
	$(BIN)/python -m benchmarks

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

system:
	@labs/install_system.sh

$(STAMP): requirements.lock pyproject.toml
	@labs/install_python.sh $(PYTHON) $(VENV)
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
