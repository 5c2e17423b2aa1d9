# The commands that a person or CI gives. `make help` lists them.

SWIFT ?= swift
export SWIFT
# Tests make loop devices, namespaces and mounts.
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo --set-home --preserve-env=PATH,SWIFT)
# An ordinary user makes networks and mounts in a user namespace: uidmap, and lines of the user in
# /etc/subuid and /etc/subgid.
IN_NAMESPACE := $(if $(filter 0,$(shell id -u)),,unshare --user --map-auto --map-root-user --mount --propagation private --)
# These need root: loop devices, and send buffers beyond the limit of nft.
NEED_ROOT := DiskTests.aTableIsReadBack DiskTests.aTableGoesToALargerDisksEnd \
    DiskTests.anImageIsFlashed DiskTests.aLoopDevice DiskTests.aDiskThatIsTooSmall DiskTests.aDiskInUse \
    FilesystemTests.erofsSatisfies FilesystemTests.attributesOfAllSizes OracleTests.fiveHundred
# These run the box's own executables, which take minutes to build, or an image.
NEED_BOX := BootTests BuildTests NetnsTests InitTests UpdaterTests ServingTests \
    InstallationTests.whateverHappens
# Half a minute each: another client's reading of our repositories, and every cut of power.
SLOW := bothClientsAccept pythonsClientReads powerLossAnywhere powerCutsLeave
SKIPPED := $(NEED_BOX:%=--skip %) $(SLOW:%=--skip %) $(if $(filter 0,$(shell id -u)),,$(NEED_ROOT:%=--skip %))
IMAGE ?= branch-office
# As the compiler of Debian 12 and of Debian 13 both take them.
STRICT = -Xswiftc -warnings-as-errors

.PHONY: help setup setup-tests image box check test torture lint bench

help:  ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## */\t/' | expand -t 12

setup:  ## Install what the build needs (Debian 12 with a Swift, or Debian 13)
	@ci/setup

setup-tests:  ## Install what the tests need as well
	@ci/setup tests

image: setup box  ## Build out/$(IMAGE)/$(IMAGE).raw; no committed file changes
	$(SWIFT) build -c release --product vcpe
	.build/release/vcpe build $(IMAGE) --relock-gone

box: setup  ## Build the box's own executables into .build/box
	@ci/box

lint: setup
	$(SWIFT) format lint --strict --recursive Package.swift Sources Tests

check: lint setup-tests  ## The style and the fast tests: nothing of the box itself, no image, no boot; no root needed
	$(SWIFT) build --build-tests $(STRICT)
	$(IN_NAMESPACE) $(SWIFT) test --skip-build --skip Torture $(SKIPPED)

# The user builds, so that root owns no file of .build; root's home has the caches of the tests.
test: lint setup-tests box  ## All tests, boots included; as root, or with sudo
	$(SWIFT) build --build-tests $(STRICT)
	$(AS_ROOT) ci/test

torture: lint setup-tests box  ## Longer runs of faults and garbage, by another seed each time, into out/torture.json
	@ci/setup tests iperf3 mmdebstrap
	rm -f out/torture.json
	$(SWIFT) build --build-tests $(STRICT)
	$(AS_ROOT) $(SWIFT) test --skip-build --no-parallel --filter Torture

bench: setup-tests box  ## The benchmarks against mmdebstrap, mkosi, a Debian gateway, nft, casync, zchunk and RAUC, into out/bench.json
	@ci/setup tests mmdebstrap iptables casync zchunk
	$(SWIFT) build -c release --product vcpe
	.build/release/vcpe build $(IMAGE) --profile virtio --relock-gone
	rm -rf out/.bench
	Benchmarks/build.sh $(IMAGE)
	$(AS_ROOT) Benchmarks/boot.sh $(IMAGE)
	$(AS_ROOT) Benchmarks/change.sh
	$(AS_ROOT) Benchmarks/facts.sh
	$(AS_ROOT) Benchmarks/forward.sh
	$(AS_ROOT) Benchmarks/carrier.sh
	$(AS_ROOT) Benchmarks/delta.sh $(IMAGE)
