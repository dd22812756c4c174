//! Sixteen words in, sixteen words out: what kernels over the packets of a burst are made of, for processors with AVX-512.
//!
//! A kernel takes sixteen records as columns, one vector per field and one lane per packet, so that an instruction works on
//! sixteen packets; nothing in it branches on a packet. Here are the operations, and the way from rows in memory to columns and back.

use bytemuck::cast;
use core::arch::x86_64::{__m128i, __m256i, __m512i};
pub use pulp::NullaryFnOnce as Kernel;
use pulp::x86::V4;

/// Words that are worked on at once.
pub const LANES: usize = 16;

/// Sixteen words of 32 bits.
pub type Words = __m512i;

/// The instructions, which this processor has.
#[derive(Clone, Copy, Debug)]
pub struct Wide(V4);

/// Exchanges the bytes of each word, or of each half of one.
const REVERSE: [u8; 64] = within_words([3, 2, 1, 0]);
const REVERSE_HALVES: [u8; 64] = within_words([1, 0, 3, 2]);

const fn within_words(order: [u8; 4]) -> [u8; 64] {
    let (mut bytes, mut at) = ([0; 64], 0);
    while at < 64 {
        bytes[at] = (at % 16 / 4 * 4) as u8 + order[at % 4];
        at += 1;
    }
    bytes
}

impl Wide {
    /// The instructions, if this processor has them. Cost: one load.
    #[inline(always)]
    pub fn of_this_processor() -> Option<Wide> {
        V4::try_new().map(Wide)
    }

