//! Sixteen numbers in, sixteen out: the operations of a look-up, for each kind of processor.
//!
//! The kernels ([`super::header`], [`super::split`]) are written once over these operations and compiled for each level; which one
//! runs is chosen once, by what the processor says it can do ([`Level`]). All levels give the same answers. What differs is how
//! loads begin (one instruction for sixteen, or one each), how lanes are packed, and the two comparisons of lines.

use bytemuck::{cast, cast_ref};
use core::arch::x86_64::{__m256i, __m512i};
use core::mem::offset_of;
use pulp::core_arch::x86::{Avx, Avx2};
use pulp::x86::{V3, V4};

use super::gather;
use super::leaf::{Leaf, RECORDS};
use super::partition::Node;
use crate::packet::Key;

/// Numbers that are worked on at once.
pub(super) const WIDTH: usize = 16;

/// The operations. Lanes are unsigned and wrap; a mask has one bit per lane.
pub(super) trait Isa: Copy {
    /// Sixteen numbers.
    type V: Copy;

    fn load(self, from: &[u32; WIDTH]) -> Self::V;
    fn store(self, lanes: Self::V) -> [u32; WIDTH];
    fn splat(self, number: u32) -> Self::V;
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn subtract(self, a: Self::V, b: Self::V) -> Self::V;
    fn multiply(self, a: Self::V, by: u32) -> Self::V;
    fn and(self, a: Self::V, b: Self::V) -> Self::V;
    fn shift_right(self, a: Self::V, bits: u32) -> Self::V;
    fn shift_left(self, a: Self::V, bits: u32) -> Self::V;
    /// Lanes that are at or above a number.
    fn at_least(self, a: Self::V, least: u32) -> u16;
    /// Lanes that have a bit.
    fn has(self, a: Self::V, bit: u32) -> u16;
    /// Lanes of `yes` where the mask has a bit, else of `no`.
    fn select(self, mask: u16, yes: Self::V, no: Self::V) -> Self::V;
    /// Elements of a table; a position behind the end reads some element.
    fn words(self, table: &[u32], at: Self::V) -> Self::V;
    /// The same of a table of 16-bit elements, of which the last is padding.
    fn halves(self, table: &[u16], at: Self::V) -> Self::V;
    /// Elements of a table where the mask has a bit, else the lanes of `no`.
    fn words_where(self, mask: u16, table: &[u32], at: Self::V, no: Self::V) -> Self::V;
    /// Writes the lanes of a mask to the beginning of `to`, one behind the other; what lies behind them there is lost.
    fn pack(self, mask: u16, lanes: Self::V, to: &mut [u32; WIDTH]);
    /// The reverse: the first elements of `from` to the lanes of the mask, the lanes of `no` elsewhere.
    fn unpack(self, mask: u16, from: &[u32; WIDTH], no: Self::V) -> Self::V;

    /// Of up to sixteen keys: the lowest words of source and destination; source port and, above, destination port; protocol, TCP
    /// flags, facts and window scale, from the lowest byte.
    fn columns(self, keys: &[Key]) -> [Self::V; 4];
    /// How many edges of a node lie below.
    fn below(self, node: &Node, low: u16) -> u32;
    /// Of nodes, by their numbers: the base and how many edges lie below, together. What is compared is the lower half of `lows`,
    /// whose upper half is the same again. All slices have the same length.
    fn ranks(self, nodes: &[Node], numbers: &[u32], lows: &[u32], ranks: &mut [u32]);
    /// The first record of a leaf that holds a packet (see [`super::leaf`]); [`RECORDS`] if none does.
    fn first_record(self, leaf: &Leaf, packet: u64) -> usize;
    /// Numbers of 64 bits from their halves.
    fn interleave(self, low: Self::V, high: Self::V, to: &mut [u64; WIDTH]);
}

type Array = [u32; WIDTH];

