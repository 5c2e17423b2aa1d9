# The commands that a person or CI gives. `make help` lists them.

SWIFT ?= swift

.PHONY: help setup check test lint

help:  ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## */\t/' | expand -t 12

setup:  ## Install what the build and the tests need (Debian 12 with a Swift, or Debian 13)
	@ci/setup

check: setup  ## The fast tests, and the style
	$(SWIFT) format lint --strict --recursive Package.swift Sources Tests
	$(SWIFT) test -Xswiftc -warnings-as-errors

test: check  ## All tests
