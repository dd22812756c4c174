//! One file per verb; rendering for people and JSON types for scripts. Nobody imports this room.

pub mod packet_object;

pub mod packet_text;
