//! # ringwall
//!
//! A userspace packet filter on AF_XDP rings.
//!
//! ```text
//!  policy files ── policy ──▶ Policy ── compile ──▶ Program                control line: allocates, may refuse, explains itself
//!                                                    │ published with a generation number
//!  NIC | pcap | memory ── io ──▶ Frame ── packet ──▶ Key ── engine ──▶ Decision ── io ──▶ …       packet line: never allocates,
//!                            └─────────────── worker drives the burst ───────────────┘            never locks, never fails
//! ```
//!
//! | room | what comes in → what goes out | may use | must not know |
//! |---|---|---|---|
//! | `base` | words that all share: addresses, ids, time, findings with their places, documents | – | everything else |
//! | `policy` | text → one intermediate form for all formats; a room for each format | base | engine, programs, other formats |
//! | `compile` | that form → a program; the slow, obvious reference that stays for ever | policy, engine's types | frames, flows |
//! | `packet` | bytes → key, and descriptions → bytes for tests and `explain` | base | frames, policy, flows |
//! | `engine` | keys of a burst → decisions: look-up, flows, TCP states, fragments, counters, trace | packet | text, files, sockets, clocks, threads |
//! | `io` | frames in and out behind one trait: AF_XDP, captures, in-memory rings | base | keys, reasons, policy |
//! | `worker` | one pinned thread per queue: receive, judge, transmit, hand over | packet, io, engine, config | policy, text |
//! | `config` | gateway file and hardware profile → validated plan | base | contents of policy |
//! | `control` | the running daemon: loading, publishing, signals, statistics, logs | all but cli | how packets are parsed |
//! | `lab` | namespaces, links, echo servers, probes, for trying it without hardware | io, config | policy |
//! | `cli` | one file per verb; output for people and for scripts | all | nobody imports cli |
//!
//! `tests/architecture.rs` enforces the table.

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
