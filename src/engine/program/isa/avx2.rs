//! Operations with AVX2: sixteen numbers are two vectors; masks are made of the lanes' highest bits and back, and lanes are packed
//! by an order for each of the 256 masks of eight.

use super::super::gather;
use super::super::leaf::{Leaf, RECORDS};
use super::super::partition::Node;
use super::{Array, Isa, WIDTH, columns};
use crate::packet::Key;
use bytemuck::{cast, cast_ref};
use core::arch::x86_64::__m256i;
use pulp::core_arch::x86::{Avx, Avx2};
use pulp::x86::V3;

/// Numbers of a vector.
const EIGHT: usize = WIDTH / 2;

/// By mask of eight lanes: their numbers, one behind the other.
const PACKED: [[u8; EIGHT]; 256] = {
    let (mut orders, mut mask) = ([[0; EIGHT]; 256], 0);
    while mask < 256 {
        let (mut lane, mut next) = (0, 0);
        while lane < EIGHT {
            if mask >> lane & 1 == 1 {
                orders[mask][next] = lane as u8;
                next += 1;
            }
            lane += 1;
        }
        mask += 1;
    }
    orders
};

/// By mask of eight lanes: which element each of them takes from where they lie one behind the other.
const UNPACKED: [[u8; EIGHT]; 256] = {
    let (mut orders, mut mask) = ([[0; EIGHT]; 256], 0);
    while mask < 256 {
        let (mut lane, mut next) = (0, 0);
        while lane < EIGHT {
            orders[mask][lane] = next;
            next += (mask >> lane & 1) as u8;
            lane += 1;
        }
        mask += 1;
    }
    orders
};

/// The first record of a leaf that holds a packet: lanes that are not above their span are their own minimum with it, and a record
/// holds the packet if all four of its lanes are.
#[inline(always)]
pub(super) fn first_record(avx: Avx, avx2: Avx2, leaf: &Leaf, packet: u64) -> usize {
    let (lows, spans) = (cast(*leaf.lows()), cast(*leaf.spans()));
    let above = avx2._mm256_sub_epi16(avx._mm256_set1_epi64x(packet as i64), lows);
    let holds = avx2._mm256_cmpeq_epi64(avx2._mm256_min_epu16(above, spans), above);
    let records = avx._mm256_movemask_pd(avx._mm256_castsi256_pd(holds)) as u32 & ((1 << RECORDS) - 1);
    (records | 1 << RECORDS).trailing_zeros() as usize
}

/// The highest bit of each lane of eight.
#[inline(always)]
fn mask_of(isa: V3, lanes: __m256i) -> u16 {
    isa.avx._mm256_movemask_ps(isa.avx._mm256_castsi256_ps(lanes)) as u16
}

/// All bits of the lanes that the lowest eight bits of a mask name.
#[inline(always)]
fn lanes_of(isa: V3, mask: u16) -> __m256i {
    let bits: __m256i = cast([1u32, 2, 4, 8, 16, 32, 64, 128]);
    isa.avx2._mm256_cmpeq_epi32(isa.avx2._mm256_and_si256(isa.avx._mm256_set1_epi32(i32::from(mask)), bits), bits)
}

/// An order as a vector.
#[inline(always)]
fn order(isa: V3, of: &[[u8; EIGHT]; 256], mask: u16) -> __m256i {
    let order = u64::from_le_bytes(of[usize::from(mask & 0xff)]);
    isa.avx2._mm256_cvtepu8_epi32(cast([order, 0]))
}

/// The eight elements from a position.
#[inline(always)]
fn eight<T: Copy + Default>(of: &[T; WIDTH], from: usize) -> [T; EIGHT] {
    of[from.min(EIGHT)..].first_chunk().copied().unwrap_or([T::default(); EIGHT])
}

impl Isa for V3 {
    type V = [__m256i; 2];

    #[inline(always)]
    fn load(self, from: &Array) -> Self::V {
        cast(*from)
    }

    #[inline(always)]
    fn store(self, lanes: Self::V) -> Array {
        cast(lanes)
    }

