//! A fragment's key in, whether it is judged, follows its first, or is refused out (GW-22).
//!
//! Each datagram keeps the decision of its first fragment for 30 s, and which of its 8-byte units have been seen, so that an
//! exact duplicate is told from an overlap (RFC 1858, RFC 3128, RFC 5722). The table is 4-way set-associative and of fixed
//! size: when a set is full, its oldest datagram is forgotten and its later fragments find no first.

use crate::base::id::RuleId;
use crate::base::time::Now;
use crate::engine::decision::{Decision, FlowState, Reason, Stage, Verdict};
use crate::engine::flow::key::mix;
use crate::packet::{Key, KeyBits};

/// How long a first fragment is remembered, in nanoseconds.
const LIFETIME: u64 = 30_000_000_000;
const WAYS: usize = 4;
const UNITS: usize = 8192;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Datagram {
    src: u128,
    dst: u128,
    id: u32,
    vlan: [u16; 2],
    protocol: u8,
    is_v6: bool,
}

#[derive(Clone, Debug)]
struct Memory {
    datagram: Datagram,
    since: Now,
    decision: Decision,
    is_poisoned: bool,
    /// Exact end in bytes when it is not a multiple of 8: of the last fragment.
    odd_end: u32,
    /// Bit u: some fragment covers unit u.
    covered: [u64; UNITS / 64],
    /// Bit u: some fragment starts at unit u.
    starts: [u64; UNITS / 64],
}

/// What to do with a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Judge it as a packet, then [`Fragments::remember`] the decision.
    Judge,
    /// The decision of its first fragment holds.
    Follow(Decision),
    /// Its first fragment is not known.
    NoFirst,
    /// It overlaps another, or belongs to a datagram that had an overlap.
    Overlap,
}

/// The datagrams of one worker.
#[derive(Debug)]
pub struct Fragments {
    sets: Vec<[Option<Box<Memory>>; WAYS]>,
    // Boxes move between the pool and the sets; their 2 KiB stay where they are.
    #[allow(clippy::vec_box)]
    pool: Vec<Box<Memory>>,
    seed: [u64; 2],
}

enum Overlap {
    None,
    Duplicate,
    Real,
}

impl Memory {
    /// Compares units [first, end) with what was seen.
    fn overlap(&self, first: usize, end: usize, odd_end: u32) -> Overlap {
        let bit = |map: &[u64], u: usize| map.get(u / 64).is_some_and(|w| w >> (u % 64) & 1 == 1);
        let covered = (first..end).filter(|&u| bit(&self.covered, u)).count();
        if covered == 0 {
            return Overlap::None;
        }
        let is_same_span = covered == end - first
            && bit(&self.starts, first)
            && (first + 1..end).all(|u| !bit(&self.starts, u))
            && (!bit(&self.covered, end) || bit(&self.starts, end))
            && (odd_end == self.odd_end || (odd_end == 0 && self.odd_end.div_ceil(8) as usize != end));
        if is_same_span { Overlap::Duplicate } else { Overlap::Real }
    }

    fn cover(&mut self, first: usize, end: usize, odd_end: u32) {
        if let Some(word) = self.starts.get_mut(first / 64) {
            *word |= 1 << (first % 64);
        }
        for u in first..end {
            if let Some(word) = self.covered.get_mut(u / 64) {
                *word |= 1 << (u % 64);
            }
        }
        self.odd_end = self.odd_end.max(odd_end);
    }
}

/// First unit, end unit, and exact end in bytes if it is not a multiple of 8 (else 0).
fn span(key: &Key) -> (usize, usize, u32) {
    let end = u32::from(key.fragment_offset) + u32::from(key.fragment_len);
    let first = usize::from(key.fragment_offset) / 8;
    (first, end.div_ceil(8) as usize, if end.is_multiple_of(8) { 0 } else { end })
}

impl Fragments {
    /// Room for about this many datagrams, about 2.2 KiB each.
    pub fn new(datagrams: usize, seed: [u64; 2]) -> Fragments {
        let sets = datagrams.div_ceil(WAYS).next_power_of_two();
        let decision = Decision::new(Verdict::Deny, Reason::FragmentNoFirst, Stage::Parse, FlowState::None);
        let datagram = Datagram { src: 0, dst: 0, id: 0, vlan: [0; 2], protocol: 0, is_v6: false };
        let empty = Memory {
            datagram,
            since: Now(0),
            decision,
            is_poisoned: false,
            odd_end: 0,
            covered: [0; UNITS / 64],
            starts: [0; UNITS / 64],
        };
        Fragments {
            sets: (0..sets).map(|_| [const { None }; WAYS]).collect(),
            pool: (0..sets * WAYS).map(|_| Box::new(empty.clone())).collect(),
            seed,
        }
    }

