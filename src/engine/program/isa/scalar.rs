//! Operations on any processor: what the compiler finds instructions for by itself.

use super::super::leaf::{Leaf, RECORDS};
use super::super::partition::Node;
use super::{Array, Isa, WIDTH, columns};
use crate::packet::Key;

/// Any processor.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Scalar;

impl Isa for Scalar {
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
    fn shift_right_each(self, mut a: Array, bits: Array) -> Array {
        a.iter_mut().zip(bits).for_each(|(a, bits)| *a >>= bits & 31);
        a
    }

    #[inline(always)]
    fn at_least(self, a: Array, least: u32) -> u16 {
        a.iter().enumerate().fold(0, |mask, (i, &lane)| mask | u16::from(lane >= least) << i)
    }

    #[inline(always)]
    fn has_bit(self, a: Array, number: Array) -> u16 {
        let lanes = a.into_iter().zip(number).enumerate();
        lanes.fold(0, |mask, (i, (lane, number))| mask | ((lane >> (number & 31) & 1) as u16) << i)
    }

    #[inline(always)]
    fn select(self, mask: u16, yes: Array, mut no: Array) -> Array {
        no.iter_mut().zip(yes).enumerate().for_each(|(i, (no, yes))| *no = if mask >> i & 1 == 1 { yes } else { *no });
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
    fn ranks(self, nodes: &[Node], lows: &[u32], numbers: &mut [u32]) {
        for (number, &low) in numbers.iter_mut().zip(lows) {
            let node = nodes.get(*number as usize).unwrap_or(&Node::EMPTY);
            *number = node.rank(low as u16);
        }
    }

    #[inline(always)]
    fn at_most(self, numbers: &[i64; 8], other: i64) -> u32 {
        numbers.iter().enumerate().fold(0, |mask, (i, &number)| mask | u32::from(number <= other) << i)
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
}
