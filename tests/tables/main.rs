//! Whole tables of packets and verdicts: upstream policy programs, isolation sets, Kubernetes policies, VPC accounts, and changes
//! of a policy that must not change a verdict.

#[path = "../gateway/mod.rs"]
mod gateway;
#[path = "../random/mod.rs"]
#[allow(dead_code)]
mod random;

mod accounts;
mod changes;
mod isolation;
mod kubernetes;
mod pipeline;
mod programs;
mod programs_of_hosts;
mod rules;
