//! A flow key in, the slot of its entry out: a hash table of fixed size with timers and a list of half-open entries by last use.
//! All memory is taken at construction.
//!
//! Per flow: one entry of 64 bytes, 24 bytes that only an IPv6 flow touches, 6.4 of a bucket, 0.8 of a block of slots. A
//! packet of an IPv4 flow touches two cache lines.

use bytemuck::Zeroable;

use super::buckets::{Buckets, View};
use super::entry::Entry;
pub use super::entry::Flow;
use super::key::{Beyond, FlowKey};
pub use super::state::{State, Timeouts};
use super::timers::{BLOCK, Timers, Walk};
use crate::base::pages::Pages;
use crate::base::prefetch::prefetch;
use crate::base::time::Now;

/// No slot.
pub const NIL: u32 = u32::MAX;

/// Blocks and ticks that one call with a budget may step over, besides what it looks at.
const STEPS_PER_CALL: usize = 1024;

/// So many entries before their turn those of new flows are fetched.
const AHEAD: usize = 8;

/// Words of the filter of recent hashes: of the 1,024 bits a burst of new flows sets one in sixteen.
const RECENT: usize = 16;

/// The table.
#[derive(Debug)]
pub struct Table {
    entries: Pages<Entry>,
    beyond: Pages<Beyond>,
    buckets: Buckets,
    timers: Timers,
    used: usize,
    half_open: usize,
    /// Least and most recently used half-open entry.
    open_ends: [u32; 2],
    /// Entries that calls with a budget may still look at.
    credit: usize,
    /// Insertions and removals so far.
    changes: u64,
    /// Changes when [`Table::begin`] was called last, and bits of the hashes that were inserted since.
    begun: u64,
    recent: [u64; RECENT],
    seed: [u64; 2],
    /// By [`Entry::doing`].
    timeouts: [u64; 16],
}

impl Table {
    /// A table for `capacity` flows (1 to 2^28). `timeouts` in nanoseconds by state; `seed` keys the hash.
    pub fn new(capacity: usize, timeouts: Timeouts, seed: [u64; 2]) -> Table {
        let capacity = capacity.clamp(1, 1 << 28);
        Table {
            entries: Pages::zeroed(capacity),
            beyond: Pages::zeroed(capacity),
            buckets: Buckets::new(capacity),
            timers: Timers::new(capacity),
            used: 0,
            half_open: 0,
            open_ends: [NIL; 2],
            credit: 0,
            changes: 0,
            begun: 0,
            recent: [0; RECENT],
            seed,
            timeouts: std::array::from_fn(|doing| timeouts.get(doing.wrapping_sub(1)).copied().unwrap_or(0)),
        }
    }

    /// Takes all memory from the kernel now, so that no packet waits for a page; what only IPv6 needs as well.
    pub fn populate(&self) {
        self.entries.populate();
        self.beyond.populate();
        self.buckets.populate();
    }

    /// Forgets every flow. Cost: proportional to the capacity; not for the packet line.
    pub fn clear(&mut self) {
        if self.used == 0 {
            return;
        }
        self.changes += 1;
        self.entries.fill(Entry::zeroed());
        self.buckets.clear();
        self.timers.clear(self.entries.len());
        (self.used, self.half_open, self.open_ends) = (0, 0, [NIL; 2]);
    }

    /// Live and not yet reclaimed entries.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Entries that are half-open.
    pub fn half_open(&self) -> usize {
        self.half_open
    }

    /// Most entries that fit.
    pub fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of memory reserved for all entries, whatever they hold.
    pub fn bytes(&self) -> usize {
        self.entries.bytes() + self.beyond.bytes() + self.buckets.bytes() + self.timers.bytes()
    }

    /// Whether the kernel was asked for huge pages and agreed to try; small tables do not ask.
    pub fn is_on_huge_pages(&self) -> bool {
        self.entries.is_advised()
    }

    /// The flows that are held, expired but unreclaimed ones included.
    pub fn iter(&self) -> impl Iterator<Item = Flow> {
        (0..self.entries.len() as u32).filter_map(|slot| self.get(slot))
    }

