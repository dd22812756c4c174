//! A keyed hash in, the slots of entries that may have it out: one cache line per bucket.
//!
//! ```text
//!  bucket, 64 bytes:  | displaced | word 1 | word 2 | ... | word 15 |
//!  word, 32 bits:     | tag: upper bits, never 0 | slot: lower bits, as many as the capacity needs |    0 = empty
//! ```
//! A look-up compares the tags of a whole line at once, with what every x86-64 processor has. An entry whose home bucket is full goes to the next one with room; each
//! full bucket that it passed counts it as displaced, so that a look-up goes on only where somebody went on. With ten entries
//! to a line of fifteen, under one in a hundred lives away from home.

use core::arch::x86_64::__m128i;
use std::hint::select_unpredictable;

use bytemuck::{Pod, Zeroable, cast, cast_ref};
use pulp::core_arch::x86::Sse2;

use crate::base::pages::Pages;
use crate::base::prefetch::prefetch;
use crate::base::wide::{Wide, Words};

/// Words of a line, the first of which counts.
const WORDS: usize = 16;
/// Entries per bucket at full capacity.
const LOAD: usize = 10;

/// One bucket.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line {
    words: [u32; WORDS],
}

impl Line {
    /// Bit i: word i, under the mask, is what is wanted. The first word never is.
    #[inline(always)]
    fn matches(&self, mask: u32, wanted: u32) -> u32 {
        let Some(sse2) = Sse2::try_new() else { unreachable!("every x86-64 processor has SSE2") };
        let [a, b, c, d]: [__m128i; 4] = cast(self.words);
        let (mask, wanted) = (sse2._mm_set1_epi32(mask as i32), sse2._mm_set1_epi32(wanted as i32));
        let is_it = |words| sse2._mm_cmpeq_epi32(sse2._mm_and_si128(words, mask), wanted);
        let (low, high) = (sse2._mm_packs_epi32(is_it(a), is_it(b)), sse2._mm_packs_epi32(is_it(c), is_it(d)));
        sse2._mm_movemask_epi8(sse2._mm_packs_epi16(low, high)) as u32 & !1
    }
}

/// The buckets of a table.
#[derive(Clone, Debug)]
pub(super) struct Buckets {
    lines: Pages<Line>,
    /// The bits of a word that are tag.
    tags: u32,
}

impl Buckets {
    /// Empty buckets for this many entries, at most 2^28.
    pub fn new(capacity: usize) -> Buckets {
        let slot_bits = usize::BITS - capacity.saturating_sub(1).leading_zeros();
        Buckets { lines: Pages::zeroed(capacity.div_ceil(LOAD).max(1)), tags: u32::MAX << slot_bits.min(28) }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.lines.bytes()
    }

    /// Takes all memory from the kernel now.
    pub fn populate(&self) {
        self.lines.populate();
    }

    /// Forgets every entry.
    pub fn clear(&mut self) {
        self.lines.fill(Line::zeroed());
    }

    /// The buckets for reading; taken once for a burst.
    #[inline]
    pub fn view(&self) -> View<'_> {
        View { lines: &self.lines, tags: self.tags }
    }

    #[inline]
    fn home(&self, hash: u64) -> usize {
        home(self.lines.len(), hash)
    }

    #[inline]
    fn next(&self, bucket: usize) -> usize {
        if bucket + 1 < self.lines.len() { bucket + 1 } else { 0 }
    }

    /// Puts a slot in. There is room as long as there are no more entries than the capacity.
    #[inline]
    pub fn insert(&mut self, hash: u64, slot: u32) {
        let word = tag(self.tags, hash) | slot;
        let lines: &mut [Line] = &mut self.lines;
        let mut bucket = home(lines.len(), hash);
        for _ in 0..lines.len() {
            let next = if bucket + 1 < lines.len() { bucket + 1 } else { 0 };
            let Some(line) = lines.get_mut(bucket) else { return };
            let empty = line.matches(u32::MAX, 0);
            if empty != 0 {
                line.words[empty.trailing_zeros() as usize % WORDS] = word;
                return;
            }
            line.words[0] += 1;
            bucket = next;
        }
    }

    /// Takes a slot out that was put in with this hash.
    #[inline]
    pub fn remove(&mut self, hash: u64, slot: u32) {
        let word = tag(self.tags, hash) | slot;
        let mut bucket = self.home(hash);
        for _ in 0..self.lines.len() {
            let next = self.next(bucket);
            let Some(line) = self.lines.get_mut(bucket) else { return };
            let found = line.matches(u32::MAX, word);
            if found != 0 {
                line.words[found.trailing_zeros() as usize % WORDS] = 0;
                return;
            }
            line.words[0] = line.words[0].saturating_sub(1);
            bucket = next;
        }
    }
}

/// The bucket of this many that an entry goes to first.
#[inline(always)]
fn home(buckets: usize, hash: u64) -> usize {
    (((hash >> 32) * buckets as u64) >> 32) as usize
}

/// The tag of a word with this hash.
#[inline(always)]
fn tag(tags: u32, hash: u64) -> u32 {
    let tag = hash as u32 & tags;
    if tag == 0 { tags & tags.wrapping_neg() } else { tag }
}

/// Buckets for reading.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    lines: &'a [Line],
    tags: u32,
}

