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

/// Words of two vectors with even numbers, and with odd ones.
const EVEN: [u32; LANES] = [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30];
const ODD: [u32; LANES] = [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31];

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

    /// Runs a kernel, which is compiled for these instructions if all that it calls is `#[inline(always)]`. What calls back, as `map`
    /// of an array does, is not: its closure must not hold an operation.
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

    /// Numbers of 64 bits, the same in all lanes.
    #[inline(always)]
    pub fn splat_long(self, number: u64) -> Words {
        self.0.avx512f._mm512_set1_epi64(number as i64)
    }

    /// Sum of numbers of 64 bits, modulo 2^64.
    #[inline(always)]
    pub fn add_long(self, a: Words, b: Words) -> Words {
        self.0.avx512f._mm512_add_epi64(a, b)
    }

    /// Moves the bits of numbers of 64 bits down.
    #[inline(always)]
    pub fn down_long<const BITS: u32>(self, a: Words) -> Words {
        self.0.avx512f._mm512_srli_epi64::<BITS>(a)
    }

    /// Product of the lower halves of numbers of 64 bits.
    #[inline(always)]
    pub fn multiply_halves(self, a: Words, b: Words) -> Words {
        self.0.avx512f._mm512_mul_epu32(a, b)
    }

    /// Product of numbers of 64 bits, modulo 2^64.
    #[inline(always)]
    pub fn multiply_long(self, a: Words, b: Words) -> Words {
        self.0.avx512dq._mm512_mullo_epi64(a, b)
    }

    /// The lower halves of the numbers of 64 bits of two vectors in turn: those of `even` in even lanes.
    #[inline(always)]
    pub fn lower_halves(self, even: Words, odd: Words) -> Words {
        self.select(0xaaaa, self.0.avx512f._mm512_slli_epi64::<32>(odd), even)
    }

    /// The same with the upper halves.
    #[inline(always)]
    pub fn upper_halves(self, even: Words, odd: Words) -> Words {
        self.select(0xaaaa, odd, self.down_long::<32>(even))
    }

    /// Sixteen numbers of 64 bits of which one vector has the even ones and another the odd ones.
    #[inline(always)]
    pub fn in_turn(self, [even, odd]: [Words; 2]) -> [u64; LANES] {
        let isa = self.0.avx512f;
        let low = isa._mm512_permutex2var_epi64(even, cast([0u64, 8, 1, 9, 2, 10, 3, 11]), odd);
        let high = isa._mm512_permutex2var_epi64(even, cast([4u64, 12, 5, 13, 6, 14, 7, 15]), odd);
        cast([low, high])
    }

    /// Bits of one or the other.
    #[inline(always)]
    pub fn exclusive_or(self, a: Words, b: Words) -> Words {
        self.0.avx512f._mm512_xor_si512(a, b)
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

    /// Lanes of `a` that are below those of `b`, without sign.
    #[inline(always)]
    pub fn below(self, a: Words, b: Words) -> u16 {
        self.0.avx512f._mm512_cmplt_epu32_mask(a, b)
    }

    /// Lanes whose highest bit is set.
    #[inline(always)]
    pub fn is_negative(self, a: Words) -> u16 {
        self.0.avx512dq._mm512_movepi32_mask(a)
    }

    /// The larger of each two, without sign.
    #[inline(always)]
    pub fn max(self, a: Words, b: Words) -> Words {
        self.0.avx512f._mm512_max_epu32(a, b)
    }

    /// Adds a number to the lanes of a mask.
    #[inline(always)]
    pub fn add_where(self, mask: u16, a: Words, number: u32) -> Words {
        self.0.avx512f._mm512_mask_add_epi32(a, mask, a, self.splat(number))
    }

    /// Moves the bits of each lane down by what another says.
    #[inline(always)]
    pub fn down_by(self, a: Words, bits: Words) -> Words {
        self.0.avx512f._mm512_srlv_epi32(a, bits)
    }

    /// Moves the bits of each lane up by what another says.
    #[inline(always)]
    pub fn up_by(self, a: Words, bits: Words) -> Words {
        self.0.avx512f._mm512_sllv_epi32(a, bits)
    }

    /// Exchanges the halves of each lane.
    #[inline(always)]
    pub fn exchange(self, a: Words) -> Words {
        self.0.avx512f._mm512_rol_epi32::<16>(a)
    }

    /// Elements of a table of sixteen, of which the lowest four bits of each lane tell the number.
    #[inline(always)]
    pub fn look_up(self, table: Words, at: Words) -> Words {
        self.0.avx512f._mm512_permutexvar_epi32(at, table)
    }

    /// By lane: a bit for each earlier lane that is the same.
    #[inline(always)]
    pub fn doubles(self, a: Words) -> Words {
        self.0.avx512cd._mm512_conflict_epi32(a)
    }

    /// The sum of the lanes of a mask, modulo 2^32.
    #[inline(always)]
    pub fn sum(self, mask: u16, a: Words) -> u32 {
        self.0.avx512f._mm512_mask_reduce_add_epi32(mask, a) as u32
    }

    /// Sixteen numbers of 64 bits as their lower and their upper halves.
    #[inline(always)]
    pub fn split(self, numbers: [u64; LANES]) -> [Words; 2] {
        let [a, b]: [Words; 2] = cast(numbers);
        let isa = self.0.avx512f;
        [isa._mm512_permutex2var_epi32(a, cast(EVEN), b), isa._mm512_permutex2var_epi32(a, cast(ODD), b)]
    }

    /// Which of sixteen numbers are not below the one before; the first is not.
    #[inline(always)]
    pub fn ascending(self, numbers: [u64; LANES]) -> u16 {
        let isa = self.0.avx512f;
        let [a, b]: [Words; 2] = cast(numbers);
        let before = [isa._mm512_alignr_epi64::<7>(a, isa._mm512_setzero_si512()), isa._mm512_alignr_epi64::<7>(b, a)];
        let low = isa._mm512_cmple_epu64_mask(before[0], a);
        u16::from(low) | u16::from(isa._mm512_cmple_epu64_mask(before[1], b)) << 8
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

    /// Four vectors of one quarter each as one.
    #[inline(always)]
    fn quarters(self, [a, b, c, d]: [__m128i; 4]) -> Words {
        let isa = self.0.avx512f;
        let two = isa._mm512_inserti32x4::<1>(isa._mm512_castsi128_si512(a), b);
        isa._mm512_inserti32x4::<3>(isa._mm512_inserti32x4::<2>(two, c), d)
    }

    /// Two vectors of one half each as one.
    #[inline(always)]
    fn halved(self, a: __m256i, b: __m256i) -> Words {
        self.0.avx512f._mm512_inserti64x4::<1>(self.0.avx512f._mm512_castsi256_si512(a), b)
    }

    /// The first and third quarters of both, and the second and fourth.
    #[inline(always)]
    fn apart(self, low: Words, high: Words) -> [Words; 2] {
        let isa = self.0.avx512f;
        [isa._mm512_shuffle_i32x4::<0x88>(low, high), isa._mm512_shuffle_i32x4::<0xdd>(low, high)]
    }

    /// The lower halves of both, and the upper ones.
    #[inline(always)]
    fn together(self, a: Words, b: Words) -> [Words; 2] {
        let isa = self.0.avx512f;
        [isa._mm512_shuffle_i32x4::<0x44>(a, b), isa._mm512_shuffle_i32x4::<0xee>(a, b)]
    }

    /// Sixteen rows of four words as four columns.
    #[inline(always)]
    pub fn columns_of_four(self, row: impl Fn(usize) -> __m128i) -> [Words; 4] {
        let mut vectors = [self.splat(0); 4];
        for (i, vector) in vectors.iter_mut().enumerate() {
            *vector = self.quarters([row(i), row(4 + i), row(8 + i), row(12 + i)]);
        }
        self.turn(vectors)
    }

    /// Sixteen rows of eight words as eight columns.
    #[inline(always)]
    pub fn columns_of_eight(self, row: impl Fn(usize) -> __m256i) -> [Words; 8] {
        let mut vectors = [[self.splat(0); 4]; 2];
        for (half, vectors) in vectors.iter_mut().enumerate() {
            for (i, vector) in vectors.iter_mut().enumerate() {
                *vector = self.halved(row(8 * half + i), row(8 * half + 4 + i));
            }
        }
        let ([a, b, c, d], [e, f, g, h]) = (self.turn(vectors[0]), self.turn(vectors[1]));
        let ([a, e], [b, f], [c, g], [d, h]) = (self.apart(a, e), self.apart(b, f), self.apart(c, g), self.apart(d, h));
        [a, b, c, d, e, f, g, h]
    }

    /// Eight columns as rows of eight words, two to a vector: rows 0 and 4, 1 and 5, 2 and 6, 3 and 7, and the same from 8 on.
    /// [`Wide::FIRST`] and [`Wide::SECOND`] tell where the words of the two lie.
    #[inline(always)]
    pub fn rows_of_eight(self, columns: [Words; 8]) -> [Words; 8] {
        let [a, b, c, d, e, f, g, h] = columns;
        let ([a, e], [b, f], [c, g], [d, h]) =
            (self.together(a, e), self.together(b, f), self.together(c, g), self.together(d, h));
        let ([p, q, r, s], [t, u, v, w]) = (self.turn([a, b, c, d]), self.turn([e, f, g, h]));
        [p, q, r, s, t, u, v, w]
    }

    /// Sixteen columns, in two halves, as rows.
    #[inline(always)]
    pub fn rows_of_sixteen(self, halves: [[Words; 8]; 2]) -> [Words; LANES] {
        let [low, high] = halves;
        let (low, high) = (self.rows_of_eight(low), self.rows_of_eight(high));
        let mut rows = [self.splat(0); LANES];
        for (pair, (low, high)) in low.into_iter().zip(high).enumerate() {
            let at = pair / 4 * 8 + pair % 4;
            [rows[at], rows[at + 4]] = self.apart(low, high);
        }
        rows
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
        type Output = ([Words; 4], [Words; 8], [Words; 8], [Words; LANES]);

        #[inline(always)]
        fn call(self) -> Self::Output {
            let four = self.0.columns_of_four(|r| cast(row::<4>(r)));
            let eight = self.0.columns_of_eight(|r| cast(row::<8>(r)));
            let rest = self.0.columns_of_eight(|r| cast(row::<8>(r).map(|word| word + 8)));
            (four, eight, self.0.rows_of_eight(eight), self.0.rows_of_sixteen([eight, rest]))
        }
    }

    struct Numbers(Wide, [u64; LANES]);

    impl Kernel for Numbers {
        type Output = ([Words; 2], u16);

        #[inline(always)]
        fn call(self) -> Self::Output {
            (self.0.split(self.1), self.0.ascending(self.1))
        }
    }

    #[test]
    fn numbers_of_64_bits_are_split_and_compared_with_those_before() {
        let Some(wide) = Wide::of_this_processor() else {
            eprintln!("skipped: this processor has no AVX-512");
            return;
        };
        let numbers: [u64; LANES] = std::array::from_fn(|i| (i as u64) << 33 | (100 - i as u64));
        let numbers = numbers.map(|n| if n >> 33 == 5 || n >> 33 == 8 { n - (3 << 33) } else { n });
        let (split, ascending) = wide.run(Numbers(wide, numbers));
        assert_eq!(
            split.map(cast::<Words, [u32; LANES]>),
            [numbers.map(|n| n as u32), numbers.map(|n| (n >> 32) as u32)]
        );
        assert_eq!(ascending, !(1 << 5 | 1 << 8));
    }

    #[test]
    fn rows_become_columns_and_columns_rows() {
        let Some(wide) = Wide::of_this_processor() else {
            eprintln!("skipped: this processor has no AVX-512");
            return;
        };
        let (four, eight, rows, whole) = wide.run(Turns(wide));
        let column = |w: usize| -> [u32; LANES] { std::array::from_fn(|r| (100 * r + w) as u32) };
        for (w, words) in four.into_iter().enumerate() {
            assert_eq!(cast::<Words, [u32; LANES]>(words), column(w));
        }
        for (r, words) in whole.into_iter().enumerate() {
            assert_eq!(cast::<Words, [u32; LANES]>(words), row(r));
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
