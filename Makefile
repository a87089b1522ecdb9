# Two commands do everything: `make run` and `make test`. Each makes what it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(BIN)/pip install --quiet --disable-pip-version-check
DEBIAN := redis-server mosquitto mosquitto-clients prometheus prometheus-alertmanager lua-check curl systemd \
  chromium fonts-dejavu-core fonts-noto-cjk iproute2
PROGRAMS := redis-server redis-cli mosquitto mosquitto_sub promtool amtool luacheck curl systemd-analyze chromium ip
SOURCES := quota feeds tests bench grafana deploy

.PHONY: run test soak lint bench servers node clean

run: $(VENV)/run
	$(BIN)/quotad run --embedded --simulate

test: $(VENV)/test servers node lint
	$(BIN)/pytest -n 2 --dist worksteal

# The long forms: hours, and other seeds every time (QUOTA_SEED repeats one).
soak: $(VENV)/test servers
	QUOTA_SOAK=1 $(BIN)/pytest -n 2 --dist worksteal --timeout 14400 --durations 20 -v -rP -m soak

lint: $(VENV)/test servers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -c 'from quota.library import SOURCE; print(SOURCE)' | luacheck --quiet -

bench: $(VENV)/test
	$(BIN)/python -m bench

# The servers that the tests start. On Debian as root they are installed; elsewhere they have to be
# there, or the tests that need them are skipped (and fail where CI=true).
servers:
	@missing=; for program in $(PROGRAMS); do \
	  PATH="$$PATH:/usr/sbin" command -v $$program >/dev/null || missing=1; done; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && \
	  RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(DEBIAN) >/dev/null; \
	fi

# The example gateway in JavaScript, with its client from the npm registry.
node:
	@if ! command -v npm >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm >/dev/null; \
	fi
	@if command -v npm >/dev/null && [ ! deploy/examples/node/node_modules -nt deploy/examples/node/package.json ]; then \
	  cd deploy/examples/node && npm install --no-package-lock --no-audit --no-fund --silent && touch node_modules; \
	fi

$(VENV)/run: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[embedded]'
	@touch $@

$(VENV)/test: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[embedded,test]'
	@touch $@ $(VENV)/run

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis bench/results.json deploy/examples/node/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