    /// The flow in a slot.
    pub fn get(&self, slot: u32) -> Option<Flow> {
        self.read(slot)
    }

    /// As [`Table::get`], for callers that use only parts of it: the others are not read.
    #[inline(always)]
    pub(super) fn read(&self, slot: u32) -> Option<Flow> {
        self.entries.get(slot as usize)?.flow(|| self.beyond.get(slot as usize).copied().unwrap_or_default())
    }

    /// The entry in a slot.
    #[inline]
    pub(super) fn entry_mut(&mut self, slot: u32) -> Option<&mut Entry> {
        self.entries.get_mut(slot as usize)
    }

    /// Fetches what is in a slot.
    #[inline(always)]
    pub(super) fn fetch(&self, slot: u32, is_v6: bool) {
        if let Some(entry) = self.entries().get(slot as usize) {
            prefetch(entry);
        }
        if is_v6 && let Some(beyond) = self.beyond.get(slot as usize) {
            prefetch(beyond);
        }
    }

    /// The entries; taken once for a burst.
    #[inline(always)]
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entries, what IPv6 addresses have beyond them, and the timeouts by what entries do; taken once for a burst.
    #[inline]
    pub(super) fn parts(&mut self) -> (&mut [Entry], &[Beyond], &[u64; 16]) {
        (&mut self.entries, &self.beyond, &self.timeouts)
    }

    /// Changes with every insertion and removal.
    #[inline]
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    #[inline]
    fn is_expired(&self, entry: &Entry, now: Now) -> bool {
        now.since(Now(entry.last())) >= self.timeouts[entry.doing() % 16]
    }

    #[inline]
    fn expiry(&self, state: State, last: Now) -> u64 {
        last.0.saturating_add(self.timeouts[(state.index() + 1) % 16])
    }

    /// The keyed hash of a key.
    #[inline]
    pub fn hash(&self, key: &FlowKey) -> u64 {
        key.hash(self.seed)
    }

    /// Remembers from here on which hashes are inserted ([`Table::is_recent`]).
    #[inline]
    pub(super) fn begin(&mut self) {
        (self.begun, self.recent) = (self.changes, [0; RECENT]);
    }

    /// The buckets for reading and the seed of the hash; taken once for a burst.
    #[inline(always)]
    pub(super) fn hashing(&self) -> (View<'_>, [u64; 2]) {
        (self.buckets.view(), self.seed)
    }

    /// Whether the entry in a slot has this key.
    #[inline]
    pub fn holds(&self, slot: u32, key: &FlowKey) -> bool {
        let is_like = self.entries.get(slot as usize).is_some_and(|entry| entry.resembles(key));
        is_like && (!key.is_v6() || self.beyond.get(slot as usize) == Some(&key.beyond))
    }

    /// Whether a key of this hash may have been inserted since so many changes: a key that had no slot then has none if not.
    #[inline]
    pub fn is_recent(&self, hash: u64, changes: u64) -> bool {
        let (word, bit) = recent(hash);
        self.begun != changes || self.recent[word] & bit != 0
    }

    /// The slot of a key, its entry expired or not. Cost: one bucket and one entry; more for one in a hundred.
    #[inline]
    pub fn find_by_hash(&self, key: &FlowKey, hash: u64) -> Option<u32> {
        self.buckets.view().find(hash, |slot| self.holds(slot, key))
    }

    /// The slot of a live flow (GW-26).
    #[inline]
    pub fn find(&self, key: &FlowKey, now: Now) -> Option<u32> {
        self.live(self.find_by_hash(key, self.hash(key))?, now)
    }

    /// The slot, if its entry has not expired.
    #[inline]
    pub fn live(&self, slot: u32, now: Now) -> Option<u32> {
        let entry = self.entries.get(slot as usize)?;
        if self.is_expired(entry, now) { None } else { Some(slot) }
    }

    /// Puts a flow in, in the place of an expired one with its key if there is one. `None`: no room.
    pub fn insert(&mut self, flow: Flow) -> Option<u32> {
        let hash = self.hash(&flow.key);
        if let Some(old) = self.find_by_hash(&flow.key, hash) {
            self.remove(old);
        }
        self.insert_vacant(&flow, hash)
    }

