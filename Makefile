# make demo    installs what is missing, builds, plays the tutorial's lessons through the gateway, replays captures
# make test    installs what is missing, builds, runs every test
# make bench   installs what is missing, runs the benchmarks
# make peers   installs DPDK, its forwarder for `ringwall bench veth` among it, and builds what bench-peers compares with
# make bench-peers  does the same, runs ringwall and DPDK's classifier and hash table over the same input in turn
# make install builds and puts the program into PREFIX/bin, /usr/local by default, where sudo finds it, too
# make setup   installs what is missing and nothing else
# make lint    formatting and clippy, as the continuous integration does
#
# Root is needed to install packages and for the lab; as another user, both go through `sudo`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := test
.PHONY: setup build install test demo bench peers bench-peers fmt fmt-check clippy lint clean

# Debian keeps the tools of the administrator where other users do not look, and rustup installs into the home directory.
export PATH := $(PATH):/usr/sbin:/sbin:$(HOME)/.cargo/bin

SUDO := $(if $(filter-out 0,$(shell id -u)),sudo)
RINGWALL := target/release/ringwall
PREFIX ?= /usr/local

# command:Debian package. clang compiles the XDP program and, with libclang, reads the headers of libxdp; m4, make and a C compiler
# build libxdp from source; the rest is what the lab drives.
COMMANDS := cc:gcc make:make clang:clang m4:m4 pkg-config:pkg-config ip:iproute2 ethtool:ethtool nft:nftables
# module of pkg-config:Debian package, the C libraries that libbpf is linked with.
MODULES := libelf:libelf-dev zlib:zlib1g-dev

# module of pkg-config:Debian package, what only the comparison with DPDK needs: no part of `setup`.
PEER_MODULES := libdpdk:libdpdk-dev
PEERS := target/peers

setup:
	@missing=(); \
	for need in $(COMMANDS); do \
	  command -v "$${need%%:*}" >/dev/null || missing+=("$${need#*:}"); \
	done; \
	for need in $(MODULES); do \
	  pkg-config --exists "$${need%%:*}" 2>/dev/null || missing+=("$${need#*:}"); \
	done; \
	if [ $${#missing[@]} -gt 0 ]; then \
	  echo "installing: $${missing[*]}"; \
	  if ! command -v apt-get >/dev/null; then \
	    echo "there is no apt-get here: install what these Debian packages hold: $${missing[*]}" >&2; exit 1; \
	  fi; \
	  $(SUDO) apt-get update -qq; \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$${missing[@]}"; \
	fi
	@wanted=$$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml); \
	if ! command -v cargo >/dev/null; then \
	  echo "there is no cargo: install Rust $$wanted or later with rustup" >&2; \
	  echo "(Debian 13 and later: apt-get install rustup && rustup default stable)" >&2; exit 1; \
	fi; \
	found=$$(cargo --version | cut -d' ' -f2); \
	if [ "$$(printf '%s\n' "$$wanted" "$$found" | sort -V | head -n1)" != "$$wanted" ]; then \
	  echo "cargo is $$found, but Rust $$wanted or later is needed: rustup update stable" >&2; exit 1; \
	fi

build: setup
	cargo build --release --locked

install: build
	$(SUDO) install -D -m 755 $(RINGWALL) $(DESTDIR)$(PREFIX)/bin/ringwall

test: setup
	cargo test --locked

demo: build
	$(SUDO) $(RINGWALL) lab test
	$(RINGWALL) replay --gateway pcaps/gateway.yaml --in uplink=pcaps/uplink.pcap --in downlink=pcaps/downlink.pcap --repeat 1000

bench: build
	bench/heavy $(RINGWALL)
	cargo bench --locked

peers:
	@if ! pkg-config --exists $(foreach need,$(PEER_MODULES),$(firstword $(subst :, ,$(need)))) 2>/dev/null \
	    || ! command -v dpdk-testpmd >/dev/null; then \
	  if ! command -v apt-get >/dev/null; then echo "there is no apt-get here: install DPDK and its headers" >&2; exit 1; fi; \
	  $(SUDO) apt-get update -qq; \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
	    dpdk dpdk-dev gcc pkg-config $(foreach need,$(PEER_MODULES),$(lastword $(subst :, ,$(need)))); \
	fi
	@mkdir -p $(PEERS)
	for peer in acl hash; do \
	  $(CC) -O3 -Wall -Wextra -o $(PEERS)/$$peer bench/peers/$$peer.c $$(pkg-config --cflags libdpdk) -march=native \
	    -Wl,--as-needed $$(pkg-config --libs libdpdk); \
	done

# bench/peers/run says which variables choose what is measured, such as SIZES="1000 10000".
bench-peers: build peers
	bench/peers/run

fmt:
	cargo fmt

fmt-check:
	cargo fmt --check

clippy: setup
	cargo clippy --all-targets --locked -- -D warnings

lint: fmt-check clippy

clean:
	cargo clean
