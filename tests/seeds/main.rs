//! Rows of the documents that the project is checked against: statements, default policies, printed policies, isolation sets,
//! the tutorial. Each check names its row.

#[path = "../gateway/mod.rs"]
mod gateway;

mod default_policies;
mod examples;
mod isolation_sets;
mod place;
mod printed_policies;
mod statements;
mod tutorial;