    /// Puts a flow in whose key, of this hash, no entry has, expired or not. `None`: no room.
    #[inline(always)]
    pub fn insert_vacant(&mut self, flow: &Flow, hash: u64) -> Option<u32> {
        let slot = self.timers.take()?;
        let entries: &mut [Entry] = &mut self.entries;
        // Slots are mostly taken in order, and a store to a line that is far away holds up those behind it.
        if let Some(coming) = entries.get(slot as usize + AHEAD) {
            prefetch(coming);
        }
        self.changes += 1;
        let (word, bit) = recent(hash);
        self.recent[word] |= bit;
        self.buckets.insert(hash, slot);
        if let Some(entry) = entries.get_mut(slot as usize) {
            entry.begin(flow);
        }
        self.used += 1;
        if flow.state.is_half_open() {
            link_open(entries, &mut self.open_ends, slot);
            self.half_open += 1;
        }
        if flow.key.is_v6()
            && let Some(beyond) = self.beyond.get_mut(slot as usize)
        {
            *beyond = flow.key.beyond;
        }
        self.timers.hasten(slot, self.expiry(flow.state, flow.last));
        Some(slot)
    }

    /// Changes a flow in its place; its key must stay. The timer and the half-open list follow.
    #[inline]
    pub fn update(&mut self, slot: u32, change: impl FnOnce(&mut Flow)) {
        let Some(before) = self.read(slot) else { return };
        let mut after = before;
        change(&mut after);
        let is_moved = (before.state, before.last) != (after.state, after.last);
        if is_moved && before.state.is_half_open() {
            self.unlink_open(slot);
        }
        if let Some(entry) = self.entries.get_mut(slot as usize) {
            entry.set_epoch(after.epoch);
            entry.write(&after);
        }
        if is_moved && after.state.is_half_open() {
            self.link_open(slot);
        }
        // A block may be looked at too early, but never too late.
        let expiry = self.expiry(after.state, after.last);
        if expiry < self.expiry(before.state, before.last) {
            self.timers.hasten(slot, expiry);
        }
    }

    /// Takes a flow out.
    pub fn remove(&mut self, slot: u32) {
        let Some(flow) = self.get(slot) else { return };
        self.remove_hashed(slot, &flow, self.hash(&flow.key));
    }

    fn remove_hashed(&mut self, slot: u32, flow: &Flow, hash: u64) {
        self.changes += 1;
        if flow.state.is_half_open() {
            self.unlink_open(slot);
        }
        self.buckets.remove(hash, slot);
        if let Some(entry) = self.entries.get_mut(slot as usize) {
            *entry = Entry::zeroed();
        }
        self.timers.give_back(slot);
        self.used -= 1;
    }

    /// The least recently used half-open entry.
    pub fn oldest_half_open(&self) -> Option<u32> {
        (self.open_ends[0] != NIL).then_some(self.open_ends[0])
    }

    fn link_open(&mut self, slot: u32) {
        link_open(&mut self.entries, &mut self.open_ends, slot);
        self.half_open += 1;
    }

    fn unlink_open(&mut self, slot: u32) {
        let Some(entry) = self.entries.get_mut(slot as usize) else { return };
        let (&mut previous, &mut next) = entry.links();
        match self.entries.get_mut(previous as usize) {
            Some(entry) => *entry.links().1 = next,
            None => self.open_ends[0] = next,
        }
        match self.entries.get_mut(next as usize) {
            Some(entry) => *entry.links().0 = previous,
            None => self.open_ends[1] = previous,
        }
        self.half_open -= 1;
    }

    /// Reclaims every entry that has expired; returns how many. Cost: nothing while none is due.
    pub fn expire_all(&mut self, now: Now) -> usize {
        self.reclaim(now, |_| false)
    }

    /// Reclaims entries that have expired until there are enough; returns how many. Exact: if there are not enough in the end, no
    /// entry has expired, so that no flow is refused in favour of one that has (GW-24).
    ///
    /// Cost: nothing while none is due, else one block at a time; over time each block is looked at no more often than one of its
    /// flows could have expired. A flood that finds the table full pays for a block once, not once a packet. One call reads the
    /// whole table at most: if all blocks fall due between two packets and every flow in them went on.
    pub fn reclaim(&mut self, now: Now, is_enough: impl Fn(&Table) -> bool) -> usize {
        self.walk(now, &mut Walk::new(usize::MAX), usize::MAX, is_enough)
    }

