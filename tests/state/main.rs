//! Flows, fragments and the layers together: one test per rule of the gateway model, each line of data a packet and its verdict.

#[path = "../gateway/mod.rs"]
mod gateway;

mod attacks;
mod floods;
mod flows;
mod fragments;
mod layers;
mod named;
mod tcp;
