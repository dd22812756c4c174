//! The figures of a worker's queues, round by round, in; queues that stand still although frames wait in them, out.
//!
//! Nothing here runs on the packet line: control asks for the figures about once a second and compares them with the last ones.

use crate::io::QueueFigures;

/// Rounds without movement after which a queue counts as stalled.
pub const PATIENCE: u32 = 2;

/// What of a queue stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stall {
    /// The kernel takes nothing off the transmit ring.
    Transmit {
        /// Frames in it.
        waiting: u64,
    },
    /// The kernel has taken frames and returns none of their chunks, though more are given to it.
    Completion {
        /// Frames that it keeps.
        kept: u64,
    },
}

impl Stall {
    /// What to tell about a queue of an interface, and what to look at.
    pub fn describe(self, interface: &str, queue: u32) -> String {
        match self {
            Stall::Transmit { waiting } => format!(
                "queue {queue} of `{interface}` sends nothing: {waiting} frames wait in its transmit ring, which has not moved for \
                 {PATIENCE} s or more; once it is full, frames are dropped with `tx-ring-full`; `ip link show {interface}` tells \
                 whether the link is up"
            ),
            Stall::Completion { kept } => format!(
                "queue {queue} of `{interface}` returns nothing: the kernel has kept {kept} frames for {PATIENCE} s or more; \
                 `ethtool -S {interface}` shows what its driver counts"
            ),
        }
    }
}

/// What has changed with a queue since the last round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It stands still.
    Began(Stall),
    /// It moves again.
    Ended,
}

/// Watches one queue.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueueWatch {
    /// Chunks returned up to the last round.
    returned: u64,
    /// Frames given up to the round in which chunks were returned last.
    given: u64,
    /// Rounds without movement.
    still: u32,
    stalls: u64,
}

impl QueueWatch {
    /// Takes in the figures of another round.
    pub fn look(&mut self, figures: &QueueFigures) -> Option<Change> {
        let kept = figures.frames_given.saturating_sub(figures.chunks_returned);
        let stall = match figures.frames_waiting {
            _ if kept == 0 || figures.chunks_returned != self.returned => None,
            // Drivers may leave chunks for later as long as nobody wants to send more.
            0 if figures.frames_given == self.given => None,
            0 => Some(Stall::Completion { kept }),
            waiting => Some(Stall::Transmit { waiting }),
        };
        let was_stalled = self.still >= PATIENCE;
        let Some(stall) = stall else {
            if kept == 0 || figures.chunks_returned != self.returned {
                (self.returned, self.given) = (figures.chunks_returned, figures.frames_given);
            }
            self.still = 0;
            return was_stalled.then_some(Change::Ended);
        };
        self.still = self.still.saturating_add(1);
        if was_stalled || self.still < PATIENCE {
            return None;
        }
        self.stalls += 1;
        Some(Change::Began(stall))
    }

    /// Stalls so far.
    pub fn stalls(&self) -> u64 {
        self.stalls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_named_when_it_stands_still_with_frames_and_when_it_moves_again() {
        /// Frames given, chunks returned and frames waiting in each round.
        fn check(rounds: &[[u64; 3]], expected: &[(usize, Change)]) {
            let mut watch = QueueWatch::default();
            let seen: Vec<(usize, Change)> = rounds
                .iter()
                .enumerate()
                .filter_map(|(round, &[frames_given, chunks_returned, frames_waiting])| {
                    let figures =
                        QueueFigures { frames_given, chunks_returned, frames_waiting, ..QueueFigures::default() };
                    Some((round, watch.look(&figures)?))
                })
                .collect();
            assert_eq!(seen, expected, "{rounds:?}");
            let began = expected.iter().filter(|(_, change)| matches!(change, Change::Began(_))).count();
            assert_eq!(watch.stalls(), began as u64);
        }
        let transmit = |waiting| Change::Began(Stall::Transmit { waiting });
        let completion = |kept| Change::Began(Stall::Completion { kept });
        check(&[[0, 0, 0]; 5], &[]);
        // Everything moves.
        check(&[[9, 5, 4], [19, 15, 4], [29, 25, 4], [39, 35, 4]], &[]);
        // The transmit ring does not, whether frames come or not.
        check(&[[5, 0, 5], [5, 0, 5], [5, 0, 5]], &[(1, transmit(5))]);
        check(&[[9, 9, 0], [12, 9, 3], [14, 9, 5], [20, 9, 11], [20, 20, 0]], &[(2, transmit(5)), (4, Change::Ended)]);
        // Chunks left for later are no stall, unless more frames come and none is returned.
        check(&[[9, 5, 0], [9, 5, 0], [9, 5, 0], [9, 5, 0]], &[]);
        check(&[[9, 5, 0], [12, 5, 0], [13, 5, 0], [13, 5, 0], [14, 6, 0]], &[(2, completion(8)), (4, Change::Ended)]);
        // A second one is told and counted again.
        check(
            &[[5, 0, 5], [5, 0, 5], [5, 5, 0], [7, 5, 2], [7, 5, 2]],
            &[(1, transmit(5)), (2, Change::Ended), (4, transmit(2))],
        );
    }
}
