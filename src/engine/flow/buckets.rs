//! A keyed hash in, the slots of entries that may have it out: one cache line per bucket.
//!
//! ```text
//!  bucket, 64 bytes:  | displaced | word 1 | word 2 | ... | word 15 |
//!  word, 32 bits:     | tag: upper bits, never 0 | slot: lower bits, as many as the capacity needs |    0 = empty
//! ```
//! A look-up compares the tags of a whole line at once, with what every x86-64 processor has. An entry whose home bucket is full
//! goes to the next one with room; each full bucket that it passed counts it as displaced, so that a look-up goes on only where
//! somebody went on. With ten entries to a line of fifteen, under one in a hundred lives away from home.

use core::arch::x86_64::__m128i;

use bytemuck::{Pod, Zeroable, cast};
use pulp::core_arch::x86::Sse2;

use crate::base::pages::Pages;
use crate::base::prefetch::prefetch;
use crate::base::wide::{Row, Wide};

/// Words of a line, the first of which counts.
const WORDS: usize = 16;
/// Entries per bucket at full capacity.
const LOAD: usize = 10;

/// One bucket.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line {
    words: Row,
}

impl Line {
    /// Bit i: word i, under the mask, is what is wanted. The first word never is.
    #[inline(always)]
    fn matches(&self, mask: u32, wanted: u32) -> u32 {
        let Some(sse2) = Sse2::try_new() else { unreachable!("every x86-64 processor has SSE2") };
        let [a, b, c, d]: [__m128i; 4] = cast(self.words.0);
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
                line.words.0[empty.trailing_zeros() as usize % WORDS] = word;
                return;
            }
            line.words.0[0] += 1;
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
                line.words.0[found.trailing_zeros() as usize % WORDS] = 0;
                return;
            }
            line.words.0[0] = line.words.0[0].saturating_sub(1);
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
    /// The bits of a word that are tag.
    pub tags: u32,
}

impl View<'_> {
    /// Fetches the home bucket of a hash.
    #[inline(always)]
    pub fn prefetch(&self, hash: u64) {
        if let Some(line) = self.lines.get(home(self.lines.len(), hash)) {
            prefetch(line);
        }
    }

    /// Of the home bucket of a hash: the word of the first entry with its tag, or if there is none the number of displaced entries.
    /// 0 is nobody anywhere; [`View::slot`] tells the slot of the entry.
    #[inline(always)]
    pub fn first(&self, hash: u64) -> u32 {
        let Some(line) = self.lines.get(home(self.lines.len(), hash)) else { return 0 };
        // Without a match 32 bits count as zero: the first word.
        line.words.0[line.matches(self.tags, tag(self.tags, hash)).trailing_zeros() as usize % WORDS]
    }

    /// The slot that stands in a word.
    #[inline(always)]
    pub fn slot(&self, word: u32) -> u32 {
        word & !self.tags
    }

    /// The home bucket and the tag of a hash.
    #[inline(always)]
    pub fn place(&self, hash: u64) -> (u32, u32) {
        (home(self.lines.len(), hash) as u32, tag(self.tags, hash))
    }

    /// The home buckets of sixteen hashes, of those in even lanes and those in odd ones.
    #[inline(always)]
    pub fn homes<W: Wide>(&self, wide: W, [even, odd]: [W::Words; 2]) -> W::Words {
        let count = wide.splat_long(self.lines.len() as u64);
        let even = wide.multiply_halves(wide.down_long::<32>(even), count);
        let odd = wide.multiply_halves(wide.down_long::<32>(odd), count);
        wide.upper_halves(even, odd)
    }

    /// The tags of sixteen hashes.
    #[inline(always)]
    pub fn tags<W: Wide>(&self, wide: W, [even, odd]: [W::Words; 2]) -> W::Words {
        let tags = wide.only(wide.lower_halves(even, odd), self.tags);
        wide.select(wide.is(tags, 0), wide.splat(self.tags & self.tags.wrapping_neg()), tags)
    }

    /// The bucket behind another one.
    #[inline(always)]
    pub fn next(&self, bucket: u32) -> u32 {
        if (bucket as usize) + 1 < self.lines.len() { bucket + 1 } else { 0 }
    }

    /// Fetches a bucket.
    #[inline(always)]
    pub fn prefetch_at(&self, home: u32) {
        if let Some(line) = self.lines.get(home as usize) {
            prefetch(line);
        }
    }

    /// As [`View::first`] for a bucket and a tag, by fewer instructions; and one bit for each other entry in the bucket that has the
    /// tag.
    #[inline(always)]
    pub fn first_at<W: Wide>(&self, wide: W, home: u32, tag: u32) -> (u32, u32) {
        let Some(line) = self.lines.get(home as usize) else { return (0, 0) };
        let found = u32::from(wide.matches(&line.words, self.tags, tag)) & !1;
        (line.words.0[found.trailing_zeros() as usize % WORDS], found & found.wrapping_sub(1))
    }

    /// Has all slots with this hash's tag fetched that [`View::find`] would look at.
    #[inline]
    pub fn fetch_all(&self, hash: u64, fetch: impl Fn(u32)) {
        let nobody = self.find(hash, |slot| {
            fetch(slot);
            false
        });
        debug_assert_eq!(nobody, None);
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
                let slot = line.words.0[found.trailing_zeros() as usize % WORDS] & !self.tags;
                if is_it(slot) {
                    return Some(slot);
                }
                found &= found - 1;
            }
            if line.words.0[0] == 0 {
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
    use crate::base::wide::{Kernel, Level};
    use std::collections::BTreeMap;

    struct First<'a> {
        view: View<'a>,
        home: u32,
        tag: u32,
    }

    impl Kernel for First<'_> {
        type Output = (u32, u32);

        #[inline(always)]
        fn call<W: Wide>(self, wide: W) -> (u32, u32) {
            self.view.first_at(wide, self.home, self.tag)
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
                        let view = buckets.view();
                        let (word, (home, tag)) = (view.first(hash), view.place(hash));
                        assert!(word != 0, "nobody is only where nobody is anywhere");
                        assert!(word & view.tags != tag || held.contains_key(&view.slot(word)));
                        for level in Level::all() {
                            let Some((at_once, others)) = level.run(First { view, home, tag }) else { continue };
                            let line = view.lines[home as usize].words.0;
                            let alike = line.iter().skip(1).filter(|&&word| word & view.tags == tag).count();
                            assert_eq!((at_once, others.count_ones() as usize), (word, alike.max(1) - 1));
                        }
                    }
                }
            }
            for (slot, hash) in held {
                buckets.remove(hash, slot);
            }
            assert!(buckets.lines.iter().all(|line| line.words == Row([0; WORDS])), "nothing is left, no count either");
        }
    }
}
