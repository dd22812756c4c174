//! Sixteen words in, sixteen words out: what kernels over the packets of a burst are made of, for processors with AVX-512 or AVX2.
//!
//! A kernel takes sixteen records as columns, one vector per field and one lane per packet, so that an instruction works on
//! sixteen packets, or on eight; nothing in it branches on a packet. Here are the operations, and the way from rows in memory to
//! columns and back. A kernel is written once over them and compiled for each level; all levels give the same.

mod avx2;
mod avx512;
#[cfg(test)]
mod tests;
mod unjoined;

pub(crate) use avx512::multiply;
use bytemuck::{Pod, Zeroable};
use pulp::x86::{V3, V4};

/// Words that are worked on at once.
pub const LANES: usize = 16;

/// So few packets are looked at faster one by one, whatever the instructions.
pub const FEW: usize = 7;

/// Sixteen words in memory.
pub type Array = [u32; LANES];

/// Sixteen words in memory that lie as a vector may be loaded from where it lies: a cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct Row(pub Array);

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
    /// The best of this processor. Cost: two loads.
    #[inline(always)]
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

    /// Whether so many packets are worked on faster sixteen at once than one by one. With AVX2, where sixteen are two vectors and a mask
    /// is a vector, too, sixteen at once take two thirds of the time of sixteen one by one: they pay if the lanes that stay empty are
    /// no more than one for five packets. With AVX-512 they pay for more than [`FEW`].
    #[inline(always)]
    pub const fn pays_for(self, count: usize) -> bool {
        match self {
            Level::Scalar => false,
            Level::Avx2(_) => count > 0 && count.next_multiple_of(LANES) - count <= count / 5,
            Level::Avx512(_) => count > FEW,
        }
    }

    /// Of sixteen packets, so many must take part for working on all lanes at once to be faster than one by one, where the others are
    /// left out. With AVX2 that takes a third of the instructions, but not a third of the time. With AVX-512 any bound from three to six
    /// is as good.
    #[inline(always)]
    pub const fn least(self) -> u32 {
        match self {
            Level::Scalar => u32::MAX,
            Level::Avx2(_) => 10,
            Level::Avx512(_) => 4,
        }
    }

    /// Whether kernels run: any processor can look at packets one by one only.
    #[inline(always)]
    pub fn is_wide(self) -> bool {
        !matches!(self, Level::Scalar)
    }

    /// Runs a kernel, which is compiled for these instructions if all that it calls is `#[inline(always)]`. What calls back, as `map`
    /// of an array does, is not: its closure must not hold an operation. `None`: kernels do not run at this level.
    #[inline(always)]
    pub fn run<K: Kernel>(self, kernel: K) -> Option<K::Output> {
        match self {
            Level::Scalar => None,
            Level::Avx2(v3) => Some(v3.vectorize(Call(v3, kernel))),
            Level::Avx512(v4) => Some(v4.vectorize(Call(v4, kernel))),
        }
    }
}

/// Something to do with sixteen packets at once.
pub trait Kernel {
    /// What comes of it.
    type Output;

    /// Does it. Must be `#[inline(always)]`.
    fn call<W: Wide>(self, wide: W) -> Self::Output;
}

struct Call<W, K>(W, K);

impl<W: Wide, K: Kernel> pulp::NullaryFnOnce for Call<W, K> {
    type Output = K::Output;

    #[inline(always)]
    fn call(self) -> K::Output {
        self.1.call(self.0)
    }
}

/// Which of eight words go where in a row of sixteen, and what else stands there.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// By word of the row: which of the eight it is, if it is one.
    from: Array,
    /// One bit for each word that is one of the eight.
    written: u16,
    /// All other words; 0 at those.
    rest: Array,
}

impl Layout {
    /// Word i of `N`, eight at most, goes to `places[i]`; `rest` is what stands elsewhere.
    pub const fn new<const N: usize>(places: [usize; N], mut rest: Array) -> Layout {
        let (mut from, mut written, mut word) = ([0; LANES], 0, 0);
        while word < N {
            let place = places[word] % LANES;
            (from[place], rest[place]) = (word as u32 % 8, 0);
            written |= 1 << place;
            word += 1;
        }
        Layout { from, written, rest }
    }
}

/// The operations. Lanes are without sign and wrap.
pub trait Wide: Copy {
    /// Sixteen words of 32 bits, or eight numbers of 64 bits, in a vector or two.
    type Words: Copy;
    /// Which of sixteen lanes: what the comparisons say.
    type Mask: Copy;

    /// From memory.
    fn load(self, from: &Array) -> Self::Words;
    /// To memory.
    fn store(self, a: Self::Words) -> Array;

    /// One bit for each lane of a mask.
    fn bits(self, mask: Self::Mask) -> u16;
    /// The reverse.
    fn mask(self, bits: u16) -> Self::Mask;
    /// Lanes of both masks.
    fn both(self, a: Self::Mask, b: Self::Mask) -> Self::Mask;
    /// Lanes of either mask.
    fn either(self, a: Self::Mask, b: Self::Mask) -> Self::Mask;
    /// Lanes of the first that are not lanes of the second.
    fn without(self, a: Self::Mask, b: Self::Mask) -> Self::Mask;
    /// Lanes of one mask and not of the other one.
    fn differ(self, a: Self::Mask, b: Self::Mask) -> Self::Mask;

