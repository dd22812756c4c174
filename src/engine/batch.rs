//! Bytes of a burst in, columns out: what was parsed, when, and what was decided. Allocated once, used for every burst.

use crate::base::address::Direction;
use crate::base::id::WorkerId;
use crate::base::time::Now;
use crate::base::wide::{LANES, Level};
use crate::engine::decision::{Decision, FlowState, Reason, Stage, Verdict};
use crate::engine::flow::Packets;
use crate::engine::flow::key::mix;
use crate::packet::{Arrival, Arrivals, Columns, Key, KeyBits, Options, Parsed, Rows, Tuple, parse, parse_sixteen};

/// Packets in a full batch.
pub const BATCH: usize = 64;

const UNDECIDED: Decision = Decision::new(Verdict::Deny, Reason::Truncated, Stage::Parse, FlowState::None);

/// The columns of one burst.
#[derive(Debug)]
pub struct Batch {
    pub(super) keys: Box<[Key; BATCH]>,
    pub(super) quotes: Box<[Tuple; BATCH]>,
    pub(super) parsed: Box<[Parsed; BATCH]>,
    pub(super) times: Box<[Now; BATCH]>,
    pub(super) lengths: Box<[u32; BATCH]>,
    pub(super) decisions: Box<[Decision; BATCH]>,
    /// Bit i: packet i has another outcome of parsing than a key.
    pub(super) keyless: u64,
    /// Bit i: the checksum of packet i needs no completion.
    whole: u64,
    /// Bit i: packet i is allowed.
    pub(super) allowed: u64,
    /// The columns of the keys, by sixteen.
    columns: Box<[Columns; BATCH / LANES]>,
    /// Whether the columns are those of all keys.
    has_columns: bool,
    count: usize,
    /// What the processor can do with sixteen packets at once.
    level: Level,
}

impl Default for Batch {
    fn default() -> Batch {
        Batch::new()
    }
}

impl Batch {
    /// An empty batch with room for [`BATCH`] packets.
    pub fn new() -> Batch {
        Batch::at_level(Level::best())
    }

    /// The same for these instructions: what is found and decided does not depend on them.
    pub fn at_level(level: Level) -> Batch {
        Batch {
            keys: Box::new([Key::EMPTY; BATCH]),
            quotes: Box::new([Tuple::default(); BATCH]),
            parsed: Box::new([Parsed::Key; BATCH]),
            times: Box::new([Now(0); BATCH]),
            lengths: Box::new([0; BATCH]),
            decisions: Box::new([UNDECIDED; BATCH]),
            keyless: 0,
            whole: 0,
            allowed: 0,
            columns: Box::new([Columns::EMPTY; BATCH / LANES]),
            has_columns: true,
            count: 0,
            level,
        }
    }

    /// Forgets the packets, keeps the memory.
    #[inline]
    pub fn clear(&mut self) {
        (self.count, self.keyless, self.whole, self.has_columns) = (0, 0, 0, true);
    }

