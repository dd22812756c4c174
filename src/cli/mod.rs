//! One file per verb; rendering for people and JSON types for scripts. Nobody imports this room.