    /// Runs a kernel, which is compiled for these instructions if all that it calls is `#[inline(always)]`.
    #[inline(always)]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        self.0.vectorize(kernel)
    }

    /// The same number in all lanes.
    #[inline(always)]
    pub fn splat(self, number: u32) -> Words {
        self.0.avx512f._mm512_set1_epi32(number as i32)
    }

    /// Sum, modulo 2^32.
    #[inline(always)]
    pub fn add(self, a: Words, b: Words) -> Words {
        self.0.avx512f._mm512_add_epi32(a, b)
    }

    /// Difference, modulo 2^32.
    #[inline(always)]
    pub fn subtract(self, a: Words, b: Words) -> Words {
        self.0.avx512f._mm512_sub_epi32(a, b)
    }

    /// Bits of both.
    #[inline(always)]
    pub fn and(self, a: Words, b: Words) -> Words {
        self.0.avx512f._mm512_and_si512(a, b)
    }

    /// Bits of either.
    #[inline(always)]
    pub fn or(self, a: Words, b: Words) -> Words {
        self.0.avx512f._mm512_or_si512(a, b)
    }

    /// Bits that are in a number, too.
    #[inline(always)]
    pub fn only(self, a: Words, bits: u32) -> Words {
        self.and(a, self.splat(bits))
    }

    /// Moves the bits of each lane down.
    #[inline(always)]
    pub fn down<const BITS: u32>(self, a: Words) -> Words {
        self.0.avx512f._mm512_srli_epi32::<BITS>(a)
    }

    /// Moves the bits of each lane up.
    #[inline(always)]
    pub fn up<const BITS: u32>(self, a: Words) -> Words {
        self.0.avx512f._mm512_slli_epi32::<BITS>(a)
    }

    /// Lanes that hold a number.
    #[inline(always)]
    pub fn is(self, a: Words, number: u32) -> u16 {
        self.equal(a, self.splat(number))
    }

    /// Lanes that are the same.
    #[inline(always)]
    pub fn equal(self, a: Words, b: Words) -> u16 {
        self.0.avx512f._mm512_cmpeq_epu32_mask(a, b)
    }

    /// Lanes of `a` that are at most those of `b`, without sign.
    #[inline(always)]
    pub fn at_most(self, a: Words, b: Words) -> u16 {
        self.0.avx512f._mm512_cmple_epu32_mask(a, b)
    }

    /// Lanes that have any of these bits.
    #[inline(always)]
    pub fn has(self, a: Words, bits: u32) -> u16 {
        self.0.avx512f._mm512_test_epi32_mask(a, self.splat(bits))
    }

    /// Lanes of `yes` where the mask has a bit, else of `no`.
    #[inline(always)]
    pub fn select(self, mask: u16, yes: Words, no: Words) -> Words {
        self.0.avx512f._mm512_mask_blend_epi32(mask, no, yes)
    }

    /// The lanes of a mask, 0 elsewhere.
    #[inline(always)]
    pub fn keep(self, mask: u16, a: Words) -> Words {
        self.0.avx512f._mm512_maskz_mov_epi32(mask, a)
    }

    /// Sum of the two halves of each lane.
    #[inline(always)]
    pub fn halves(self, a: Words) -> Words {
        self.add(self.only(a, 0xffff), self.down::<16>(a))
    }

    /// From network order, or into it.
    #[inline(always)]
    pub fn reverse(self, a: Words) -> Words {
        self.0.avx512bw._mm512_shuffle_epi8(a, cast(REVERSE))
    }

    /// The same for the two halves of each lane.
    #[inline(always)]
    pub fn reverse_halves(self, a: Words) -> Words {
        self.0.avx512bw._mm512_shuffle_epi8(a, cast(REVERSE_HALVES))
    }

    /// The words of a row at these positions where the mask has a bit, else those of `no`.
    #[inline(always)]
    pub fn place(self, mask: u16, row: Words, positions: Words, no: Words) -> Words {
        self.0.avx512f._mm512_mask_permutexvar_epi32(no, mask, positions, row)
    }

    /// In each quarter by itself: word i of vector j goes to word j of vector i.
    #[inline(always)]
    fn turn(self, [a, b, c, d]: [Words; 4]) -> [Words; 4] {
        let isa = self.0.avx512f;
        let (p, q) = (isa._mm512_unpacklo_epi32(a, b), isa._mm512_unpacklo_epi32(c, d));
        let (r, s) = (isa._mm512_unpackhi_epi32(a, b), isa._mm512_unpackhi_epi32(c, d));
        [
            isa._mm512_unpacklo_epi64(p, q),
            isa._mm512_unpackhi_epi64(p, q),
            isa._mm512_unpacklo_epi64(r, s),
            isa._mm512_unpackhi_epi64(r, s),
        ]
    }

    /// Sixteen rows of four words as four columns.
    #[inline(always)]
    pub fn columns_of_four(self, row: impl Fn(usize) -> __m128i) -> [Words; 4] {
        let isa = self.0.avx512f;
        let quarters = |i: usize| {
            let two = isa._mm512_inserti32x4::<1>(isa._mm512_castsi128_si512(row(i)), row(4 + i));
            isa._mm512_inserti32x4::<3>(isa._mm512_inserti32x4::<2>(two, row(8 + i)), row(12 + i))
        };
        self.turn([quarters(0), quarters(1), quarters(2), quarters(3)])
    }

    /// Sixteen rows of eight words as eight columns.
    #[inline(always)]
    pub fn columns_of_eight(self, row: impl Fn(usize) -> __m256i) -> [Words; 8] {
        let isa = self.0.avx512f;
        let halves = |i: usize| isa._mm512_inserti64x4::<1>(isa._mm512_castsi256_si512(row(i)), row(4 + i));
        let [a, b, c, d] = self.turn([halves(0), halves(1), halves(2), halves(3)]);
        let [e, f, g, h] = self.turn([halves(8), halves(9), halves(10), halves(11)]);
        let even = |low, high| isa._mm512_shuffle_i32x4::<0x88>(low, high);
        let odd = |low, high| isa._mm512_shuffle_i32x4::<0xdd>(low, high);
        [even(a, e), even(b, f), even(c, g), even(d, h), odd(a, e), odd(b, f), odd(c, g), odd(d, h)]
    }

    /// Eight columns as rows of eight words, two to a vector: rows 0 and 4, 1 and 5, 2 and 6, 3 and 7, and the same from 8 on.
    /// [`Wide::FIRST`] and [`Wide::SECOND`] tell where the words of the two lie.
    #[inline(always)]
    pub fn rows_of_eight(self, columns: [Words; 8]) -> [Words; 8] {
        let isa = self.0.avx512f;
        let [a, b, c, d, e, f, g, h] = columns;
        let low = |x, y| isa._mm512_shuffle_i32x4::<0x44>(x, y);
        let high = |x, y| isa._mm512_shuffle_i32x4::<0xee>(x, y);
        let [p, q, r, s] = self.turn([low(a, e), low(b, f), low(c, g), low(d, h)]);
        let [t, u, v, w] = self.turn([high(a, e), high(b, f), high(c, g), high(d, h)]);
        [p, q, r, s, t, u, v, w]
    }

    /// Where the words of the first row of [`Wide::rows_of_eight`] lie.
    pub const FIRST: [u32; 8] = [0, 1, 2, 3, 8, 9, 10, 11];
    /// Where the words of the second row lie.
    pub const SECOND: [u32; 8] = [4, 5, 6, 7, 12, 13, 14, 15];
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Word `w` of row `r` is `100 r + w`.
    fn row<const N: usize>(r: usize) -> [u32; N] {
        std::array::from_fn(|w| (100 * r + w) as u32)
    }

    struct Turns(Wide);

    impl Kernel for Turns {
        type Output = ([Words; 4], [Words; 8], [Words; 8]);

        #[inline(always)]
        fn call(self) -> Self::Output {
            let eight = self.0.columns_of_eight(|r| cast(row::<8>(r)));
            (self.0.columns_of_four(|r| cast(row::<4>(r))), eight, self.0.rows_of_eight(eight))
        }
    }

    #[test]
    fn rows_become_columns_and_columns_rows() {
        let Some(wide) = Wide::of_this_processor() else {
            eprintln!("skipped: this processor has no AVX-512");
            return;
        };
        let (four, eight, rows) = wide.run(Turns(wide));
        let column = |w: usize| -> [u32; LANES] { std::array::from_fn(|r| (100 * r + w) as u32) };
        for (w, words) in four.into_iter().enumerate() {
            assert_eq!(cast::<Words, [u32; LANES]>(words), column(w));
        }
        for (w, words) in eight.into_iter().enumerate() {
            assert_eq!(cast::<Words, [u32; LANES]>(words), column(w));
        }
        for (pair, words) in rows.into_iter().enumerate() {
            let words: [u32; LANES] = cast(words);
            let first = pair / 4 * 8 + pair % 4;
            assert_eq!(Wide::FIRST.map(|at| words[at as usize]), row(first));
            assert_eq!(Wide::SECOND.map(|at| words[at as usize]), row(first + 4));
        }
    }
}
