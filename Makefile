# make demo    the environment, then the digits demo: every method, every scenario, a table and figures
# make test    the environment, then the tests
# make bench   the environment, then what an iteration costs (BENCH=quick: three minutes on two cores)
# Needs python3 (3.11 or later) with venv, git and make; everything else is installed here, pinned by uv.lock.
PYTHON ?= python3
UV_VERSION := 0.13.8
UV := .uv/bin/uv
RUN := PATH="$(CURDIR)/.venv/bin:$$PATH"

# Without compiled modules, every job would take seconds longer to import torch.
unexport PYTHONDONTWRITEBYTECODE
export UV_PYTHON_DOWNLOADS := never

BENCH ?= full

.PHONY: demo test bench env lint clean

demo: .venv/.complete
	$(RUN) snakemake --cores all demo

test: .venv/.complete
	$(RUN) python -m pytest -n auto --maxprocesses 8 --dist loadfile

bench: .venv/.complete
	$(RUN) snakemake --cores all bench --forceall --config bench_variant=$(BENCH)
	@cat results/benchmarks/summary.md

lint: .venv/.complete
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) snakefmt --check Snakefile workflow
	$(RUN) snakemake --lint

env: .venv/.complete

.venv/.complete: uv.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "$(PYTHON) is Python " \
	  + sys.version.split()[0] + "; 3.11 or later is needed: make PYTHON=python3.11")'
	test -x $(UV) || { $(PYTHON) -m venv .uv && .uv/bin/pip install --quiet uv==$(UV_VERSION); }
	$(UV) sync --frozen --python $(PYTHON)
	touch $@

clean:
	rm -rf .venv .uv .snakemake
