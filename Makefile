# The few commands a person types. "make help" lists them.

GO          ?= go
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME    ?= 60s
BENCH       ?= .
BENCHTIME   ?= 1s

# The race detector needs a C compiler. Where there is none, as on a machine with
# Go alone, the tests run without it.
RACE ?= $(shell command -v $${CC:-gcc} >/dev/null 2>&1 && echo -race)

.DEFAULT_GOAL := help
.PHONY: help build conformance test ordeal lint bench fuzz guest catalogue

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/machinery
	$(GO) build -o bin/machinery ./cmd/machinery

conformance: build ## test both drivers on their fakes; needs Go alone
	bin/machinery conformance run --driver qemu --lab fake
	bin/machinery conformance run --driver kvm --lab fake

test: ## run all tests, with the race detector where there is a C compiler; what needs QEMU or nasm is skipped without them
	$(GO) test $(RACE) ./...
# go-qemu itself has a data race, so the tests of the fake with its clients are
# left out above where the race detector is on.
	$(if $(RACE),$(GO) test -run GoQemu ./fakes/qemu)
# With it, fewer of the random configurations are edited and rendered.
	$(if $(RACE),$(GO) test -run 'InAnyConfiguration|AnyConfigurationIs' ./machinery/config/edit ./conftemplates)

ordeal: ## kill the driver 100 times and edits of a file 200 times, restart libvirtd 100 times, 300 cycles, full disks: on the fakes, the host's QEMU and libvirt; half an hour
	MACHINERY_REQUIRE=qemu,libvirt MACHINERY_KILLS=100 MACHINERY_CYCLES=300 MACHINERY_RESTARTS=100 $(GO) test -v -count 1 -timeout 60m ./conformance/ordeal
	MACHINERY_KILLS=200 $(GO) test -v -count 1 -run Killed ./machinery/config/edit ./cmd/machinery

lint: ## gofmt, go vet, staticcheck, go.mod, and shellcheck where it is installed
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "not formatted by gofmt:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	$(GO) mod tidy -diff
	@if command -v shellcheck >/dev/null; then shellcheck .ci/run; else echo "shellcheck is not installed, .ci/run is not checked"; fi

bench: ## run the benchmarks; BENCH and BENCHTIME choose
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchtime '$(BENCHTIME)' -benchmem ./...

# go test fuzzes one target of one package at a time. It would spend up to a minute on making one
# interesting input shorter, in which nothing is tried.
fuzz: ## run each fuzz target for FUZZTIME
	@set -e; grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sort | \
	while IFS=: read -r file decl; do \
		target=$${decl#func }; echo "== $$target in $$(dirname "$$file")"; \
		$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime '$(FUZZTIME)' -fuzzminimizetime 10x "$$(dirname "$$file")" </dev/null; \
	done

guest: ## assemble the guest; needs nasm
	cd conformance/guest && nasm -Werror -f bin -o guest.bin guest.asm

catalogue: build ## write docs/requirements.md from the suite's table, and docs/config-*.md from the drivers' schemas
	bin/machinery conformance list --markdown >docs/requirements.md.new
	mv docs/requirements.md.new docs/requirements.md
	for driver in qemu kvm; do bin/machinery config schema $$driver --reference >docs/config-$$driver.md.new && \
		mv docs/config-$$driver.md.new docs/config-$$driver.md || exit 1; done