/// The columns of keys, one by one.
#[inline(always)]
fn columns(keys: &[Key]) -> [Array; 4] {
    let mut columns = [[0; WIDTH]; 4];
    for (i, key) in keys.iter().enumerate().take(WIDTH) {
        columns[0][i] = key.src as u32;
        columns[1][i] = key.dst as u32;
        columns[2][i] = u32::from(key.sport) | u32::from(key.dport) << 16;
        columns[3][i] = u32::from(key.protocol) | u32::from(key.bits.0) << 16;
    }
    columns
}

/// Words of two keys, in quarters: those of both keys for each of the four columns.
const OF_TWO_KEYS: [u32; WIDTH] = [0, 16, 0, 0, 4, 20, 0, 0, 8, 24, 0, 0, 9, 25, 0, 0];

const _: () = {
    assert!(offset_of!(Key, src) == 0 && offset_of!(Key, dst) == 16);
    assert!(offset_of!(Key, sport) == 32 && offset_of!(Key, dport) == 34);
    assert!(offset_of!(Key, protocol) == 36 && offset_of!(Key, bits) == 38);
};

/// The operations that the compiler finds instructions for by itself.
macro_rules! on_arrays {
    () => {
        type V = Array;

        #[inline(always)]
        fn load(self, from: &Array) -> Array {
            *from
        }

        #[inline(always)]
        fn store(self, lanes: Array) -> Array {
            lanes
        }

        #[inline(always)]
        fn splat(self, number: u32) -> Array {
            [number; WIDTH]
        }

        #[inline(always)]
        fn add(self, mut a: Array, b: Array) -> Array {
            a.iter_mut().zip(b).for_each(|(a, b)| *a = a.wrapping_add(b));
            a
        }

        #[inline(always)]
        fn multiply(self, a: Array, by: u32) -> Array {
            a.map(|lane| lane.wrapping_mul(by))
        }

        #[inline(always)]
        fn subtract(self, mut a: Array, b: Array) -> Array {
            a.iter_mut().zip(b).for_each(|(a, b)| *a = a.wrapping_sub(b));
            a
        }

        #[inline(always)]
        fn and(self, mut a: Array, b: Array) -> Array {
            a.iter_mut().zip(b).for_each(|(a, b)| *a &= b);
            a
        }

        #[inline(always)]
        fn shift_right(self, a: Array, bits: u32) -> Array {
            a.map(|lane| lane >> (bits & 31))
        }

        #[inline(always)]
        fn shift_left(self, a: Array, bits: u32) -> Array {
            a.map(|lane| lane << (bits & 31))
        }

        #[inline(always)]
        fn at_least(self, a: Array, least: u32) -> u16 {
            a.iter().enumerate().fold(0, |mask, (i, &lane)| mask | u16::from(lane >= least) << i)
        }

        #[inline(always)]
        fn has(self, a: Array, bit: u32) -> u16 {
            a.iter().enumerate().fold(0, |mask, (i, &lane)| mask | u16::from(lane & bit != 0) << i)
        }

        #[inline(always)]
        fn select(self, mask: u16, yes: Array, mut no: Array) -> Array {
            no.iter_mut()
                .zip(yes)
                .enumerate()
                .for_each(|(i, (no, yes))| *no = if mask >> i & 1 == 1 { yes } else { *no });
            no
        }

        #[inline(always)]
        fn words(self, table: &[u32], at: Array) -> Array {
            at.map(|at| table.get(at as usize).copied().unwrap_or(0))
        }

        #[inline(always)]
        fn halves(self, table: &[u16], at: Array) -> Array {
            at.map(|at| table.get(at as usize).copied().map_or(0, u32::from))
        }

        #[inline(always)]
        fn words_where(self, mask: u16, table: &[u32], at: Array, mut no: Array) -> Array {
            for (i, (no, at)) in no.iter_mut().zip(at).enumerate() {
                if mask >> i & 1 == 1 {
                    *no = table.get(at as usize).copied().unwrap_or(0);
                }
            }
            no
        }

        #[inline(always)]
        fn unpack(self, mask: u16, from: &Array, mut no: Array) -> Array {
            let mut next = 0;
            for (i, no) in no.iter_mut().enumerate() {
                let is_taken = mask >> i & 1 == 1;
                *no = if is_taken { from[next % WIDTH] } else { *no };
                next += usize::from(is_taken);
            }
            no
        }

        #[inline(always)]
        fn columns(self, keys: &[Key]) -> [Array; 4] {
            columns(keys)
        }

        #[inline(always)]
        fn ranks(self, nodes: &[Node], numbers: &[u32], lows: &[u32], ranks: &mut [u32]) {
            for ((rank, &number), &low) in ranks.iter_mut().zip(numbers).zip(lows) {
                let node = nodes.get(number as usize).unwrap_or(&Node::EMPTY);
                *rank = node.base + self.below(node, low as u16);
            }
        }

        #[inline(always)]
        fn interleave(self, low: Array, high: Array, to: &mut [u64; WIDTH]) {
            to.iter_mut().zip(low).zip(high).for_each(|((to, low), high)| *to = u64::from(low) | u64::from(high) << 32);
        }

        #[inline(always)]
        fn pack(self, mask: u16, lanes: Array, to: &mut Array) {
            let mut next = 0;
            for (i, lane) in lanes.into_iter().enumerate() {
                to[next % WIDTH] = lane;
                next += usize::from(mask >> i & 1);
            }
        }
    };
}

