//! Sixteen numbers in, sixteen out: the operations of a look-up, for each kind of processor.
//!
//! The kernels ([`super::header`], [`super::split`]) are written once over these operations and compiled for each level; which one
//! runs is chosen once, by what the processor says it can do ([`crate::base::wide::Level`]). All levels give the same answers. What
//! differs is how loads begin (one instruction for sixteen or eight, or one each), how lanes are packed, and how nodes and leaves are
//! compared.

mod avx2;
mod avx512;
mod scalar;

use super::leaf::Leaf;
use super::partition::Node;
use crate::packet::{Key, KeyBits};
pub(super) use scalar::Scalar;

/// Numbers that are worked on at once.
pub(super) const WIDTH: usize = 16;

/// Nodes that are asked at once.
pub(super) const RANKED: usize = 4;

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
    /// Each lane by its own number of bits, below 32.
    fn shift_right_each(self, a: Self::V, bits: Self::V) -> Self::V;
    /// Lanes that are at or above a number.
    fn at_least(self, a: Self::V, least: u32) -> u16;
    /// Lanes whose bit of this number, below 32, is set.
    fn has_bit(self, a: Self::V, number: Self::V) -> u16;
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
    /// In place of numbers of nodes what these say: the base and how many edges lie below, together. What is compared is the lower
    /// half of `lows`, whose upper half is the same again. Both slices have the same length, a multiple of [`RANKED`].
    fn ranks(self, nodes: &[Node], lows: &[u32], numbers: &mut [u32]);
    /// The first record of a leaf that holds a packet (see [`super::leaf`]); [`RECORDS`] if none does.
    fn first_record(self, leaf: &Leaf, packet: u64) -> usize;
    /// Which of eight numbers are at or below another one, a bit for each.
    fn at_most(self, numbers: &[i64; 8], other: i64) -> u32;
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
        columns[3][i] = u32::from(key.protocol) | KeyBits::in_word(key.bits.0);
    }
    columns
}
