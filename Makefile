# Weir: every step that a person or CI takes. `make help` lists them.

SHELL       := /bin/bash
PREFIX      ?= /usr
SYSCONFDIR  ?= /etc
DESTDIR     ?=
UNITDIR     ?= $(PREFIX)/lib/systemd
CARGO       ?= cargo
TARGET      := $(or $(CARGO_TARGET_DIR),target)
WEIR        := $(TARGET)/release/weir

.DEFAULT_GOAL := help
.PHONY: help deps build demo test check fmt lint doc fuzz bench bench-sigma install uninstall docs pcaps

help: ## This list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

deps: ## Install what the build needs and this machine lacks (Rust by rustup, libpcap's headers, a C compiler).
	@scripts/deps.sh

build: deps ## One release build: target/release/weir.
	$(CARGO) build --release --locked

demo: build ## Replay a recorded capture: flows, detections and why, throughput, ledgers.
	@scripts/demo.sh $(WEIR)

test: deps ## Every test.
	@scripts/test.sh

lint: deps ## Formatting and lints.
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --locked -- -D warnings

doc: deps ## The API documentation, without warnings.
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --no-deps --locked

fuzz: deps ## Every fuzz target for FUZZ_S seconds each (60).
	@scripts/fuzz.sh $(or $(FUZZ_S),60)

bench: build ## Side by side with nfcapd and softflowd; see benches/README.md.
	@python3 benches/compare/compare.py --weir $(WEIR)

bench-sigma: deps ## What a flow costs at 100 to 100,000 Sigma rules, beside rsigma-eval; see benches/README.md.
	@scripts/bench-sigma.sh

docs: deps ## Write the generated pages and schemas of docs/ again.
	WEIR_BLESS=1 $(CARGO) test --locked --test it -- docs:: schema:: sigma_decisions::

pcaps: ## Record pcaps/ again (root; some minutes).
	pcaps/record.sh

install: build ## Binary, config, rules, units, man pages, completions: into DESTDIR and PREFIX.
	scripts/install.sh $(WEIR) '$(DESTDIR)' '$(PREFIX)' '$(SYSCONFDIR)' '$(UNITDIR)'

uninstall: ## Take away what `install` put there; configuration and state stay.
	scripts/install.sh --remove '$(DESTDIR)' '$(PREFIX)' '$(SYSCONFDIR)' '$(UNITDIR)'