/// The lanes of 16 bits that are a node's edges; those before are its base.
const EDGE_LANES: u32 = !3;

/// Any processor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scalar;

impl Isa for Scalar {
    on_arrays!();

    /// Four lanes in one number: their highest bits are kept apart, so that nothing is carried from lane to lane.
    #[inline(always)]
    fn first_record(self, leaf: &Leaf, packet: u64) -> usize {
        const HIGHEST: u64 = 0x8000_8000_8000_8000;
        let mut records = 1u32 << RECORDS;
        for (record, (low, span)) in leaf.lows().iter().zip(leaf.spans()).enumerate().take(RECORDS) {
            let above = ((packet | HIGHEST) - (low & !HIGHEST)) ^ ((packet ^ !low) & HIGHEST);
            let lower_bits = (span | HIGHEST) - (above & !HIGHEST);
            let holds = (span & !above | !(span ^ above) & lower_bits) & HIGHEST == HIGHEST;
            records |= u32::from(holds) << record;
        }
        records.trailing_zeros() as usize
    }

    #[inline(always)]
    fn below(self, node: &Node, low: u16) -> u32 {
        // Signed comparison is what the plainest processor has for lanes, so both sides are moved by half the range.
        let low = (low ^ 1 << 15) as i16;
        let below: i16 = node.edges.iter().map(|&edge| i16::from(((edge ^ 1 << 15) as i16) < low)).sum();
        below as u32
    }
}

/// The first record of a leaf that holds a packet: lanes that are not above their span are their own minimum with it, and a record
/// holds the packet if all four of its lanes are.
#[inline(always)]
fn first_record(avx: Avx, avx2: Avx2, leaf: &Leaf, packet: u64) -> usize {
    let (lows, spans) = (cast(*leaf.lows()), cast(*leaf.spans()));
    let above = avx2._mm256_sub_epi16(avx._mm256_set1_epi64x(packet as i64), lows);
    let holds = avx2._mm256_cmpeq_epi64(avx2._mm256_min_epu16(above, spans), above);
    let records = avx._mm256_movemask_pd(avx._mm256_castsi256_pd(holds)) as u32 & ((1 << RECORDS) - 1);
    (records | 1 << RECORDS).trailing_zeros() as usize
}

impl Isa for V3 {
    on_arrays!();

    #[inline(always)]
    fn first_record(self, leaf: &Leaf, packet: u64) -> usize {
        first_record(self.avx, self.avx2, leaf, packet)
    }

