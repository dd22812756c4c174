//! Bytes of a burst in, columns out: what was parsed, when, and what was decided. Allocated once, used for every burst.

use crate::base::address::Direction;
use crate::base::id::WorkerId;
use crate::base::time::Now;
use crate::base::wide::LANES;
use crate::engine::decision::{Decision, FlowState, Reason, Stage, Verdict};
use crate::engine::flow::key::mix;
use crate::packet::{Arrival, Key, KeyBits, Options, Parsed, Rows, Tuple, parse, parse_sixteen};

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
    count: usize,
}

impl Default for Batch {
    fn default() -> Batch {
        Batch::new()
    }
}

impl Batch {
    /// An empty batch with room for [`BATCH`] packets.
    pub fn new() -> Batch {
        Batch {
            keys: Box::new([Key::EMPTY; BATCH]),
            quotes: Box::new([Tuple::default(); BATCH]),
            parsed: Box::new([Parsed::Key; BATCH]),
            times: Box::new([Now(0); BATCH]),
            lengths: Box::new([0; BATCH]),
            decisions: Box::new([UNDECIDED; BATCH]),
            keyless: 0,
            count: 0,
        }
    }

    /// Forgets the packets, keeps the memory.
    #[inline]
    pub fn clear(&mut self) {
        (self.count, self.keyless) = (0, 0);
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
        self.times[at] = now;
        self.lengths[at] = frame.len() as u32;
        self.count += 1;
        Some(at)
    }

    /// Parses frames into the next rows, as many as there is room for; the fastest in whole sixteens.
    #[inline]
    pub fn extend(&mut self, frames: &[Arrival<'_>], options: &Options) {
        for frames in frames.chunks(LANES) {
            let at = self.count;
            let rows = (self.keys.get_mut(at..), self.quotes.get_mut(at..), self.parsed.get_mut(at..));
            let rows = match rows {
                (Some(keys), Some(quotes), Some(parsed)) => {
                    keys.first_chunk_mut().zip(quotes.first_chunk_mut()).zip(parsed.first_chunk_mut())
                }
                _ => None,
            };
            let Some(((keys, quotes), parsed)) = rows else {
                for frame in frames {
                    self.add(frame.bytes, frame.direction, frame.time, options);
                }
                continue;
            };
            self.keyless |= u64::from(parse_sixteen(frames, options, Rows { keys, quotes, parsed })) << at;
            let columns = self.times.iter_mut().zip(self.lengths.iter_mut()).skip(at);
            for ((time, length), frame) in columns.zip(frames) {
                (*time, *length) = (frame.time, frame.bytes.len() as u32);
            }
            self.count += frames.len();
        }
    }

    /// Keeps the rows whose bits are set, in their order, and takes back the others: frames that other workers own.
    pub fn keep(&mut self, positions: u64) {
        let (mut count, mut keyless) = (0, 0);
        for at in (0..self.count).filter(|at| positions >> at & 1 == 1) {
            self.keys[count] = self.keys[at];
            self.quotes[count] = self.quotes[at];
            self.parsed[count] = self.parsed[at];
            self.times[count] = self.times[at];
            self.lengths[count] = self.lengths[at];
            keyless |= (self.keyless >> at & 1) << count;
            count += 1;
        }
        (self.count, self.keyless) = (count, keyless);
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

    /// The moment a packet counts for.
    #[inline]
    pub fn time(&self, at: usize) -> Now {
        self.times.get(at).copied().unwrap_or_default()
    }

    /// Marks a packet's TCP window as unknown: a packet object without `win`.
    pub fn forget_window(&mut self, at: usize) {
        if let Some(key) = self.keys.get_mut(at) {
            key.bits.0 |= KeyBits::NO_WINDOW;
        }
    }

    /// What was decided; means nothing before [`Engine::process`](super::Engine::process).
    #[inline]
    pub fn decision(&self, at: usize) -> Decision {
        self.decisions.get(at).copied().unwrap_or(UNDECIDED)
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
}

/// The worker, of so many, that owns what passes between two addresses in either direction: a keyed hash of the unordered pair.
#[inline]
pub fn owner_of(a: u128, b: u128, workers: u32, seed: [u64; 2]) -> WorkerId {
    let fold = |address: u128| mix((address >> 64) as u64 ^ seed[0], address as u64 ^ seed[1]);
    // A sum does not care for the order of the pair.
    let hash = mix(fold(a).wrapping_add(fold(b)), seed[1]);
    WorkerId(((u128::from(hash) * u128::from(workers)) >> 64) as u32)
}
