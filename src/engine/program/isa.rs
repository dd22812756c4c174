//! Sixteen numbers in, sixteen out: the operations of a look-up, for each kind of processor.
//!
//! The kernels ([`super::header`], [`super::split`]) are written once over these operations and compiled for each level; which one
//! runs is chosen once, by what the processor says it can do ([`Level`]). All levels give the same answers. What differs is how
//! loads begin (one instruction for sixteen, or one each), how lanes are packed, and the two comparisons of lines.

use bytemuck::cast;
use core::arch::x86_64::{__m256i, __m512i};
use pulp::x86::{V3, V4};

use super::gather;
use super::partition::Node;

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
    /// Lanes of `a` that are above those of `b`.
    fn above(self, a: Self::V, b: Self::V) -> u16;
    /// Lanes of `yes` where the mask has a bit, else of `no`.
    fn select(self, mask: u16, yes: Self::V, no: Self::V) -> Self::V;
    /// Elements of a table; a position behind the end reads some element.
    fn words(self, table: &[u32], at: Self::V) -> Self::V;
    /// The same of a table of 16-bit elements, of which the last is padding.
    fn halves(self, table: &[u16], at: Self::V) -> Self::V;
    /// Writes the lanes of a mask to the beginning of `to`, one behind the other; what lies behind them there is lost.
    fn pack(self, mask: u16, lanes: Self::V, to: &mut [u32; WIDTH]);

    /// How many edges of a node lie below.
    fn below(self, node: &Node, low: u16) -> u32;
}

type Array = [u32; WIDTH];

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
        fn above(self, a: Array, b: Array) -> u16 {
            a.iter().zip(b).enumerate().fold(0, |mask, (i, (&a, b))| mask | u16::from(a > b) << i)
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
        fn pack(self, mask: u16, lanes: Array, to: &mut Array) {
            let mut next = 0;
            for (i, lane) in lanes.into_iter().enumerate() {
                to[next % WIDTH] = lane;
                next += usize::from(mask >> i & 1);
            }
        }
    };
}

/// Any processor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scalar;

impl Isa for Scalar {
    on_arrays!();

    #[inline(always)]
    fn below(self, node: &Node, low: u16) -> u32 {
        // Signed comparison is what the plainest processor has for lanes, so both sides are moved by half the range.
        let low = (low ^ 1 << 15) as i16;
        let below: i16 = node.0.iter().map(|&edge| i16::from(((edge ^ 1 << 15) as i16) < low)).sum();
        below as u32
    }
}

impl Isa for V3 {
    on_arrays!();

    #[inline(always)]
    fn below(self, node: &Node, low: u16) -> u32 {
        let [a, b]: [__m256i; 2] = cast(*node);
        // Signed comparison, so both sides are moved by half the range.
        let half = self.avx._mm256_set1_epi16(i16::MIN);
        let low = self.avx2._mm256_xor_si256(self.avx._mm256_set1_epi16(low as i16), half);
        let under = |lanes| self.avx2._mm256_cmpgt_epi16(low, self.avx2._mm256_xor_si256(lanes, half));
        let both = self.avx2._mm256_packs_epi16(under(a), under(b));
        (self.avx2._mm256_movemask_epi8(both) as u32).count_ones()
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
    fn above(self, a: __m512i, b: __m512i) -> u16 {
        self.avx512f._mm512_cmpgt_epu32_mask(a, b)
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
        self.avx512bw._mm512_cmplt_epu16_mask(cast(*node), low).count_ones()
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