    #[inline(always)]
    fn below(self, node: &Node, low: u16) -> u32 {
        let [a, b]: [__m256i; 2] = cast(*node);
        // Signed comparison, so both sides are moved by half the range.
        let half = self.avx._mm256_set1_epi16(i16::MIN);
        let low = self.avx2._mm256_xor_si256(self.avx._mm256_set1_epi16(low as i16), half);
        let under = |lanes| self.avx2._mm256_cmpgt_epi16(low, self.avx2._mm256_xor_si256(lanes, half));
        let both = self.avx2._mm256_packs_epi16(under(a), under(b));
        // The two lowest lanes are the node's base.
        (self.avx2._mm256_movemask_epi8(both) as u32 & !3).count_ones()
    }
}

impl Isa for V4 {
    type V = __m512i;

    #[inline(always)]
    fn load(self, from: &Array) -> __m512i {
        cast(*from)
    }

    #[inline(always)]
    fn store(self, lanes: __m512i) -> Array {
        cast(lanes)
    }

    #[inline(always)]
    fn splat(self, number: u32) -> __m512i {
        self.avx512f._mm512_set1_epi32(number as i32)
    }

    #[inline(always)]
    fn add(self, a: __m512i, b: __m512i) -> __m512i {
        self.avx512f._mm512_add_epi32(a, b)
    }

    #[inline(always)]
    fn multiply(self, a: __m512i, by: u32) -> __m512i {
        self.avx512f._mm512_mullo_epi32(a, Isa::splat(self, by))
    }

    #[inline(always)]
    fn subtract(self, a: __m512i, b: __m512i) -> __m512i {
        self.avx512f._mm512_sub_epi32(a, b)
    }

    #[inline(always)]
    fn and(self, a: __m512i, b: __m512i) -> __m512i {
        self.avx512f._mm512_and_si512(a, b)
    }

    #[inline(always)]
    fn shift_right(self, a: __m512i, bits: u32) -> __m512i {
        self.avx512f._mm512_srlv_epi32(a, Isa::splat(self, bits))
    }

    #[inline(always)]
    fn shift_left(self, a: __m512i, bits: u32) -> __m512i {
        self.avx512f._mm512_sllv_epi32(a, Isa::splat(self, bits))
    }

    #[inline(always)]
    fn at_least(self, a: __m512i, least: u32) -> u16 {
        self.avx512f._mm512_cmpge_epu32_mask(a, Isa::splat(self, least))
    }

    #[inline(always)]
    fn has(self, a: __m512i, bit: u32) -> u16 {
        self.avx512f._mm512_test_epi32_mask(a, Isa::splat(self, bit))
    }

    #[inline(always)]
    fn select(self, mask: u16, yes: __m512i, no: __m512i) -> __m512i {
        self.avx512f._mm512_mask_blend_epi32(mask, no, yes)
    }

    #[inline(always)]
    fn words(self, table: &[u32], at: __m512i) -> __m512i {
        gather::words(self, table, at)
    }

    #[inline(always)]
    fn halves(self, table: &[u16], at: __m512i) -> __m512i {
        gather::halves(self, table, at)
    }

    #[inline(always)]
    fn pack(self, mask: u16, lanes: __m512i, to: &mut Array) {
        *to = cast(self.avx512f._mm512_maskz_compress_epi32(mask, lanes));
    }

    #[inline(always)]
    fn below(self, node: &Node, low: u16) -> u32 {
        let low = self.avx512f._mm512_set1_epi16(low as i16);
        self.avx512bw._mm512_mask_cmplt_epu16_mask(EDGE_LANES, cast(*node), low).count_ones()
    }

    #[inline(always)]
    fn words_where(self, mask: u16, table: &[u32], at: __m512i, no: __m512i) -> __m512i {
        gather::words_where(self, mask, table, at, no)
    }

    #[inline(always)]
    fn unpack(self, mask: u16, from: &Array, no: __m512i) -> __m512i {
        self.avx512f._mm512_mask_expand_epi32(no, mask, cast(*from))
    }