impl View<'_> {
    /// Fetches the home bucket of a hash.
    #[inline(always)]
    pub fn prefetch(&self, hash: u64) {
        if let Some(line) = self.lines.get(home(self.lines.len(), hash)) {
            prefetch(line);
        }
    }

    /// The slot of the first entry with this hash's tag in its home bucket, or else `none`; and whether there may be another one with
    /// this home: in the bucket, or, if there is none in it, elsewhere.
    #[inline(always)]
    pub fn candidate(&self, hash: u64, none: u32) -> (u32, bool) {
        let Some(line) = self.lines.get(home(self.lines.len(), hash)) else { return (none, false) };
        self.chosen(line, line.matches(self.tags, tag(self.tags, hash)), none)
    }

    #[inline(always)]
    fn chosen(&self, line: &Line, found: u32, none: u32) -> (u32, bool) {
        // Without a match 32 bits count as zero: the first word tells whether somebody lives elsewhere.
        let word = line.words[found.trailing_zeros() as usize % WORDS];
        let others = select_unpredictable(found == 0, word, found & found.wrapping_sub(1));
        (select_unpredictable(found == 0, none, word & !self.tags), others != 0)
    }

    /// The home buckets of sixteen hashes, of those in even lanes and those in odd ones.
    #[inline(always)]
    pub fn homes(&self, wide: Wide, [even, odd]: [Words; 2]) -> Words {
        let count = wide.splat_long(self.lines.len() as u64);
        let even = wide.multiply_halves(wide.down_long::<32>(even), count);
        let odd = wide.multiply_halves(wide.down_long::<32>(odd), count);
        wide.upper_halves(even, odd)
    }

    /// The tags of sixteen hashes.
    #[inline(always)]
    pub fn tags(&self, wide: Wide, [even, odd]: [Words; 2]) -> Words {
        let tags = wide.only(wide.lower_halves(even, odd), self.tags);
        wide.select(wide.is(tags, 0), wide.splat(self.tags & self.tags.wrapping_neg()), tags)
    }

    /// Fetches a bucket.
    #[inline(always)]
    pub fn prefetch_at(&self, home: u32) {
        if let Some(line) = self.lines.get(home as usize) {
            prefetch(line);
        }
    }

    /// The same for a tag and a home bucket, by fewer instructions.
    #[inline(always)]
    pub fn candidate_at(&self, wide: Wide, home: u32, tag: u32, none: u32) -> (u32, bool) {
        let Some(line) = self.lines.get(home as usize) else { return (none, false) };
        // By reference: a copy would be written and waited for.
        let words: &Words = cast_ref(line);
        let found = u32::from(wide.is(wide.only(*words, self.tags), tag)) & !1;
        self.chosen(line, found, none)
    }

    /// The first slot with this hash's tag that `is_it` accepts. Cost: one line, and one more for each that was full.
    #[inline]
    pub fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let tag = tag(self.tags, hash);
        let mut bucket = home(self.lines.len(), hash);
        for _ in 0..self.lines.len() {
            let line = self.lines.get(bucket)?;
            let mut found = line.matches(self.tags, tag);
            while found != 0 {
                let slot = line.words[found.trailing_zeros() as usize % WORDS] & !self.tags;
                if is_it(slot) {
                    return Some(slot);
                }
                found &= found - 1;
            }
            if line.words[0] == 0 {
                return None;
            }
            bucket = if bucket + 1 < self.lines.len() { bucket + 1 } else { 0 };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    struct Candidate<'a> {
        wide: Wide,
        view: View<'a>,
        home: u32,
        tag: u32,
    }

    impl crate::base::wide::Kernel for Candidate<'_> {
        type Output = (u32, bool);

        #[inline(always)]
        fn call(self) -> (u32, bool) {
            self.view.candidate_at(self.wide, self.home, self.tag, u32::MAX)
        }
    }

    /// Buckets against a map, with hashes that share homes and tags.
    #[test]
    fn slots_are_found_by_their_hash_until_they_are_taken_out() {
        for capacity in [1usize, 2, 16, 100, 1000] {
            let mut buckets = Buckets::new(capacity);
            let mut held: BTreeMap<u32, u64> = BTreeMap::new();
            let mut dice = 1u64;
            for step in 0..20_000 {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let slot = (dice >> 33) as u32 % capacity as u32;
                // Eight homes and four tags.
                let hash = (dice >> 20 & 7) << 61 | (dice >> 25 & 3) << 29;
                match held.remove(&slot) {
                    Some(old) => buckets.remove(old, slot),
                    None => {
                        buckets.insert(hash, slot);
                        held.insert(slot, hash);
                    }
                }
                if step % 50 == 0 {
                    for slot in 0..capacity as u32 {
                        let hash = held.get(&slot);
                        let found = buckets.view().find(*hash.unwrap_or(&dice), |found| found == slot);
                        assert_eq!(found, hash.map(|_| slot), "capacity {capacity} step {step}");
                        let Some(&hash) = hash else { continue };
                        let (view, none) = (buckets.view(), u32::MAX);
                        let (likely, has_others) = view.candidate(hash, none);
                        assert!(likely != none || has_others, "nobody is only where nobody is anywhere");
                        assert!(likely == none || held.contains_key(&likely));
                        if let Some(wide) = Wide::of_this_processor() {
                            let (home, tag) = (home(view.lines.len(), hash), tag(view.tags, hash));
                            let at_once = wide.run(Candidate { wide, view, home: home as u32, tag });
                            assert_eq!(at_once, (likely, has_others));
                        }
                    }
                }
            }
            for (slot, hash) in held {
                buckets.remove(hash, slot);
            }
            assert!(buckets.lines.iter().all(|line| line.words == [0; WORDS]), "nothing is left, no count either");
        }
    }
}