    /// Packets held.
    #[inline]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether [`BATCH`] packets are held.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.count == BATCH
    }

    /// Parses a frame into the next row; returns its position, `None` when the batch is full.
    #[inline(always)]
    pub fn add(&mut self, frame: &[u8], direction: Direction, now: Now, options: &Options) -> Option<usize> {
        let at = self.count;
        let key = self.keys.get_mut(at)?;
        self.parsed[at] = parse(frame, direction, options, key, &mut self.quotes[at]);
        self.keyless |= u64::from(self.parsed[at] != Parsed::Key) << at;
        self.whole |= u64::from(key.has(KeyBits::WHOLE)) << at;
        self.times[at] = now;
        self.lengths[at] = frame.len() as u32;
        self.has_columns = false;
        self.count += 1;
        Some(at)
    }

    /// Parses frames into the next rows, as many as there is room for; the fastest in whole sixteens.
    #[inline]
    pub fn extend(&mut self, frames: &[Arrival<'_>], options: &Options) {
        if self.level.pays_for(self.count + frames.len()) {
            return self.extend_by_sixteen(frames, options);
        }
        for frame in frames {
            self.add(frame.bytes, frame.direction, frame.time, options);
        }
    }

    #[inline(never)]
    fn extend_by_sixteen(&mut self, frames: &[Arrival<'_>], options: &Options) {
        let first = self.count;
        if !first.is_multiple_of(LANES) || frames.len() > BATCH - first {
            for frame in frames {
                self.add(frame.bytes, frame.direction, frame.time, options);
            }
            return;
        }
        let (mut outbound, columns) = (0u64, self.times.iter_mut().zip(self.lengths.iter_mut()).skip(first));
        for (at, ((time, length), frame)) in columns.zip(frames).enumerate() {
            (*time, *length) = (frame.time, frame.bytes.len() as u32);
            outbound |= (frame.direction as u64) << at;
        }
        let level = self.level;
        for (group, frames) in frames.chunks(LANES).enumerate() {
            let at = first + group * LANES;
            let Some((rows, lengths)) = self.rows(at / LANES) else { break };
            let arrivals = Arrivals { frames, lengths, outbound: (outbound >> (group * LANES)) as u16 };
            let found = parse_sixteen(level, arrivals, options, rows);
            self.keyless |= u64::from(found.keyless) << at;
            self.whole |= u64::from(found.whole) << at;
        }
        self.count += frames.len();
    }

    /// Rows of a group of sixteen, and the lengths of its frames.
    #[inline(always)]
    fn rows(&mut self, group: usize) -> Option<(Rows<'_>, &[u32; LANES])> {
        let rows = Rows {
            keys: self.keys.as_chunks_mut().0.get_mut(group)?,
            quotes: self.quotes.as_chunks_mut().0.get_mut(group)?,
            parsed: self.parsed.as_chunks_mut().0.get_mut(group)?,
            columns: self.columns.get_mut(group)?,
        };
        Some((rows, self.lengths.as_chunks().0.get(group)?))
    }

    /// Packets do not count for an earlier moment than the ones before them, and than `now`: time never runs backwards (GW-26).
    #[inline]
    pub(super) fn settle(&mut self, mut now: Now) {
        for time in self.times.iter_mut().take(self.count) {
            now = now.at_least(*time);
            *time = now;
        }
    }

    /// Completes the columns.
    #[inline]
    pub(super) fn complete(&mut self) {
        if !self.has_columns && self.level.pays_for(self.count) {
            self.fill_columns();
        }
    }

    #[inline(never)]
    fn fill_columns(&mut self) {
        for (keys, columns) in self.keys.as_chunks::<LANES>().0.iter().zip(self.columns.iter_mut()) {
            keys.iter().enumerate().for_each(|(lane, key)| columns.set(lane, key));
        }
        self.has_columns = true;
    }

    /// What the flow table looks at. There are no columns if working on sixteen at once does not pay ([`Level::pays_for`]).
    #[inline]
    pub(super) fn packets(&self) -> Packets<'_> {
        let (level, columns) = if self.has_columns && self.level.pays_for(self.count) {
            (self.level, &self.columns[..])
        } else {
            (Level::Scalar, &[][..])
        };
        Packets { level, keys: &self.keys[..], columns, times: &self.times[..], lengths: &self.lengths[..] }
    }

    /// Keeps the rows whose bits are set, in their order, and takes back the others: frames that other workers own.
    pub fn keep(&mut self, positions: u64) {
        let (mut count, mut keyless, mut whole) = (0, 0, 0);
        for at in (0..self.count).filter(|at| positions >> at & 1 == 1) {
            self.keys[count] = self.keys[at];
            self.quotes[count] = self.quotes[at];
            self.parsed[count] = self.parsed[at];
            self.times[count] = self.times[at];
            self.lengths[count] = self.lengths[at];
            keyless |= (self.keyless >> at & 1) << count;
            whole |= (self.whole >> at & 1) << count;
            count += 1;
        }
        self.has_columns = false;
        (self.count, self.keyless, self.whole) = (count, keyless, whole);
    }

    /// The key of a packet.
    #[inline]
    pub fn key(&self, at: usize) -> &Key {
        self.keys.get(at).unwrap_or(&Key::EMPTY)
    }

    /// What the parser said of a packet.
    #[inline]
    pub fn parsed(&self, at: usize) -> Parsed {
        self.parsed.get(at).copied().unwrap_or(Parsed::Key)
    }

    /// The tuple that an ICMP error quotes; meaningful only if the key has [`KeyBits::QUOTE`].
    pub fn quote(&self, at: usize) -> &Tuple {
        &self.quotes[at.min(BATCH - 1)]
    }

    /// The moment a packet counts for; after [`Engine::process`](super::Engine::process) not before that of an earlier one (GW-26).
    #[inline]
    pub fn time(&self, at: usize) -> Now {
        self.times.get(at).copied().unwrap_or_default()
    }

    /// Marks a packet's TCP window as unknown: a packet object without `win`.
    pub fn forget_window(&mut self, at: usize) {
        if let Some(key) = self.keys.get_mut(at) {
            key.bits.0 |= KeyBits::NO_WINDOW;
            self.has_columns = false;
        }
    }

    /// What was decided; means nothing before [`Engine::process`](super::Engine::process).
    #[inline]
    pub fn decision(&self, at: usize) -> Decision {
        self.decisions.get(at).copied().unwrap_or(UNDECIDED)
    }

    /// One bit for each packet: whether it is allowed, and whether its checksum needs no completion (GW-30). The first means nothing
    /// before [`Engine::process`](super::Engine::process).
    #[inline]
    pub fn outcomes(&self) -> (u64, u64) {
        (self.allowed, self.whole)
    }

    /// The worker whose tables hold the state of a packet's flow: a keyed hash of the unordered address pair, so that both
    /// directions, all fragments and ICMP errors about a flow meet. Packets without a key belong to whoever received them.
    #[inline]
    pub fn owner(&self, at: usize, here: WorkerId, workers: u32, seed: [u64; 2]) -> WorkerId {
        if workers <= 1 || self.parsed(at) != Parsed::Key {
            return here;
        }
        let key = self.key(at);
        let (a, b) =
            if key.has(KeyBits::QUOTE) { (self.quote(at).src, self.quote(at).dst) } else { (key.src, key.dst) };
        owner_of(a, b, workers, seed)
    }

    /// One bit for each packet that another worker than `here` owns ([`Batch::owner`]). Cost: three multiplications a packet, and no
    /// branch on one, but for those that quote another.
    #[inline]
    pub fn strangers(&self, here: WorkerId, workers: u32, seed: [u64; 2]) -> u64 {
        if workers <= 1 {
            return 0;
        }
        let (mut strangers, mut quoting) = (0, 0);
        for (at, key) in self.keys.iter().enumerate().take(self.count) {
            strangers |= u64::from(owner_of(key.src, key.dst, workers, seed) != here) << at;
            quoting |= u64::from(key.has(KeyBits::QUOTE)) << at;
        }
        let (mut strangers, mut quoting) = (strangers & !self.keyless, quoting & !self.keyless);
        while quoting != 0 {
            let at = quoting.trailing_zeros();
            let is_one = self.owner(at as usize, here, workers, seed) != here;
            strangers = strangers & !(1 << at) | u64::from(is_one) << at;
            quoting &= quoting - 1;
        }
        strangers
    }
}

/// The worker, of so many, that owns what passes between two addresses in either direction: a keyed hash of the unordered pair.
#[inline]
pub fn owner_of(a: u128, b: u128, workers: u32, seed: [u64; 2]) -> WorkerId {
    let fold = |address: u128| mix((address >> 64) as u64 ^ seed[0], address as u64 ^ seed[1]);
    // A sum does not care for the order of the pair.
    let hash = mix(fold(a).wrapping_add(fold(b)), seed[1]);
    WorkerId(((u128::from(hash) * u128::from(workers)) >> 64) as u32)
}
