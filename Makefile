# Weir: every step that a person or CI takes. `make help` lists them.

SHELL       := /bin/bash
PREFIX      ?= /usr
SYSCONFDIR  ?= /etc
DESTDIR     ?=
UNITDIR     ?= $(PREFIX)/lib/systemd
CARGO       ?= cargo
PYTHON      ?= python3
MODEL       := model/.venv/bin/python
TARGET      := $(or $(CARGO_TARGET_DIR),target)
WEIR        := $(TARGET)/release/weir

.DEFAULT_GOAL := help
.PHONY: help deps build demo test test-delivery check fmt lint doc fuzz bench bench-instructions bench-kafka bench-quick bench-model bench-sigma install uninstall deb test-deb test-container sbom docs pcaps model model-deps model-check model-test model-nested model-captures eval

help: ## This list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

deps: ## Install what the build needs and this machine lacks (compilers, cmake, headers of libpcap, OpenSSL, curl, zlib; not Rust).
	@scripts/deps.sh

build: deps ## One release build: target/release/weir.
	$(CARGO) build --release --locked

demo: build ## Replay a recorded capture: flows, detections and why, throughput, ledgers.
	@scripts/demo.sh $(WEIR)

test: deps ## Every test.
	@scripts/test.sh

test-delivery: build ## A million slices through every fault of delivery; writes benches/runs/latest/delivery.json (root for two of them).
	scripts/servers.sh >/dev/null || echo "test-delivery: some servers are missing: see above" >&2
	WEIR_BIN=$(abspath $(WEIR)) WEIR_DELIVERY_OUT=benches/runs/latest/delivery.json \
	    $(CARGO) test --locked --test it -- --ignored --nocapture delivery::the_table_of_faults

lint: deps ## Formatting and lints.
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --locked -- -D warnings

doc: deps ## The API documentation, without warnings.
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --no-deps --locked

fuzz: deps ## Every fuzz target for FUZZ_S seconds each (60).
	@scripts/fuzz.sh $(or $(FUZZ_S),60)

bench: build ## The whole path beside its peers (ROWS="ipfix v5": some rows); see benches/README.md.
	@python3 benches/pipeline --weir $(WEIR) $(ROWS)

bench-quick: build ## The same in short runs, for development; nothing is kept.
	@python3 benches/pipeline --quick --weir $(WEIR) $(ROWS)

bench-instructions: deps ## Instructions a record of each stage under callgrind, held to benches/instructions.json.
	@python3 benches/instructions.py

bench-model: deps ## What the sequence model costs: a window, 500,000 records/s over 100,000 pairs, a pair's memory.
	WEIR_BENCH_OUT=benches/runs/latest/model.json $(CARGO) bench --locked --bench model

bench-kafka: build ## The Kafka sink, its peers and detectors on a real broker (PARTS="sink peers detect": some); see benches/README.md.
	@"$$(scripts/servers.sh kafka python)"/python/bin/python benches/kafka --weir $(WEIR) $(PARTS)

bench-sigma: deps ## What a flow costs at 100 to 100,000 Sigma rules, beside rsigma-eval; see benches/README.md.
	@scripts/bench-sigma.sh

docs: deps ## Write the generated pages and schemas of docs/ again.
	WEIR_BLESS=1 $(CARGO) test --locked --test it -- docs:: schema:: formats:: sigma_decisions::

pcaps: ## Record pcaps/ again (root; some minutes).
	pcaps/record.sh

model/.venv/ready: model/requirements.txt
	$(PYTHON) -m venv model/.venv
	model/.venv/bin/pip install --quiet --requirement model/requirements.txt
	touch $@

model-deps: model/.venv/ready ## The Python environment of the sequence model (model/.venv; PyTorch is large).

model: model-deps ## Train the sequence model: data to model/weir.onnx (WEIR_VECTORS holds the flows; some minutes).
	$(MODEL) model/build.py
	$(MODEL) model/vectors.py
	$(MODEL) model/report.py --card

model-check: model-deps ## Train again and compare with the shipped file.
	$(MODEL) model/build.py --check

eval: model-deps ## The tables of model/MODEL_CARD.md, after `make model` or `make model-check`.
	$(MODEL) model/report.py

model-nested: model-deps ## Nested validation of what was chosen by hand; writes its table into the card (a quarter of an hour).
	$(MODEL) model/nested.py --card

model-captures: model-deps build ## Record model/captures/flows-*.parquet again: real clients and servers between namespaces (root; 22 minutes).
	model/.venv/bin/pip install --quiet --requirement model/captures/requirements.txt
	for seed in 1 2; do $(MODEL) model/captures/record.py --seed $$seed -o model/captures/flows-$$seed.parquet; done

model-test: model-deps ## Quick tests of the model's features, generators, labels and file.
	$(MODEL) -m pytest -q model/tests

install: build ## Binary, config, rules, units, man pages, completions: into DESTDIR and PREFIX.
	scripts/install.sh $(WEIR) '$(DESTDIR)' '$(PREFIX)' '$(SYSCONFDIR)' '$(UNITDIR)'

uninstall: ## Take away what `install` put there; configuration and state stay.
	scripts/install.sh --remove '$(DESTDIR)' '$(PREFIX)' '$(SYSCONFDIR)' '$(UNITDIR)'

deb: build ## The Debian package: target/deb/weir_VERSION_ARCHITECTURE.deb (SOURCE_DATE_EPOCH is respected).
	scripts/deb.sh $(WEIR) $(TARGET)/deb

test-deb: build ## Install the package in a booted Debian, use it, upgrade, remove, purge (root).
	scripts/test-deb.sh $(WEIR)

test-container: build ## Build the image of the Containerfile over the binary and run it (root, podman, buildah, runc).
	scripts/test-container.sh $(WEIR)

sbom: ## What the binary links, as CycloneDX: target/sbom/weir.cdx.json.
	scripts/sbom.py --sbom $(TARGET)/sbom/weir.cdx.json --licences $(TARGET)/sbom/licences.txt
