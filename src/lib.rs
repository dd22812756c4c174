//! # ringwall
//!
//! A userspace packet filter on AF_XDP rings: a transparent gateway between an *uplink* and a *downlink* that gives each packet
//! the verdict of Calico host policy, Kubernetes policy, VPC network ACLs and VPC security groups together.
//!
//! ```text
//!  policy files ── policy ──▶ Policy ── compile ──▶ Program             control line: allocates, may refuse, explains itself
//!                                                     │ published with a generation number
//!  NIC | capture | memory ── io ──▶ Frame ── packet ──▶ Key ── engine ──▶ Decision ── io ──▶ …   packet line: never allocates,
//!                            └──────────────── worker drives the burst ───────────────┘          never locks, never fails
//! ```
//!
//! ## Rooms, in the order of the data
//!
//! | room | what comes in → what goes out | must not know |
//! |---|---|---|
//! | `base` | words for everyone: addresses, ids, time, findings with their place, spanned documents, facts of the site | everything else |
//! | `policy` | text → [`policy::ir::Policy`], one intermediate form for all formats | engine, programs, other formats' files |
//! | `compile` | `Policy` → [`engine::Program`], and the linear [`compile::reference`] that stays forever | frames, flows |
//! | `packet` | bytes → [`packet::Key`] by one entry, and back for building test packets | frames, policy, flows |
//! | `engine` | keys of a burst → [`engine::Decision`]s: look-up, flow table, fragments, counters, trace | text, files, sockets, clocks, threads |
//! | `io` | frames in and out behind one trait [`io::Port`]: AF_XDP, captures, memory | keys, reasons, policy |
//! | `worker` | one pinned thread per queue: receive → judge → transmit; hand-over; publishing | policy, text |
//! | `config` | gateway file and hardware profile → validated [`config::Plan`] | contents of policy |
//! | `control` | loading, the running daemon, signals, generations, statistics | how packets are parsed |
//! | `lab` | namespaces, veth pairs, echo servers, probes, generated traffic | policy |
//! | `cli` | one file per verb; text for people, JSON for scripts | nobody imports it |
//!
//! `tests/architecture.rs` enforces the table.
//!
//! ## How a packet is decided
//!
//! Everything that is loaded becomes *one ordered list of entries*: network ACLs, security groups, failsafe ports, the tiers with
//! their policies, profiles, the ends of the stages. An entry is a box (source set, destination set, ports, protocols) with an
//! effect. Because the order is the same for every endpoint, the chain that an endpoint's stage asks is a subset of the list, a
//! *scope*, and the question is always which entry of a scope matches first ([`engine::program::classifier`]).
//!
//! The addresses, ports and protocol of a packet become interval and class numbers once, for all its stages
//! ([`engine::program::header`]: tables and nodes for IPv4 in [`engine::program::partition`], a search tree for IPv6). A long scope
//! is taken apart ([`engine::program::split`]): each entry is filed under its rarer address, three to a cache line
//! ([`engine::program::leaf`]), and the few that are broad on both sides are multiplied out beforehand
//! ([`engine::program::cross`]); the lowest number of three wins. Short scopes, and those where evaluation goes on behind a rule,
//! are rows of sparse bits, which are ANDed ([`engine::program::vectors`]). [`compile::dimensions`] chooses by an estimate in
//! nanoseconds within a budget of memory and of steps, refuses what does not fit, and `ringwall show program` prints what it
//! chose. A burst goes through each phase
//! as a whole, in the instructions that the processor has ([`engine::program::isa`]). Sets of addresses stay sets: they cost
//! intervals, not entries.
//!
//! [`mod@engine::judge`] walks the stages of one packet in the order of the gateway model (GW-9); what it asks of long lists is
//! found at once for all packets of a burst that begin a flow ([`engine::ahead`]). The flow table ([`engine::flow`]) says where a
//! packet stands before, and remembers what was allowed after; a denied packet changes nothing. Packets that keep the state of a flow
//! pass with nothing else asked, sixteen at once where the processor can ([`base::wide`]), and then before the others of their burst.
//! [`engine::fragments`] lets later fragments follow their first.
//!
//! Who owns what: a flow belongs to the worker that a keyed hash of its unordered address pair names, so that both directions,
//! fragments and ICMP errors meet one state; frames that the hardware spread otherwise are handed over by descriptor. Captures are
//! read beside the worker, where a processor is free, and arrive in parcels that own the blocks their packets lie in. A program
//! is compiled off the line, published as a whole with a generation number, and adopted by each worker between two bursts.
//!
//! ## Invariants that hold everywhere
//!
//! - The verdict of a compiled program is that of the reference, traced or not, whatever the bursts: `tests/equivalence.rs`.
//! - The packet line takes no memory: `tests/no_alloc.rs`. Nothing on it returns an error: every outcome is a verdict with a
//!   [`engine::Reason`] that has a counter.
//! - A frame has one owner; every chunk is in exactly one ring or hand, counted at the end of a run.
//! - A load is atomic: with one error nothing changes, and every error is reported with its place.
//! - `unsafe` lives in `io`, in the modules that own rings and memory; besides in [`base::prefetch`], `base::wide::unjoined` and
//!   `engine::program::gather`, which wrap one kind of instruction each that the standard library has no safe form of.
//! - The packet line does not slow down what comes after it: 512 bits are never multiplied at once ([`base::wide`]).

#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod base;

pub mod policy;

pub mod compile;

pub mod packet;

pub mod engine;

pub mod io;

pub mod worker;

pub mod config;

pub mod control;

pub mod lab;

pub mod cli;
