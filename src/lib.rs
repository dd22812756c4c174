//! # ringwall
//!
//! A userspace packet filter on AF_XDP rings.

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
