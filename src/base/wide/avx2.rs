//! Operations with AVX2: sixteen words are two vectors of eight, and a mask is all bits of its lanes.

use super::{Array, LANES, Layout, Row, Wide};
use bytemuck::cast;
use core::arch::x86_64::{__m128i, __m256i};
use pulp::x86::V3;

/// Words of a vector.
const EIGHT: usize = LANES / 2;

type Words = [__m256i; 2];

/// Exchanges the bytes of each word, or of each half of one, or the halves.
const REVERSE: [u8; 32] = within_words([3, 2, 1, 0]);
const REVERSE_HALVES: [u8; 32] = within_words([1, 0, 3, 2]);
const EXCHANGE: [u8; 32] = within_words([2, 3, 0, 1]);

const fn within_words(order: [u8; 4]) -> [u8; 32] {
    let (mut bytes, mut at) = ([0; 32], 0);
    while at < 32 {
        bytes[at] = (at % 16 / 4 * 4) as u8 + order[at % 4];
        at += 1;
    }
    bytes
}

/// The same on both vectors. No function: a closure would not be inlined for sure, and what it calls neither.
macro_rules! each {
    ($($name:ident),+ => $one:expr) => {
        [{ $(let $name = $name[0];)+ $one }, { $(let $name = $name[1];)+ $one }]
    };
}

#[inline(always)]
fn set(v3: V3, number: u32) -> __m256i {
    v3.avx._mm256_set1_epi32(number as i32)
}

/// Lanes of `a` that are at most those of `b`: they are their own minimum.
#[inline(always)]
fn at_most(v3: V3, a: __m256i, b: __m256i) -> __m256i {
    v3.avx2._mm256_cmpeq_epi32(v3.avx2._mm256_min_epu32(a, b), a)
}

#[inline(always)]
fn not(v3: V3, a: __m256i) -> __m256i {
    v3.avx2._mm256_xor_si256(a, set(v3, u32::MAX))
}

