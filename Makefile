# make help lists the targets. No target needs anything set up beforehand but Go.
SHELL := /bin/bash
.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | column -t -s $$'\t'

.PHONY: test
test: ## lint and all tests with the race detector; installs what they need and may install
	@scripts/test-deps.sh
	@scripts/lint.sh
	@scripts/test.sh ./...

.PHONY: soak
soak: ## every fault again and again for SOAKTIME (30m), with an account of each
	@scripts/test-deps.sh
	@scripts/soak.sh

.PHONY: lint
lint: ## gofmt, go vet, staticcheck
	@scripts/lint.sh

.PHONY: build
build: ## the program, as ./belfry
	CGO_ENABLED=0 go build -trimpath -o belfry ./cmd/belfry

.PHONY: bench
bench: ## measure this machine with the built program
	go run ./cmd/belfry bench

.PHONY: fuzz
fuzz: ## every fuzz test for FUZZTIME (20s) each
	@scripts/fuzz.sh
