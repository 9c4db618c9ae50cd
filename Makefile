# Two commands on a fresh machine: `make demo` and `make test`. Everything is set up in .venv.
VENV ?= .venv
BIN := $(VENV)/bin
export PELLUCID_DATA ?= ../shared/packs:../shared/weights

.PHONY: demo test check format soak clean

demo: $(VENV)/.ready          ## the whole flow on generated images, in a few minutes
	$(BIN)/pellucid run recipes/phantom.toml

test: $(VENV)/.ready browser
	$(BIN)/python -m pytest

check: $(VENV)/.ready         ## format, lint, types, layers, docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/test_docs.py

format: $(VENV)/.ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

soak: $(VENV)/.ready          ## kill a run twenty times by the clock and compare with one that was never stopped
	$(BIN)/python tests/soak.py

# The report is tested in a real browser. Where there is none and it can't be installed, those tests say so and skip (in CI they fail).
.PHONY: browser
browser:
	@command -v chromium chromium-browser google-chrome >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } || echo "no Chromium: browser tests will be skipped"

$(VENV)/.ready: pyproject.toml
	python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build src/*.egg-info