    #[inline(always)]
    fn splat(self, number: u32) -> Self::V {
        [self.avx._mm256_set1_epi32(number as i32); 2]
    }

    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        [self.avx2._mm256_add_epi32(a[0], b[0]), self.avx2._mm256_add_epi32(a[1], b[1])]
    }

    #[inline(always)]
    fn subtract(self, a: Self::V, b: Self::V) -> Self::V {
        [self.avx2._mm256_sub_epi32(a[0], b[0]), self.avx2._mm256_sub_epi32(a[1], b[1])]
    }

    #[inline(always)]
    fn multiply(self, a: Self::V, by: u32) -> Self::V {
        let by = self.avx._mm256_set1_epi32(by as i32);
        [self.avx2._mm256_mullo_epi32(a[0], by), self.avx2._mm256_mullo_epi32(a[1], by)]
    }

    #[inline(always)]
    fn and(self, a: Self::V, b: Self::V) -> Self::V {
        [self.avx2._mm256_and_si256(a[0], b[0]), self.avx2._mm256_and_si256(a[1], b[1])]
    }

    #[inline(always)]
    fn shift_right(self, a: Self::V, bits: u32) -> Self::V {
        let bits = self.sse2._mm_cvtsi32_si128(bits as i32);
        [self.avx2._mm256_srl_epi32(a[0], bits), self.avx2._mm256_srl_epi32(a[1], bits)]
    }

    #[inline(always)]
    fn shift_left(self, a: Self::V, bits: u32) -> Self::V {
        let bits = self.sse2._mm_cvtsi32_si128(bits as i32);
        [self.avx2._mm256_sll_epi32(a[0], bits), self.avx2._mm256_sll_epi32(a[1], bits)]
    }

    #[inline(always)]
    fn shift_right_each(self, a: Self::V, bits: Self::V) -> Self::V {
        [self.avx2._mm256_srlv_epi32(a[0], bits[0]), self.avx2._mm256_srlv_epi32(a[1], bits[1])]
    }

    #[inline(always)]
    fn at_least(self, a: Self::V, least: u32) -> u16 {
        let least = self.avx._mm256_set1_epi32(least as i32);
        let low = self.avx2._mm256_cmpeq_epi32(self.avx2._mm256_max_epu32(a[0], least), a[0]);
        let high = self.avx2._mm256_cmpeq_epi32(self.avx2._mm256_max_epu32(a[1], least), a[1]);
        mask_of(self, low) | mask_of(self, high) << EIGHT
    }

    #[inline(always)]
    fn has_bit(self, a: Self::V, number: Self::V) -> u16 {
        // To the highest place, which is what a mask takes.
        let up = |half: usize| {
            let places = self.avx2._mm256_sub_epi32(self.avx._mm256_set1_epi32(31), number[half]);
            mask_of(self, self.avx2._mm256_sllv_epi32(a[half], places))
        };
        up(0) | up(1) << EIGHT
    }

    #[inline(always)]
    fn select(self, mask: u16, yes: Self::V, no: Self::V) -> Self::V {
        [
            self.avx2._mm256_blendv_epi8(no[0], yes[0], lanes_of(self, mask & 0xff)),
            self.avx2._mm256_blendv_epi8(no[1], yes[1], lanes_of(self, mask >> EIGHT)),
        ]
    }

    #[inline(always)]
    fn words(self, table: &[u32], at: Self::V) -> Self::V {
        [gather::words_of_eight(self, table, at[0]), gather::words_of_eight(self, table, at[1])]
    }

    #[inline(always)]
    fn halves(self, table: &[u16], at: Self::V) -> Self::V {
        [gather::halves_of_eight(self, table, at[0]), gather::halves_of_eight(self, table, at[1])]
    }

    #[inline(always)]
    fn words_where(self, mask: u16, table: &[u32], at: Self::V, no: Self::V) -> Self::V {
        let masks = [lanes_of(self, mask & 0xff), lanes_of(self, mask >> EIGHT)];
        [
            gather::words_of_eight_where(self, masks[0], table, at[0], no[0]),
            gather::words_of_eight_where(self, masks[1], table, at[1], no[1]),
        ]
    }

    #[inline(always)]
    fn pack(self, mask: u16, lanes: Self::V, to: &mut Array) {
        let low = self.avx2._mm256_permutevar8x32_epi32(lanes[0], order(self, &PACKED, mask));
        let high = self.avx2._mm256_permutevar8x32_epi32(lanes[1], order(self, &PACKED, mask >> EIGHT));
        if let Some(to) = to.first_chunk_mut::<EIGHT>() {
            *to = cast(low);
        }
        // At most eight lie before.
        if let Some(to) = to[(mask & 0xff).count_ones() as usize..].first_chunk_mut::<EIGHT>() {
            *to = cast(high);
        }
    }

    #[inline(always)]
    fn unpack(self, mask: u16, from: &Array, no: Self::V) -> Self::V {
        let low: __m256i = cast(eight(from, 0));
        let high: __m256i = cast(eight(from, (mask & 0xff).count_ones() as usize));
        let low = self.avx2._mm256_permutevar8x32_epi32(low, order(self, &UNPACKED, mask));
        let high = self.avx2._mm256_permutevar8x32_epi32(high, order(self, &UNPACKED, mask >> EIGHT));
        Isa::select(self, mask, [low, high], no)
    }

    #[inline(always)]
    fn columns(self, keys: &[Key]) -> [Self::V; 4] {
        cast(columns(keys))
    }

    #[inline(always)]
    fn ranks(self, nodes: &[Node], lows: &[u32], numbers: &mut [u32]) {
        // Signed comparison, so both sides are moved by half the range.
        let half = self.avx._mm256_set1_epi16(i16::MIN);
        for (number, &low) in numbers.iter_mut().zip(lows) {
            let Some(node) = nodes.get(*number as usize) else { continue };
            let low = self.avx2._mm256_xor_si256(self.avx._mm256_set1_epi32(low as i32), half);
            // As one array: of the fields the compiler makes a load each.
            let [a, b]: [__m256i; 2] = cast(*cast_ref::<Node, [u64; 8]>(node));
            let a = self.avx2._mm256_cmpgt_epi16(low, self.avx2._mm256_xor_si256(a, half));
            let b = self.avx2._mm256_cmpgt_epi16(low, self.avx2._mm256_xor_si256(b, half));
            // The two lowest lanes are the node's base.
            let below = self.avx2._mm256_movemask_epi8(self.avx2._mm256_packs_epi16(a, b)) as u32 & !3;
            *number = node.base + below.count_ones();
        }
    }

    #[inline(always)]
    fn first_record(self, leaf: &Leaf, packet: u64) -> usize {
        first_record(self.avx, self.avx2, leaf, packet)
    }

    #[inline(always)]
    fn at_most(self, numbers: &[i64; 8], other: i64) -> u32 {
        let [low, high]: [__m256i; 2] = cast(*numbers);
        let other = self.avx._mm256_set1_epi64x(other);
        let low = self.avx._mm256_castsi256_pd(self.avx2._mm256_cmpgt_epi64(low, other));
        let high = self.avx._mm256_castsi256_pd(self.avx2._mm256_cmpgt_epi64(high, other));
        (self.avx._mm256_movemask_pd(low) | self.avx._mm256_movemask_pd(high) << 4) as u32 ^ 0xff
    }

    #[inline(always)]
    fn interleave(self, low: Self::V, high: Self::V, to: &mut [u64; WIDTH]) {
        for ((to, low), high) in to.as_chunks_mut::<EIGHT>().0.iter_mut().zip(low).zip(high) {
            // The instruction works on halves of 128 bits; these change places behind it.
            let (a, b) = (self.avx2._mm256_unpacklo_epi32(low, high), self.avx2._mm256_unpackhi_epi32(low, high));
            let first = self.avx2._mm256_permute2x128_si256::<0x20>(a, b);
            let second = self.avx2._mm256_permute2x128_si256::<0x31>(a, b);
            *to = cast([first, second]);
        }
    }
}
