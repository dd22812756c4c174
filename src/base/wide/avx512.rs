//! Operations with AVX-512: sixteen words are a vector, and a mask is a register of bits.
//!
//! Multiplications work on half a vector at a time: eight of 512 bits in 20 microseconds are enough for a core of Intel's (Sapphire
//! Rapids) to run a twelfth slower until some time after the last of them, whatever it runs, the kernel's code included. They are
//! among what the Intel 64 and IA-32 Optimization Reference Manual calls heavy, as is counting leading zeros; all else that is used
//! here is light, of any width.

use super::unjoined::unjoined;
use super::{Array, LANES, Layout, Row, Wide};
use bytemuck::cast;
use core::arch::x86_64::{__m128i, __m256i, __m512i};
use pulp::x86::V4;

type Words = __m512i;

/// Exchanges the bytes of each word, or of each half of one.
const REVERSE: [u8; 64] = within_words([3, 2, 1, 0]);
const REVERSE_HALVES: [u8; 64] = within_words([1, 0, 3, 2]);

/// Words of two vectors with even numbers, and with odd ones.
const EVEN: Array = [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30];
const ODD: Array = [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31];

/// Where the words of the first row of [`rows_of_eight`] lie.
const FIRST: [u32; 8] = [0, 1, 2, 3, 8, 9, 10, 11];
/// Where the words of the second row lie.
const SECOND: [u32; 8] = [4, 5, 6, 7, 12, 13, 14, 15];

const fn within_words(order: [u8; 4]) -> [u8; 64] {
    let (mut bytes, mut at) = ([0; 64], 0);
    while at < 64 {
        bytes[at] = (at % 16 / 4 * 4) as u8 + order[at % 4];
        at += 1;
    }
    bytes
}

