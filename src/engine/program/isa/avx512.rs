//! Operations with AVX-512: sixteen numbers are one vector, and what an instruction takes is a mask.

use super::super::gather;
use super::super::leaf::Leaf;
use super::super::partition::Node;
use super::{Array, Isa, RANKED, WIDTH, avx2, columns};
use crate::base::wide::multiply;
use crate::packet::Key;
use bytemuck::{cast, cast_ref};
use core::arch::x86_64::__m512i;
use pulp::x86::V4;

/// Words of two keys, in quarters: those of both keys for each of the four columns.
const OF_TWO_KEYS: [u32; WIDTH] = [0, 16, 0, 0, 4, 20, 0, 0, 8, 24, 0, 0, 9, 25, 0, 0];

/// The lanes of 16 bits that are a node's edges; those before are its base.
const EDGE_LANES: u32 = !3;

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
        multiply(self, a, by)
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
    fn shift_right_each(self, a: __m512i, bits: __m512i) -> __m512i {
        self.avx512f._mm512_srlv_epi32(a, bits)
    }

    #[inline(always)]
    fn at_least(self, a: __m512i, least: u32) -> u16 {
        self.avx512f._mm512_cmpge_epu32_mask(a, Isa::splat(self, least))
    }

    #[inline(always)]
    fn has_bit(self, a: __m512i, number: __m512i) -> u16 {
        self.avx512f._mm512_test_epi32_mask(a, self.avx512f._mm512_sllv_epi32(Isa::splat(self, 1), number))
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
    fn ranks(self, nodes: &[Node], lows: &[u32], numbers: &mut [u32]) {
        let (numbers, _) = numbers.as_chunks_mut::<RANKED>();
        for (numbers, lows) in numbers.iter_mut().zip(lows.as_chunks::<RANKED>().0) {
            for (number, &low) in numbers.iter_mut().zip(lows) {
                let Some(node) = nodes.get(*number as usize) else { continue };
                let low = Isa::splat(self, low);
                // As one array: of the fields the compiler makes a load each.
                let lanes: &[u64; 8] = cast_ref(node);
                let below = self.avx512bw._mm512_mask_cmplt_epu16_mask(EDGE_LANES, cast(*lanes), low);
                *number = node.base + below.count_ones();
            }
        }
    }

    #[inline(always)]
    fn first_record(self, leaf: &Leaf, packet: u64) -> usize {
        avx2::first_record(self.avx, self.avx2, leaf, packet)
    }

    #[inline(always)]
    fn at_most(self, numbers: &[i64; 8], other: i64) -> u32 {
        u32::from(self.avx512f._mm512_cmple_epi64_mask(cast(*numbers), self.avx512f._mm512_set1_epi64(other)))
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
