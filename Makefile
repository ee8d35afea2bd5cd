# What one does with a clone of syncstore. `make` alone lists it.
#
# Everything is installed into .venv, from lock files that name each version and its hash. A stamp in .venv
# says which of them is installed, so a second `make test` starts testing at once; `make clean` forgets all.

PYTHON ?= python3
# Processes that share the tests, file by file; each has database servers of its own. One more than two cores, since
# tests wait a lot.
JOBS ?= 3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip --quiet --disable-pip-version-check install
# The lock files are complete: nothing is resolved here, and a package without its hash is refused.
INSTALL_LOCKED := $(INSTALL) --no-deps --require-hashes --requirement
# For any Python from 3.11 on and any system at once.
LOCK := $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
        --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' $(LOCK_OPTIONS)

.NOTPARALLEL:  # pip does not share a venv with another pip
.DEFAULT_GOAL := help
.PHONY: help serve test check format bench simulate soak lock upgrade clean packages mysql

help: ## say what there is to make
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name what; do \
	    printf '  make %-8s %s\n' "$$name" "$$what"; done

serve: $(VENV)/.project ## start the server of development.ini, on SQLite and nothing else
	@PYTHONWARNINGS=ignore::UserWarning:pyramid.asset $(BIN)/pserve development.ini

test: $(VENV)/.project packages $(VENV)/.test mysql ## run the tests; ARGS='tests/auth -x' goes to pytest
	$(BIN)/pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(VENV)/.project $(VENV)/.check ## lint, formatting, types and the rules of who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.check ## format the sources and mend what the linter can mend itself
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.project packages $(VENV)/.test mysql ## measure this clone; ARGS='--help' says how
	$(BIN)/python -m bench $(ARGS)

simulate: $(VENV)/.project $(VENV)/.test ## five minutes of simulated histories of the cache; ARGS='--help' says more
	$(BIN)/python -m syncstore.testing.simulation --config all --jobs $(JOBS) --histories 1000000 --seconds 50 $(ARGS)

soak: $(VENV)/.project packages $(VENV)/.test mysql ## run the long tests, that `make test` leaves out
	$(BIN)/pytest -m soak --timeout=0 $(ARGS)

lock: $(VENV)/.made ## bring requirements/*.txt in line with pyproject.toml, changing no more than that asks
	$(INSTALL) 'uv>=0.9'
	$(LOCK) pyproject.toml --group build --output-file requirements/serve.txt
	$(LOCK) pyproject.toml --group build --group test --constraint requirements/serve.txt \
	    --output-file requirements/test.txt
	$(LOCK) pyproject.toml --group build --group test --group check --constraint requirements/test.txt \
	    --output-file requirements/check.txt
	$(LOCK) --group mysql --output-file requirements/mysql.txt

upgrade: ## the same, with the newest version of everything that pyproject.toml allows
	$(MAKE) lock LOCK_OPTIONS=--upgrade

clean: ## remove .venv and whatever the tools left behind; var/, with your data, stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

packages:
	@tools/test-packages $(PYTHON)

# mysqlclient comes as source. Without a compiler or headers the other databases can still be tested, so it
# is no stamp's business to insist; it is tried again each time until it is there.
mysql: packages $(VENV)/.made
	@if [ $(VENV)/.mysql -nt requirements/mysql.txt ]; then :; \
	elif pkg-config --exists libmariadb 2>/dev/null || pkg-config --exists mysqlclient 2>/dev/null; then \
	    $(INSTALL_LOCKED) requirements/mysql.txt && touch $(VENV)/.mysql; \
	else echo 'mysqlclient is not installed: it needs libmariadb-dev, pkg-config and a C compiler.' >&2; fi

$(VENV)/.made: tools/make-venv
	@tools/make-venv $(PYTHON) $(VENV)
	@touch $@

$(VENV)/.serve $(VENV)/.test $(VENV)/.check: $(VENV)/.%: requirements/%.txt $(VENV)/.made
	$(INSTALL_LOCKED) $<
	@touch $@

$(VENV)/.project: pyproject.toml $(VENV)/.serve
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@