    /// Keeps the verdicts and forgets which rules gave them: another program numbers its rules anew.
    pub fn forget_rules(&mut self) {
        for memory in self.sets.iter_mut().flatten().flatten() {
            memory.decision = memory.decision.by(RuleId::NONE);
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        for way in self.sets.iter_mut().flatten() {
            self.pool.extend(way.take());
        }
    }

    fn locate(&self, key: &Key) -> (Datagram, usize) {
        let datagram = Datagram {
            src: key.src,
            dst: key.dst,
            id: key.fragment_id,
            vlan: key.vlan,
            // Behind an IPv6 fragment header, extension headers hide the protocol of later fragments (RFC 8200 4.5).
            protocol: if key.has(KeyBits::V6) { 0 } else { key.protocol },
            is_v6: key.has(KeyBits::V6),
        };
        let fold = |a: u128| (a >> 64) as u64 ^ a as u64;
        let tags = u64::from(key.vlan[0]) << 48 | u64::from(key.vlan[1]) << 32 | u64::from(key.fragment_id);
        let a = mix(fold(key.src) ^ self.seed[0], fold(key.dst).rotate_left(32) ^ self.seed[1]);
        let hash = mix(a ^ u64::from(datagram.protocol), tags ^ self.seed[0]);
        (datagram, hash as usize & (self.sets.len() - 1))
    }

    fn find(&mut self, key: &Key, now: Now) -> Option<&mut Memory> {
        let (datagram, set) = self.locate(key);
        let ways = self.sets.get_mut(set)?.iter_mut().flatten();
        ways.map(Box::as_mut).find(|m| m.datagram == datagram && now.since(m.since) < LIFETIME)
    }

    /// What to do with a fragment; marks a datagram that had an overlap. Cost: one set of four.
    pub fn look(&mut self, key: &Key, now: Now) -> Fate {
        let is_first = key.has(KeyBits::FIRST_FRAGMENT);
        let (first, end, odd_end) = span(key);
        let Some(memory) = self.find(key, now) else { return if is_first { Fate::Judge } else { Fate::NoFirst } };
        if memory.is_poisoned {
            return Fate::Overlap;
        }
        match memory.overlap(first, end, odd_end) {
            Overlap::Real => {
                memory.is_poisoned = true;
                Fate::Overlap
            }
            _ if is_first => Fate::Judge,
            Overlap::Duplicate => Fate::Follow(memory.decision),
            Overlap::None => {
                memory.cover(first, end, odd_end);
                Fate::Follow(memory.decision)
            }
        }
    }

    /// Remembers the decision on a first fragment; `logs` are the first's alone.
    pub fn remember(&mut self, key: &Key, now: Now, decision: Decision) {
        let (first, end, odd_end) = span(key);
        let decision = decision.after_logs(0);
        if let Some(memory) = self.find(key, now) {
            memory.decision = decision;
            memory.cover(first, end, odd_end);
            return;
        }
        let (datagram, set) = self.locate(key);
        let Some(ways) = self.sets.get_mut(set) else { return };
        let way = ways
            .iter_mut()
            .min_by_key(|way| way.as_ref().map(|m| m.since))
            .filter(|way| way.is_some() || !self.pool.is_empty());
        let Some(way) = way else { return };
        let Some(mut memory) = way.take().or_else(|| self.pool.pop()) else { return };
        memory.datagram = datagram;
        memory.since = now;
        memory.decision = decision;
        memory.is_poisoned = false;
        memory.odd_end = 0;
        memory.covered.fill(0);
        memory.starts.fill(0);
        memory.cover(first, end, odd_end);
        *way = Some(memory);
    }
}

/// The decision on a fragment that is refused.
pub fn refused(reason: Reason) -> Decision {
    Decision::new(Verdict::Deny, reason, Stage::Parse, FlowState::None).by(RuleId::NONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(id: u32, offset: u16, len: u16) -> Key {
        let bit = if offset == 0 { KeyBits::FIRST_FRAGMENT } else { KeyBits::LATER_FRAGMENT };
        let mut key = Key { src: 1, dst: 2, protocol: 17, fragment_id: id, fragment_offset: offset, ..Key::EMPTY };
        key.fragment_len = len;
        key.bits.0 |= bit;
        key
    }

    fn allow() -> Decision {
        Decision::new(Verdict::Allow, Reason::PolicyAllow, Stage::PreDnat, FlowState::New)
    }

    /// Each step: offset, length, seconds, expected word.
    fn check(steps: &[(u16, u16, u64, &str)]) {
        let mut fragments = Fragments::new(64, [3, 4]);
        for (i, &(offset, len, seconds, expected)) in steps.iter().enumerate() {
            let (key, now) = (fragment(7, offset, len), Now(seconds * 1_000_000_000));
            let fate = fragments.look(&key, now);
            let word = match fate {
                Fate::Judge => "judge",
                Fate::Follow(_) => "follow",
                Fate::NoFirst => "no-first",
                Fate::Overlap => "overlap",
            };
            assert_eq!(word, expected, "step {i} of {steps:?}");
            if fate == Fate::Judge {
                fragments.remember(&key, now, allow());
            }
        }
    }

    #[test]
    fn gw_22_later_fragments_follow_their_first() {
        check(&[
            (1480, 100, 0, "no-first"),
            (0, 1480, 0, "judge"),
            (1480, 1480, 1, "follow"),
            (2960, 101, 1, "follow"),
        ]);
    }

    #[test]
    fn gw_22_a_first_is_remembered_for_30_s_from_the_first() {
        check(&[(0, 1480, 0, "judge"), (1480, 8, 29, "follow"), (1488, 8, 30, "no-first"), (0, 1480, 30, "judge")]);
    }

    #[test]
    fn gw_22_an_exact_duplicate_follows_and_a_real_overlap_denies_the_rest() {
        check(&[
            (0, 80, 0, "judge"),
            (80, 80, 0, "follow"),
            (80, 80, 0, "follow"),
            (160, 8, 0, "follow"),
            (0, 80, 0, "judge"),
        ]);
        check(&[(0, 80, 0, "judge"), (72, 80, 0, "overlap"), (80, 80, 0, "overlap"), (0, 80, 0, "overlap")]);
        check(&[(0, 80, 0, "judge"), (80, 80, 0, "follow"), (80, 40, 0, "overlap")]);
        check(&[(0, 80, 0, "judge"), (80, 40, 0, "follow"), (120, 40, 0, "follow"), (80, 80, 0, "overlap")]);
        check(&[(0, 80, 0, "judge"), (80, 45, 0, "follow"), (80, 44, 0, "overlap")]);
        check(&[(0, 80, 0, "judge"), (80, 45, 0, "follow"), (80, 45, 0, "follow")]);
        check(&[(0, 80, 0, "judge"), (0, 88, 0, "overlap")]);
    }

    #[test]
    fn gw_22_datagrams_differ_by_id_and_vlan() {
        let mut fragments = Fragments::new(64, [3, 4]);
        fragments.remember(&fragment(7, 0, 80), Now(0), allow());
        assert_eq!(fragments.look(&fragment(8, 80, 8), Now(0)), Fate::NoFirst);
        let tagged = Key { vlan: [5, Key::NO_VLAN], ..fragment(7, 80, 8) };
        assert_eq!(fragments.look(&tagged, Now(0)), Fate::NoFirst);
        assert_eq!(fragments.look(&fragment(7, 80, 8), Now(0)), Fate::Follow(allow()));
    }

    #[test]
    fn gw_22_a_later_ipv6_fragment_is_found_whatever_header_it_starts_with() {
        let mut fragments = Fragments::new(64, [3, 4]);
        let v6 = |key: Key, protocol| {
            let mut key = Key { protocol, ..key };
            key.bits.0 |= KeyBits::V6;
            key
        };
        fragments.remember(&v6(fragment(7, 0, 80), 6), Now(0), allow());
        assert_eq!(fragments.look(&v6(fragment(7, 80, 8), 60), Now(0)), Fate::Follow(allow()));
        assert_eq!(fragments.look(&fragment(7, 80, 8), Now(0)), Fate::NoFirst);
    }

    #[test]
    fn a_flood_of_datagrams_forgets_the_oldest_and_fails_closed() {
        let mut fragments = Fragments::new(16, [3, 4]);
        for id in 0..10_000 {
            fragments.remember(&fragment(id, 0, 80), Now(u64::from(id)), allow());
        }
        let known =
            (0..10_000).filter(|&id| fragments.look(&fragment(id, 80, 8), Now(20_000)) != Fate::NoFirst).count();
        assert_eq!(known, 16);
    }
}