    /// Reclaims entries that have expired, looking at `budget` of them; returns how many were reclaimed. What a small budget
    /// leaves over counts for the next call.
    #[inline]
    pub fn expire(&mut self, now: Now, budget: usize) -> usize {
        if self.timers.is_quiet(now) {
            self.timers.rest(now);
            return 0;
        }
        self.credit = (self.credit + budget).min(budget.max(BLOCK));
        let blocks = self.credit / BLOCK;
        self.credit %= BLOCK;
        self.walk(now, &mut Walk::new(STEPS_PER_CALL), blocks, |_| false)
    }

    #[inline(never)]
    fn walk(&mut self, now: Now, walk: &mut Walk, blocks: usize, is_enough: impl Fn(&Table) -> bool) -> usize {
        let mut reclaimed = 0;
        if self.timers.is_quiet(now) {
            return 0;
        }
        for _ in 0..blocks {
            if is_enough(self) {
                break;
            }
            let Some(block) = self.timers.next_due(now, walk) else { break };
            let (expired, due) = self.expired_of(block, now);
            reclaimed += expired.count_ones() as usize;
            self.remove_all(block, expired);
            self.timers.put_back(block, due, walk);
        }
        reclaimed
    }

    /// Which flows of a block have expired, one bit for each slot, and the earliest moment at which another one does.
    fn expired_of(&self, block: u32, now: Now) -> (u32, u64) {
        let (mut expired, mut due, first) = (0, u64::MAX, block as usize * BLOCK);
        for (at, entry) in self.entries.iter().skip(first).take(BLOCK).enumerate() {
            let Some(state) = entry.state() else { continue };
            if self.is_expired(entry, now) {
                expired |= 1 << at;
                if entry.is_v6()
                    && let Some(beyond) = self.beyond.get(first + at)
                {
                    prefetch(beyond);
                }
            } else {
                due = due.min(self.expiry(state, Now(entry.last())));
            }
        }
        (expired, due)
    }

    /// Takes flows of a block out, one bit for each slot. Their buckets are fetched together before the first is looked at.
    fn remove_all(&mut self, block: u32, mut slots: u32) {
        let (mut hashes, first, mut left) = ([0; BLOCK], block * BLOCK as u32, slots);
        while left != 0 {
            let at = left.trailing_zeros();
            if let Some(flow) = self.get(first + at) {
                hashes[at as usize % BLOCK] = self.hash(&flow.key);
                self.buckets.view().prefetch(hashes[at as usize % BLOCK]);
            }
            left &= left - 1;
        }
        while slots != 0 {
            let at = slots.trailing_zeros();
            if let Some(flow) = self.get(first + at) {
                self.remove_hashed(first + at, &flow, hashes[at as usize % BLOCK]);
            }
            slots &= slots - 1;
        }
    }

    /// Gives every entry's epoch the number that `renumber` says. Cost: proportional to the capacity.
    pub(super) fn renumber(&mut self, renumber: impl Fn(u16) -> u16) {
        for entry in self.entries.iter_mut() {
            entry.renumber(renumber(entry.epoch()));
        }
    }
}

/// Puts an entry behind the half-open one that was used last.
#[inline]
fn link_open(entries: &mut [Entry], ends: &mut [u32; 2], slot: u32) {
    let newest = std::mem::replace(&mut ends[1], slot);
    if let Some(entry) = entries.get_mut(slot as usize) {
        let (previous, next) = entry.links();
        (*previous, *next) = (newest, NIL);
    }
    match entries.get_mut(newest as usize) {
        Some(entry) => *entry.links().1 = slot,
        None => ends[0] = slot,
    }
}

/// Where a hash stands in the filter of recent ones.
#[inline]
fn recent(hash: u64) -> (usize, u64) {
    ((hash >> 6) as usize % RECENT, 1 << (hash & 63))
}

#[cfg(test)]
mod tests;