    /// The same number in all lanes.
    fn splat(self, number: u32) -> Self::Words;
    /// Sum, modulo 2^32.
    fn add(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// Difference, modulo 2^32.
    fn subtract(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// Bits of both.
    fn and(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// Bits of either.
    fn or(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// Bits of one and not of the other one.
    fn exclusive_or(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// Moves the bits of each lane down.
    fn down<const BITS: u32>(self, a: Self::Words) -> Self::Words;
    /// Moves the bits of each lane up.
    fn up<const BITS: u32>(self, a: Self::Words) -> Self::Words;
    /// Moves the bits of each lane down by what another says.
    fn down_by(self, a: Self::Words, bits: Self::Words) -> Self::Words;
    /// Moves the bits of each lane up by what another says.
    fn up_by(self, a: Self::Words, bits: Self::Words) -> Self::Words;
    /// The larger of each two.
    fn max(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// Exchanges the halves of each lane.
    fn exchange(self, a: Self::Words) -> Self::Words;
    /// From network order, or into it.
    fn reverse(self, a: Self::Words) -> Self::Words;
    /// The same for the two halves of each lane.
    fn reverse_halves(self, a: Self::Words) -> Self::Words;
    /// Elements of a table of sixteen, of which the lowest four bits of each lane tell the number; the others are 0.
    fn look_up(self, table: Self::Words, at: Self::Words) -> Self::Words;

    /// Lanes that are the same.
    fn equal(self, a: Self::Words, b: Self::Words) -> Self::Mask;
    /// Lanes of `a` that are at most those of `b`.
    fn at_most(self, a: Self::Words, b: Self::Words) -> Self::Mask;
    /// Lanes of `a` that are below those of `b`.
    fn below(self, a: Self::Words, b: Self::Words) -> Self::Mask;
    /// Lanes whose highest bit is set.
    fn is_negative(self, a: Self::Words) -> Self::Mask;
    /// Lanes that have any of these bits.
    fn has(self, a: Self::Words, bits: u32) -> Self::Mask;
    /// Lanes of `yes` where the mask has one, else of `no`.
    fn select(self, mask: Self::Mask, yes: Self::Words, no: Self::Words) -> Self::Words;
    /// The lanes of a mask, 0 elsewhere.
    fn keep(self, mask: Self::Mask, a: Self::Words) -> Self::Words;
    /// Adds a number to the lanes of a mask.
    fn add_where(self, mask: Self::Mask, a: Self::Words, number: u32) -> Self::Words;
    /// The sum of the lanes of a mask, modulo 2^32.
    fn sum(self, mask: Self::Mask, a: Self::Words) -> u32;
    /// Of the lanes that a mask has a bit for, those that are the same as an earlier one of them.
    fn repeats(self, lanes: u16, a: Self::Words) -> u16;
    /// Of the words of a row in memory, those whose bits under `bits` are `wanted`: one bit for each.
    fn matches(self, row: &Row, bits: u32, wanted: u32) -> u16;

    /// Numbers of 64 bits, the same in all lanes.
    fn splat_long(self, number: u64) -> Self::Words;
    /// Sum of numbers of 64 bits, modulo 2^64.
    fn add_long(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// Moves the bits of numbers of 64 bits down.
    fn down_long<const BITS: u32>(self, a: Self::Words) -> Self::Words;
    /// Product of the lower halves of numbers of 64 bits.
    fn multiply_halves(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// Product of numbers of 64 bits and one number, modulo 2^64.
    fn multiply_long(self, a: Self::Words, by: u64) -> Self::Words;
    /// The lower halves of the numbers of 64 bits of two vectors in turn: those of `even` in even lanes.
    fn lower_halves(self, even: Self::Words, odd: Self::Words) -> Self::Words;
    /// The same with the upper halves.
    fn upper_halves(self, even: Self::Words, odd: Self::Words) -> Self::Words;
    /// Sixteen numbers of 64 bits of which one vector has the even ones and another the odd ones.
    fn in_turn(self, halves: [Self::Words; 2]) -> [u64; LANES];
    /// Sixteen numbers of 64 bits as their lower and their upper halves.
    fn split(self, numbers: &[u64; LANES]) -> [Self::Words; 2];
    /// Which of sixteen numbers are not below the one before; the first is not.
    fn ascending(self, numbers: &[u64; LANES]) -> u16;

    /// Sixteen rows of four words as four columns.
    fn columns_of_four(self, row: impl Fn(usize) -> [u32; 4]) -> [Self::Words; 4];
    /// Sixteen rows of eight words as eight columns.
    fn columns_of_eight(self, row: impl Fn(usize) -> [u32; 8]) -> [Self::Words; 8];
    /// Eight columns as rows of sixteen words, laid out so.
    fn spread(self, columns: [Self::Words; 8], layout: &Layout, rows: &mut [Array; LANES]);
    /// Sixteen columns, in two halves, as rows.
    fn rows_of_sixteen(self, halves: [[Self::Words; 8]; 2]) -> [Self::Words; LANES];

    /// Bits that are in a number, too.
    #[inline(always)]
    fn only(self, a: Self::Words, bits: u32) -> Self::Words {
        self.and(a, self.splat(bits))
    }

    /// Lanes that hold a number.
    #[inline(always)]
    fn is(self, a: Self::Words, number: u32) -> Self::Mask {
        self.equal(a, self.splat(number))
    }

    /// Sum of the two halves of each lane.
    #[inline(always)]
    fn halves(self, a: Self::Words) -> Self::Words {
        self.add(self.only(a, 0xffff), self.down::<16>(a))
    }
}