    /// Each key is a cache line, loaded as one: storing words and loading them as one vector again would wait for the stores.
    #[inline(always)]
    fn columns(self, keys: &[Key]) -> [__m512i; 4] {
        let Some(keys) = keys.first_chunk::<WIDTH>() else { return cast(columns(keys)) };
        let isa = self.avx512f;
        let order: __m512i = cast(OF_TWO_KEYS);
        // Four keys: a quarter is one column. Then quarters change places until a vector is one column.
        let mut quads = [order; 4];
        for (quad, keys) in quads.iter_mut().zip(keys.chunks_exact(4)) {
            let low = isa._mm512_permutex2var_epi32(cast(keys[0]), order, cast(keys[1]));
            let high = isa._mm512_permutex2var_epi32(cast(keys[2]), order, cast(keys[3]));
            *quad = isa._mm512_unpacklo_epi64(low, high);
        }
        let [a, b, c, d] = quads;
        let (ab, cd) = (isa._mm512_shuffle_i32x4::<0x44>(a, b), isa._mm512_shuffle_i32x4::<0x44>(c, d));
        let (src, dst) = (isa._mm512_shuffle_i32x4::<0x88>(ab, cd), isa._mm512_shuffle_i32x4::<0xdd>(ab, cd));
        let (ab, cd) = (isa._mm512_shuffle_i32x4::<0xee>(a, b), isa._mm512_shuffle_i32x4::<0xee>(c, d));
        [src, dst, isa._mm512_shuffle_i32x4::<0x88>(ab, cd), isa._mm512_shuffle_i32x4::<0xdd>(ab, cd)]
    }

    #[inline(always)]
    fn ranks(self, nodes: &[Node], numbers: &[u32], lows: &[u32], ranks: &mut [u32]) {
        for ((rank, &number), &low) in ranks.iter_mut().zip(numbers).zip(lows) {
            let Some(node) = nodes.get(number as usize) else { continue };
            let low = Isa::splat(self, low);
            // As one array: of the fields the compiler makes a load each.
            let lanes: &[u64; 8] = cast_ref(node);
            let below = self.avx512bw._mm512_mask_cmplt_epu16_mask(EDGE_LANES, cast(*lanes), low);
            *rank = node.base + below.count_ones();
        }
    }

    #[inline(always)]
    fn first_record(self, leaf: &Leaf, packet: u64) -> usize {
        first_record(self.avx, self.avx2, leaf, packet)
    }

    #[inline(always)]
    fn interleave(self, low: __m512i, high: __m512i, to: &mut [u64; WIDTH]) {
        let isa = self.avx512f;
        let halves = [isa._mm512_castsi512_si256(low), isa._mm512_extracti64x4_epi64::<1>(low)];
        let highs = [isa._mm512_castsi512_si256(high), isa._mm512_extracti64x4_epi64::<1>(high)];
        for ((to, low), high) in to.as_chunks_mut::<8>().0.iter_mut().zip(halves).zip(highs) {
            let high = isa._mm512_slli_epi64::<32>(isa._mm512_cvtepu32_epi64(high));
            *to = cast(isa._mm512_or_si512(isa._mm512_cvtepu32_epi64(low), high));
        }
    }
}

/// What a processor can do.
#[derive(Clone, Copy, Debug)]
pub enum Level {
    /// Any processor.
    Scalar,
    /// AVX2 and what comes with it.
    Avx2(V3),
    /// AVX-512 with byte and word lanes.
    Avx512(V4),
}

impl Level {
    /// The best of this processor.
    pub fn best() -> Level {
        V4::try_new().map(Level::Avx512).or_else(|| V3::try_new().map(Level::Avx2)).unwrap_or(Level::Scalar)
    }

    /// All of this processor, from the plainest.
    pub fn all() -> Vec<Level> {
        let wider = [V3::try_new().map(Level::Avx2), V4::try_new().map(Level::Avx512)];
        [Some(Level::Scalar)].into_iter().chain(wider).flatten().collect()
    }

    /// Name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Scalar => "scalar",
            Level::Avx2(_) => "avx2",
            Level::Avx512(_) => "avx512",
        }
    }
}