/// In each quarter by itself: word i of vector j goes to word j of vector i.
#[inline(always)]
fn turn(v4: V4, [a, b, c, d]: [Words; 4]) -> [Words; 4] {
    let isa = v4.avx512f;
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
fn quarters(v4: V4, [a, b, c, d]: [__m128i; 4]) -> Words {
    let isa = v4.avx512f;
    let two = isa._mm512_inserti32x4::<1>(isa._mm512_castsi128_si512(a), b);
    isa._mm512_inserti32x4::<3>(isa._mm512_inserti32x4::<2>(two, c), d)
}

/// Two vectors of one half each as one.
#[inline(always)]
fn halved(v4: V4, a: __m256i, b: __m256i) -> Words {
    v4.avx512f._mm512_inserti64x4::<1>(v4.avx512f._mm512_castsi256_si512(a), b)
}

/// The lower and the upper half of a vector, to be worked on by themselves.
#[inline(always)]
fn halves_of(v4: V4, a: Words) -> [__m256i; 2] {
    [v4.avx512f._mm512_castsi512_si256(a), unjoined(*v4, v4.avx512f._mm512_extracti64x4_epi64::<1>(a))]
}

/// Two halves that were worked on by themselves.
#[inline(always)]
fn whole_of(v4: V4, low: __m256i, high: __m256i) -> Words {
    halved(v4, low, unjoined(*v4, high))
}

/// Products with one number, modulo 2^32.
#[inline(always)]
pub(crate) fn multiply(v4: V4, a: Words, by: u32) -> Words {
    let ([low, high], by) = (halves_of(v4, a), v4.avx._mm256_set1_epi32(by as i32));
    whole_of(v4, v4.avx2._mm256_mullo_epi32(low, by), v4.avx2._mm256_mullo_epi32(high, by))
}

/// The first and third quarters of both, and the second and fourth.
#[inline(always)]
fn apart(v4: V4, low: Words, high: Words) -> [Words; 2] {
    [v4.avx512f._mm512_shuffle_i32x4::<0x88>(low, high), v4.avx512f._mm512_shuffle_i32x4::<0xdd>(low, high)]
}

/// The lower halves of both, and the upper ones.
#[inline(always)]
fn together(v4: V4, a: Words, b: Words) -> [Words; 2] {
    [v4.avx512f._mm512_shuffle_i32x4::<0x44>(a, b), v4.avx512f._mm512_shuffle_i32x4::<0xee>(a, b)]
}

/// Eight columns as rows of eight words, two to a vector: rows 0 and 4, 1 and 5, 2 and 6, 3 and 7, and the same from 8 on. [`FIRST`] and
/// [`SECOND`] tell where the words of the two lie.
#[inline(always)]
fn rows_of_eight(v4: V4, columns: [Words; 8]) -> [Words; 8] {
    let [a, b, c, d, e, f, g, h] = columns;
    let ([a, e], [b, f], [c, g], [d, h]) =
        (together(v4, a, e), together(v4, b, f), together(v4, c, g), together(v4, d, h));
    let ([p, q, r, s], [t, u, v, w]) = (turn(v4, [a, b, c, d]), turn(v4, [e, f, g, h]));
    [p, q, r, s, t, u, v, w]
}

impl Wide for V4 {
    type Words = Words;
    type Mask = u16;

    #[inline(always)]
    fn load(self, from: &Array) -> Words {
        cast(*from)
    }

    #[inline(always)]
    fn store(self, a: Words) -> Array {
        cast(a)
    }

    #[inline(always)]
    fn bits(self, mask: u16) -> u16 {
        mask
    }

    #[inline(always)]
    fn mask(self, bits: u16) -> u16 {
        bits
    }

    #[inline(always)]
    fn both(self, a: u16, b: u16) -> u16 {
        a & b
    }

    #[inline(always)]
    fn either(self, a: u16, b: u16) -> u16 {
        a | b
    }

    #[inline(always)]
    fn without(self, a: u16, b: u16) -> u16 {
        a & !b
    }

    #[inline(always)]
    fn differ(self, a: u16, b: u16) -> u16 {
        a ^ b
    }

    #[inline(always)]
    fn splat(self, number: u32) -> Words {
        self.avx512f._mm512_set1_epi32(number as i32)
    }

    #[inline(always)]
    fn add(self, a: Words, b: Words) -> Words {
        self.avx512f._mm512_add_epi32(a, b)
    }

    #[inline(always)]
    fn subtract(self, a: Words, b: Words) -> Words {
        self.avx512f._mm512_sub_epi32(a, b)
    }

    #[inline(always)]
    fn and(self, a: Words, b: Words) -> Words {
        self.avx512f._mm512_and_si512(a, b)
    }

    #[inline(always)]
    fn or(self, a: Words, b: Words) -> Words {
        self.avx512f._mm512_or_si512(a, b)
    }

    #[inline(always)]
    fn exclusive_or(self, a: Words, b: Words) -> Words {
        self.avx512f._mm512_xor_si512(a, b)
    }

    #[inline(always)]
    fn down<const BITS: u32>(self, a: Words) -> Words {
        self.avx512f._mm512_srli_epi32::<BITS>(a)
    }

    #[inline(always)]
    fn up<const BITS: u32>(self, a: Words) -> Words {
        self.avx512f._mm512_slli_epi32::<BITS>(a)
    }

    #[inline(always)]
    fn down_by(self, a: Words, bits: Words) -> Words {
        self.avx512f._mm512_srlv_epi32(a, bits)
    }

    #[inline(always)]
    fn up_by(self, a: Words, bits: Words) -> Words {
        self.avx512f._mm512_sllv_epi32(a, bits)
    }

    #[inline(always)]
    fn max(self, a: Words, b: Words) -> Words {
        self.avx512f._mm512_max_epu32(a, b)
    }

    #[inline(always)]
    fn exchange(self, a: Words) -> Words {
        self.avx512f._mm512_rol_epi32::<16>(a)
    }

    #[inline(always)]
    fn reverse(self, a: Words) -> Words {
        self.avx512bw._mm512_shuffle_epi8(a, cast(REVERSE))
    }

    #[inline(always)]
    fn reverse_halves(self, a: Words) -> Words {
        self.avx512bw._mm512_shuffle_epi8(a, cast(REVERSE_HALVES))
    }

    #[inline(always)]
    fn look_up(self, table: Words, at: Words) -> Words {
        self.avx512f._mm512_permutexvar_epi32(at, table)
    }

    #[inline(always)]
    fn equal(self, a: Words, b: Words) -> u16 {
        self.avx512f._mm512_cmpeq_epu32_mask(a, b)
    }

    #[inline(always)]
    fn at_most(self, a: Words, b: Words) -> u16 {
        self.avx512f._mm512_cmple_epu32_mask(a, b)
    }

    #[inline(always)]
    fn below(self, a: Words, b: Words) -> u16 {
        self.avx512f._mm512_cmplt_epu32_mask(a, b)
    }

    #[inline(always)]
    fn is_negative(self, a: Words) -> u16 {
        self.avx512dq._mm512_movepi32_mask(a)
    }

    #[inline(always)]
    fn has(self, a: Words, bits: u32) -> u16 {
        self.avx512f._mm512_test_epi32_mask(a, self.splat(bits))
    }

    #[inline(always)]
    fn select(self, mask: u16, yes: Words, no: Words) -> Words {
        self.avx512f._mm512_mask_blend_epi32(mask, no, yes)
    }

    #[inline(always)]
    fn keep(self, mask: u16, a: Words) -> Words {
        self.avx512f._mm512_maskz_mov_epi32(mask, a)
    }

    #[inline(always)]
    fn add_where(self, mask: u16, a: Words, number: u32) -> Words {
        self.avx512f._mm512_mask_add_epi32(a, mask, a, self.splat(number))
    }

    #[inline(always)]
    fn sum(self, mask: u16, a: Words) -> u32 {
        self.avx512f._mm512_mask_reduce_add_epi32(mask, a) as u32
    }

    #[inline(always)]
    fn repeats(self, lanes: u16, a: Words) -> u16 {
        // By lane: a bit for each earlier one that is the same.
        lanes & self.has(self.avx512cd._mm512_conflict_epi32(a), u32::from(lanes))
    }

    #[inline(always)]
    fn matches(self, row: &Row, bits: u32, wanted: u32) -> u16 {
        // By reference: a copy would be written and waited for.
        let words: &Words = bytemuck::cast_ref(row);
        self.is(self.only(*words, bits), wanted)
    }

    #[inline(always)]
    fn splat_long(self, number: u64) -> Words {
        self.avx512f._mm512_set1_epi64(number as i64)
    }

    #[inline(always)]
    fn add_long(self, a: Words, b: Words) -> Words {
        self.avx512f._mm512_add_epi64(a, b)
    }

    #[inline(always)]
    fn down_long<const BITS: u32>(self, a: Words) -> Words {
        self.avx512f._mm512_srli_epi64::<BITS>(a)
    }

    #[inline(always)]
    fn multiply_halves(self, a: Words, b: Words) -> Words {
        let ([a, c], [b, d]) = (halves_of(self, a), halves_of(self, b));
        whole_of(self, self.avx2._mm256_mul_epu32(a, b), self.avx2._mm256_mul_epu32(c, d))
    }

    #[inline(always)]
    fn multiply_long(self, a: Words, by: u64) -> Words {
        let ([low, high], by) = (halves_of(self, a), self.avx._mm256_set1_epi64x(by as i64));
        whole_of(self, self.avx512dq._mm256_mullo_epi64(low, by), self.avx512dq._mm256_mullo_epi64(high, by))
    }

    #[inline(always)]
    fn lower_halves(self, even: Words, odd: Words) -> Words {
        self.select(0xaaaa, self.avx512f._mm512_slli_epi64::<32>(odd), even)
    }

    #[inline(always)]
    fn upper_halves(self, even: Words, odd: Words) -> Words {
        self.select(0xaaaa, odd, self.down_long::<32>(even))
    }

    #[inline(always)]
    fn in_turn(self, [even, odd]: [Words; 2]) -> [u64; LANES] {
        let isa = self.avx512f;
        let low = isa._mm512_permutex2var_epi64(even, cast([0u64, 8, 1, 9, 2, 10, 3, 11]), odd);
        let high = isa._mm512_permutex2var_epi64(even, cast([4u64, 12, 5, 13, 6, 14, 7, 15]), odd);
        cast([low, high])
    }

    #[inline(always)]
    fn split(self, numbers: &[u64; LANES]) -> [Words; 2] {
        let [a, b]: [Words; 2] = cast(*numbers);
        let isa = self.avx512f;
        [isa._mm512_permutex2var_epi32(a, cast(EVEN), b), isa._mm512_permutex2var_epi32(a, cast(ODD), b)]
    }

    #[inline(always)]
    fn ascending(self, numbers: &[u64; LANES]) -> u16 {
        let isa = self.avx512f;
        let [a, b]: [Words; 2] = cast(*numbers);
        let before = [isa._mm512_alignr_epi64::<7>(a, isa._mm512_setzero_si512()), isa._mm512_alignr_epi64::<7>(b, a)];
        let low = isa._mm512_cmple_epu64_mask(before[0], a);
        u16::from(low) | u16::from(isa._mm512_cmple_epu64_mask(before[1], b)) << 8
    }

    #[inline(always)]
    fn columns_of_four(self, row: impl Fn(usize) -> [u32; 4]) -> [Words; 4] {
        let mut vectors = [self.splat(0); 4];
        for (i, vector) in vectors.iter_mut().enumerate() {
            *vector = quarters(self, [cast(row(i)), cast(row(4 + i)), cast(row(8 + i)), cast(row(12 + i))]);
        }
        turn(self, vectors)
    }

    #[inline(always)]
    fn columns_of_eight(self, row: impl Fn(usize) -> [u32; 8]) -> [Words; 8] {
        let mut vectors = [[self.splat(0); 4]; 2];
        for (half, vectors) in vectors.iter_mut().enumerate() {
            for (i, vector) in vectors.iter_mut().enumerate() {
                *vector = halved(self, cast(row(8 * half + i)), cast(row(8 * half + 4 + i)));
            }
        }
        let ([a, b, c, d], [e, f, g, h]) = (turn(self, vectors[0]), turn(self, vectors[1]));
        let ([a, e], [b, f], [c, g], [d, h]) =
            (apart(self, a, e), apart(self, b, f), apart(self, c, g), apart(self, d, h));
        [a, b, c, d, e, f, g, h]
    }

    #[inline(always)]
    fn spread(self, columns: [Words; 8], layout: &Layout, rows: &mut [Array; LANES]) {
        let (mut first, mut second) = ([0; LANES], [0; LANES]);
        for ((first, second), from) in first.iter_mut().zip(&mut second).zip(layout.from) {
            (*first, *second) = (FIRST[from as usize % 8], SECOND[from as usize % 8]);
        }
        let (first, second, rest): (Words, Words, Words) = (cast(first), cast(second), cast(layout.rest));
        for (pair, row) in rows_of_eight(self, columns).into_iter().enumerate() {
            let at = pair / 4 * 8 + pair % 4;
            rows[at] = cast(self.avx512f._mm512_mask_permutexvar_epi32(rest, layout.written, first, row));
            rows[at + 4] = cast(self.avx512f._mm512_mask_permutexvar_epi32(rest, layout.written, second, row));
        }
    }

    #[inline(always)]
    fn rows_of_sixteen(self, [low, high]: [[Words; 8]; 2]) -> [Words; LANES] {
        let (low, high) = (rows_of_eight(self, low), rows_of_eight(self, high));
        let mut rows = [self.splat(0); LANES];
        for (pair, (low, high)) in low.into_iter().zip(high).enumerate() {
            let at = pair / 4 * 8 + pair % 4;
            [rows[at], rows[at + 4]] = apart(self, low, high);
        }
        rows
    }
}
