//! Options in, a small network on this machine out: namespaces, veth pairs, echo servers and probes, for trying the gateway without hardware.
//!
//! ```text
//!   <prefix>gen                 <prefix>gw                  <prefix>workers
//!   clients 1.1.1.1, 2.2.2.2    no addresses                worker 10.1.1.1, load balancer 169.1.1.1
//!   gen0 ────── veth ────── up0   ringwall   dn0 ────── veth ────── wk0   echo servers, TCP and UDP
//! ```
//!
//! The modules in the order of a run: [`place`] names things, [`topology`] builds and removes them, [`process`] starts and ends
//! what runs inside, [`session`] puts these together as *up* and *down*, [`echo`] answers, [`probe`] asks, [`lesson`] says what to
//! expect, and [`exercise`] compares. [`generator`] sends traffic at a rate and accounts for every
//! packet of it; [`router`] lets the kernel take the gateway's place.
//!
//! Architecture invariant: this room knows no policy. The policy files of the lessons are text that it copies.

pub mod echo;
pub mod error;
pub mod exercise;
pub mod generator;
pub mod lesson;
pub mod namespace;
pub mod place;
pub mod probe;
pub mod process;
pub mod router;
pub mod session;
pub mod topology;

pub use error::LabError;