/// In each half by itself: word i of vector j goes to word j of vector i.
#[inline(always)]
fn turn(v3: V3, [a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
    let isa = v3.avx2;
    let (p, q) = (isa._mm256_unpacklo_epi32(a, b), isa._mm256_unpacklo_epi32(c, d));
    let (r, s) = (isa._mm256_unpackhi_epi32(a, b), isa._mm256_unpackhi_epi32(c, d));
    [
        isa._mm256_unpacklo_epi64(p, q),
        isa._mm256_unpackhi_epi64(p, q),
        isa._mm256_unpacklo_epi64(r, s),
        isa._mm256_unpackhi_epi64(r, s),
    ]
}

/// Two vectors of one half each as one.
#[inline(always)]
fn halved(v3: V3, a: [u32; 4], b: [u32; 4]) -> __m256i {
    let (a, b): (__m128i, __m128i) = (cast(a), cast(b));
    v3.avx2._mm256_inserti128_si256::<1>(v3.avx._mm256_castsi128_si256(a), b)
}

/// The lower halves of both, and the upper ones.
#[inline(always)]
fn together(v3: V3, a: __m256i, b: __m256i) -> [__m256i; 2] {
    [v3.avx2._mm256_permute2x128_si256::<0x20>(a, b), v3.avx2._mm256_permute2x128_si256::<0x31>(a, b)]
}

/// The highest bit of each lane.
#[inline(always)]
fn highest(v3: V3, a: __m256i) -> u16 {
    v3.avx._mm256_movemask_ps(v3.avx._mm256_castsi256_ps(a)) as u16
}

/// Lanes whose bit is among these.
#[inline(always)]
fn named(v3: V3, bits: __m256i, lanes: [u32; EIGHT]) -> __m256i {
    let lanes = cast(lanes);
    v3.avx2._mm256_cmpeq_epi32(v3.avx2._mm256_and_si256(bits, lanes), lanes)
}

/// Each lane goes one down, the first to the end.
#[inline(always)]
fn turned(v3: V3, a: __m256i) -> __m256i {
    v3.avx2._mm256_permutevar8x32_epi32(a, cast([1u32, 2, 3, 4, 5, 6, 7, 0]))
}

/// Eight numbers of 64 bits as their lower and their upper halves.
#[inline(always)]
fn split(v3: V3, a: __m256i, b: __m256i) -> [__m256i; 2] {
    let (a, b) = (v3.avx._mm256_castsi256_ps(a), v3.avx._mm256_castsi256_ps(b));
    let low = v3.avx._mm256_castps_si256(v3.avx._mm256_shuffle_ps::<0x88>(a, b));
    let high = v3.avx._mm256_castps_si256(v3.avx._mm256_shuffle_ps::<0xdd>(a, b));
    // The instruction works on halves of 128 bits; pairs of words change places behind it.
    [v3.avx2._mm256_permute4x64_epi64::<0xd8>(low), v3.avx2._mm256_permute4x64_epi64::<0xd8>(high)]
}

/// The reverse for numbers: those of the one in even places, those of the other one in odd places.
#[inline(always)]
fn alternating(v3: V3, even: __m256i, odd: __m256i) -> [__m256i; 2] {
    together(v3, v3.avx2._mm256_unpacklo_epi64(even, odd), v3.avx2._mm256_unpackhi_epi64(even, odd))
}

/// Eight columns as rows of eight words: the first eight rows, and the others.
#[inline(always)]
fn rows_of_eight(v3: V3, columns: [Words; 8]) -> [[__m256i; 8]; 2] {
    let [[a, i], [b, j], [c, k], [d, l], [e, m], [f, n], [g, o], [h, p]] = columns;
    [transposed(v3, [a, b, c, d, e, f, g, h]), transposed(v3, [i, j, k, l, m, n, o, p])]
}

/// Eight columns of eight words as rows.
#[inline(always)]
fn transposed(v3: V3, [a, b, c, d, e, f, g, h]: [__m256i; 8]) -> [__m256i; 8] {
    let ([a, b, c, d], [e, f, g, h]) = (turn(v3, [a, b, c, d]), turn(v3, [e, f, g, h]));
    let ([a, e], [b, f], [c, g], [d, h]) =
        (together(v3, a, e), together(v3, b, f), together(v3, c, g), together(v3, d, h));
    [a, b, c, d, e, f, g, h]
}

impl Wide for V3 {
    type Words = Words;
    type Mask = Words;

    #[inline(always)]
    fn load(self, from: &Array) -> Words {
        cast(*from)
    }

    #[inline(always)]
    fn store(self, a: Words) -> Array {
        cast(a)
    }

    #[inline(always)]
    fn bits(self, mask: Words) -> u16 {
        highest(self, mask[0]) | highest(self, mask[1]) << EIGHT
    }

    #[inline(always)]
    fn mask(self, bits: u16) -> Words {
        let bits = set(self, u32::from(bits));
        [
            named(self, bits, [1, 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5, 1 << 6, 1 << 7]),
            named(self, bits, [1 << 8, 1 << 9, 1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15]),
        ]
    }

    #[inline(always)]
    fn both(self, a: Words, b: Words) -> Words {
        self.and(a, b)
    }

    #[inline(always)]
    fn either(self, a: Words, b: Words) -> Words {
        self.or(a, b)
    }

    #[inline(always)]
    fn without(self, a: Words, b: Words) -> Words {
        each!(a, b => self.avx2._mm256_andnot_si256(b, a))
    }

    #[inline(always)]
    fn differ(self, a: Words, b: Words) -> Words {
        self.exclusive_or(a, b)
    }

    #[inline(always)]
    fn splat(self, number: u32) -> Words {
        [set(self, number); 2]
    }

    #[inline(always)]
    fn add(self, a: Words, b: Words) -> Words {
        each!(a, b => self.avx2._mm256_add_epi32(a, b))
    }

    #[inline(always)]
    fn subtract(self, a: Words, b: Words) -> Words {
        each!(a, b => self.avx2._mm256_sub_epi32(a, b))
    }

    #[inline(always)]
    fn and(self, a: Words, b: Words) -> Words {
        each!(a, b => self.avx2._mm256_and_si256(a, b))
    }

    #[inline(always)]
    fn or(self, a: Words, b: Words) -> Words {
        each!(a, b => self.avx2._mm256_or_si256(a, b))
    }

    #[inline(always)]
    fn exclusive_or(self, a: Words, b: Words) -> Words {
        each!(a, b => self.avx2._mm256_xor_si256(a, b))
    }

    #[inline(always)]
    fn down<const BITS: u32>(self, a: Words) -> Words {
        let bits = self.sse2._mm_cvtsi32_si128(BITS as i32);
        each!(a => self.avx2._mm256_srl_epi32(a, bits))
    }

    #[inline(always)]
    fn up<const BITS: u32>(self, a: Words) -> Words {
        let bits = self.sse2._mm_cvtsi32_si128(BITS as i32);
        each!(a => self.avx2._mm256_sll_epi32(a, bits))
    }

    #[inline(always)]
    fn down_by(self, a: Words, bits: Words) -> Words {
        each!(a, bits => self.avx2._mm256_srlv_epi32(a, bits))
    }

    #[inline(always)]
    fn up_by(self, a: Words, bits: Words) -> Words {
        each!(a, bits => self.avx2._mm256_sllv_epi32(a, bits))
    }

    #[inline(always)]
    fn max(self, a: Words, b: Words) -> Words {
        each!(a, b => self.avx2._mm256_max_epu32(a, b))
    }

    #[inline(always)]
    fn exchange(self, a: Words) -> Words {
        each!(a => self.avx2._mm256_shuffle_epi8(a, cast(EXCHANGE)))
    }

    #[inline(always)]
    fn reverse(self, a: Words) -> Words {
        each!(a => self.avx2._mm256_shuffle_epi8(a, cast(REVERSE)))
    }

    #[inline(always)]
    fn reverse_halves(self, a: Words) -> Words {
        each!(a => self.avx2._mm256_shuffle_epi8(a, cast(REVERSE_HALVES)))
    }

    #[inline(always)]
    fn look_up(self, table: Words, at: Words) -> Words {
        // The fourth bit, brought to the highest place, says which of the two.
        each!(at => {
            let low = self.avx._mm256_castsi256_ps(self.avx2._mm256_permutevar8x32_epi32(table[0], at));
            let high = self.avx._mm256_castsi256_ps(self.avx2._mm256_permutevar8x32_epi32(table[1], at));
            let is_high = self.avx._mm256_castsi256_ps(self.avx2._mm256_slli_epi32::<28>(at));
            self.avx._mm256_castps_si256(self.avx._mm256_blendv_ps(low, high, is_high))
        })
    }

    #[inline(always)]
    fn equal(self, a: Words, b: Words) -> Words {
        each!(a, b => self.avx2._mm256_cmpeq_epi32(a, b))
    }

    #[inline(always)]
    fn at_most(self, a: Words, b: Words) -> Words {
        each!(a, b => at_most(self, a, b))
    }

    #[inline(always)]
    fn below(self, a: Words, b: Words) -> Words {
        each!(a, b => not(self, at_most(self, b, a)))
    }

    #[inline(always)]
    fn is_negative(self, a: Words) -> Words {
        each!(a => self.avx2._mm256_srai_epi32::<31>(a))
    }

    #[inline(always)]
    fn has(self, a: Words, bits: u32) -> Words {
        let none = self.avx._mm256_setzero_si256();
        let bits = set(self, bits);
        each!(a => not(self, self.avx2._mm256_cmpeq_epi32(self.avx2._mm256_and_si256(a, bits), none)))
    }

    #[inline(always)]
    fn select(self, mask: Words, yes: Words, no: Words) -> Words {
        [self.avx2._mm256_blendv_epi8(no[0], yes[0], mask[0]), self.avx2._mm256_blendv_epi8(no[1], yes[1], mask[1])]
    }

    #[inline(always)]
    fn keep(self, mask: Words, a: Words) -> Words {
        self.and(mask, a)
    }

    #[inline(always)]
    fn add_where(self, mask: Words, a: Words, number: u32) -> Words {
        self.add(a, self.keep(mask, self.splat(number)))
    }

    #[inline(always)]
    fn sum(self, mask: Words, a: Words) -> u32 {
        let [low, high] = self.keep(mask, a);
        let words: [u32; EIGHT] = cast(self.avx2._mm256_add_epi32(low, high));
        words.into_iter().fold(0, u32::wrapping_add)
    }

    #[inline(always)]
    fn repeats(self, lanes: u16, a: Words) -> u16 {
        let [low, high] = a;
        // Each pair of lanes once; mostly none is the same.
        let ([mut low_turned, mut high_turned], mut across) = (a, high);
        let mut any = self.avx2._mm256_cmpeq_epi32(low, high);
        for turn in 1..EIGHT {
            across = turned(self, across);
            any = self.avx2._mm256_or_si256(any, self.avx2._mm256_cmpeq_epi32(low, across));
            if turn <= EIGHT / 2 {
                (low_turned, high_turned) = (turned(self, low_turned), turned(self, high_turned));
                any = self.avx2._mm256_or_si256(any, self.avx2._mm256_cmpeq_epi32(low, low_turned));
                any = self.avx2._mm256_or_si256(any, self.avx2._mm256_cmpeq_epi32(high, high_turned));
            }
        }
        if self.avx2._mm256_movemask_epi8(any) == 0 {
            return 0;
        }
        let (words, mut found): (Array, u16) = (cast(a), 0);
        for (lane, word) in words.into_iter().enumerate() {
            let earlier = self.bits(self.equal(a, self.splat(word))) & lanes & !(u16::MAX << lane);
            found |= u16::from(earlier != 0) << lane;
        }
        found & lanes
    }

    #[inline(always)]
    fn matches(self, row: &Row, bits: u32, wanted: u32) -> u16 {
        // By reference: a copy would be written and waited for.
        let words: &Words = bytemuck::cast_ref(row);
        self.bits(self.equal(self.only(*words, bits), self.splat(wanted)))
    }

    #[inline(always)]
    fn splat_long(self, number: u64) -> Words {
        [self.avx._mm256_set1_epi64x(number as i64); 2]
    }

    #[inline(always)]
    fn add_long(self, a: Words, b: Words) -> Words {
        each!(a, b => self.avx2._mm256_add_epi64(a, b))
    }

    #[inline(always)]
    fn down_long<const BITS: u32>(self, a: Words) -> Words {
        let bits = self.sse2._mm_cvtsi32_si128(BITS as i32);
        each!(a => self.avx2._mm256_srl_epi64(a, bits))
    }

    #[inline(always)]
    fn multiply_halves(self, a: Words, b: Words) -> Words {
        each!(a, b => self.avx2._mm256_mul_epu32(a, b))
    }

    #[inline(always)]
    fn multiply_long(self, a: Words, by: u64) -> Words {
        let (low, high) = (self.splat_long(by & 0xffff_ffff), self.splat_long(by >> 32));
        // The product of the upper halves lies beyond.
        let across = self.add_long(self.multiply_halves(self.down_long::<32>(a), low), self.multiply_halves(a, high));
        let across = each!(across => self.avx2._mm256_slli_epi64::<32>(across));
        self.add_long(self.multiply_halves(a, low), across)
    }

    #[inline(always)]
    fn lower_halves(self, even: Words, odd: Words) -> Words {
        each!(even, odd => {
            self.avx2._mm256_blend_epi32::<0xaa>(even, self.avx2._mm256_slli_epi64::<32>(odd))
        })
    }

    #[inline(always)]
    fn upper_halves(self, even: Words, odd: Words) -> Words {
        each!(even, odd => {
            self.avx2._mm256_blend_epi32::<0xaa>(self.avx2._mm256_srli_epi64::<32>(even), odd)
        })
    }

    #[inline(always)]
    fn in_turn(self, [even, odd]: [Words; 2]) -> [u64; LANES] {
        cast([alternating(self, even[0], odd[0]), alternating(self, even[1], odd[1])])
    }

    #[inline(always)]
    fn split(self, numbers: &[u64; LANES]) -> [Words; 2] {
        let [a, b, c, d]: [__m256i; 4] = cast(*numbers);
        let ([low, high], [later_low, later_high]) = (split(self, a, b), split(self, c, d));
        [[low, later_low], [high, later_high]]
    }

    #[inline(always)]
    fn ascending(self, numbers: &[u64; LANES]) -> u16 {
        let (avx2, four): (_, [__m256i; 4]) = (self.avx2, cast(*numbers));
        // Comparisons are of signed numbers: the highest bit is turned.
        let sign = self.avx._mm256_set1_epi64x(i64::MIN);
        let (mut last, mut descending) = (sign, 0);
        for (i, here) in four.into_iter().enumerate() {
            let here = avx2._mm256_xor_si256(here, sign);
            let turned = avx2._mm256_permute4x64_epi64::<0b10_01_00_11>(here);
            let before = avx2._mm256_blend_epi32::<0b11>(turned, avx2._mm256_permute4x64_epi64::<3>(last));
            let is_less = self.avx._mm256_castsi256_pd(avx2._mm256_cmpgt_epi64(before, here));
            descending |= (self.avx._mm256_movemask_pd(is_less) as u16) << (4 * i);
            last = here;
        }
        !descending
    }

    #[inline(always)]
    fn columns_of_four(self, row: impl Fn(usize) -> [u32; 4]) -> [Words; 4] {
        let low = [
            halved(self, row(0), row(4)),
            halved(self, row(1), row(5)),
            halved(self, row(2), row(6)),
            halved(self, row(3), row(7)),
        ];
        let high = [
            halved(self, row(8), row(12)),
            halved(self, row(9), row(13)),
            halved(self, row(10), row(14)),
            halved(self, row(11), row(15)),
        ];
        let ([a, b, c, d], [e, f, g, h]) = (turn(self, low), turn(self, high));
        [[a, e], [b, f], [c, g], [d, h]]
    }

    #[inline(always)]
    fn columns_of_eight(self, row: impl Fn(usize) -> [u32; 8]) -> [Words; 8] {
        let part = |i: usize, which: usize| -> [u32; 4] {
            let parts: [[u32; 4]; 2] = cast(row(i));
            parts[which]
        };
        let (low, high) = (self.columns_of_four(|i| part(i, 0)), self.columns_of_four(|i| part(i, 1)));
        let ([a, b, c, d], [e, f, g, h]) = (low, high);
        [a, b, c, d, e, f, g, h]
    }

    #[inline(always)]
    fn spread(self, columns: [Words; 8], layout: &Layout, rows: &mut [Array; LANES]) {
        let [from, rest]: [Words; 2] = [cast(layout.from), cast(layout.rest)];
        let written = self.mask(layout.written);
        let [low, high] = rows_of_eight(self, columns);
        let (first, second) = rows.split_at_mut(EIGHT);
        for (to, row) in first.iter_mut().zip(&low) {
            *to = cast(self.select(written, each!(from => self.avx2._mm256_permutevar8x32_epi32(*row, from)), rest));
        }
        for (to, row) in second.iter_mut().zip(&high) {
            *to = cast(self.select(written, each!(from => self.avx2._mm256_permutevar8x32_epi32(*row, from)), rest));
        }
    }

    #[inline(always)]
    fn rows_of_sixteen(self, [first, second]: [[Words; 8]; 2]) -> [Words; LANES] {
        let ([a, c], [b, d]) = (rows_of_eight(self, first), rows_of_eight(self, second));
        let mut rows = [self.splat(0); LANES];
        let (low, high) = rows.split_at_mut(EIGHT);
        for ((row, a), b) in low.iter_mut().zip(&a).zip(&b) {
            *row = [*a, *b];
        }
        for ((row, c), d) in high.iter_mut().zip(&c).zip(&d) {
            *row = [*c, *d];
        }
        rows
    }
}
