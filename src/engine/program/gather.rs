//! A table and sixteen positions in, sixteen elements out: loads that one instruction begins.
//!
//! The only code of this room that steps outside the safe language. Measured on 1,000 rules, loading lane by lane costs twice the
//! instructions of the whole look-up, and no crate has a gather that checks its bounds.

#![allow(unsafe_code)]

use core::arch::x86_64::{__m512i, _mm512_i32gather_epi32, _mm512_mask_i32gather_epi32};

use bytemuck::{Pod, cast};
use pulp::x86::V4;

use super::partition::Node;
use super::split::Record;

/// Positions that an index may have: gathers take them as signed.
const MOST: usize = i32::MAX as usize / 4;

/// Elements of 32 bits; a position behind the end reads the last one. An empty table reads as zeroes.
#[inline(always)]
pub(super) fn words<T: Pod>(isa: V4, table: &[T], at: __m512i) -> __m512i {
    const { assert!(size_of::<T>() == 4) };
    let Some(last) = table.len().min(MOST).checked_sub(1) else { return cast([0u32; 16]) };
    let at = isa.avx512f._mm512_min_epu32(at, isa.avx512f._mm512_set1_epi32(last as i32));
    // SAFETY: `isa` exists only where the processor has AVX-512F. Each lane of `at` is at most `last`, so that it is the position of
    // a live element of four bytes and not negative as a signed number.
    unsafe { _mm512_i32gather_epi32::<4>(at, table.as_ptr().cast()) }
}

/// Elements of 16 bits, widened; a position at or behind the last element reads the last but one. A table of less than two elements
/// reads as zeroes.
#[inline(always)]
pub(super) fn halves(isa: V4, table: &[u16], at: __m512i) -> __m512i {
    let Some(last) = table.len().min(MOST).checked_sub(2) else { return cast([0u32; 16]) };
    let at = isa.avx512f._mm512_min_epu32(at, isa.avx512f._mm512_set1_epi32(last as i32));
    // SAFETY: `isa` exists only where the processor has AVX-512F. Each lane of `at` is at most the last position but one, so that the
    // four bytes read there are that element and the next, both alive, and the position is not negative as a signed number.
    let pairs = unsafe { _mm512_i32gather_epi32::<2>(at, table.as_ptr().cast()) };
    isa.avx512f._mm512_and_si512(pairs, isa.avx512f._mm512_set1_epi32(0xffff))
}

/// Elements of 32 bits where the mask has a bit, else the lanes of `no`; a position behind the end reads the last one. Of an empty
/// table all are those of `no`.
#[inline(always)]
pub(super) fn words_where(isa: V4, mask: u16, table: &[u32], at: __m512i, no: __m512i) -> __m512i {
    let Some(last) = table.len().min(MOST).checked_sub(1) else { return no };
    let at = isa.avx512f._mm512_min_epu32(at, isa.avx512f._mm512_set1_epi32(last as i32));
    // SAFETY: `isa` exists only where the processor has AVX-512F. Each lane of `at` is at most `last`, so that it is the position of
    // a live element of four bytes and not negative as a signed number.
    unsafe { _mm512_mask_i32gather_epi32::<4>(no, mask, at, table.as_ptr().cast()) }
}

/// The lanes of 16 bits that are a node's edges; those before are its base.
pub(super) const EDGE_LANES: u32 = !3;

/// The base of each node and how many of its edges lie below the lower half of the lane of `lows`, whose upper half is the same; a
/// number behind the end means the last node. Without nodes nothing is written.
#[inline(always)]
pub(super) fn ranks(isa: V4, nodes: &[Node], numbers: __m512i, lows: &[u32; 16], ranks: &mut [u32; 16]) {
    let Some(last) = nodes.len().min(MOST).checked_sub(1) else { return };
    let numbers: [u32; 16] = cast(isa.avx512f._mm512_min_epu32(numbers, isa.avx512f._mm512_set1_epi32(last as i32)));
    for lane in 0..16 {
        // SAFETY: each number is at most `last`, the position of a live node.
        let node = unsafe { nodes.get_unchecked(numbers[lane] as usize) };
        let low = isa.avx512f._mm512_set1_epi32(lows[lane] as i32);
        let below = isa.avx512bw._mm512_mask_cmplt_epu16_mask(EDGE_LANES, cast(*node), low);
        ranks[lane] = node.base + below.count_ones();
    }
}

/// The first six words of sixteen records; a position behind the end reads the last one. No records read as zeroes. Whole records
/// are loaded, two to a vector, and words change places: a third of the time of six gathers.
#[inline(always)]
pub(super) fn records(isa: V4, records: &[Record], at: __m512i) -> [__m512i; 6] {
    let Some(last) = records.len().min(MOST).checked_sub(1) else { return [cast([0u32; 16]); 6] };
    let isa = isa.avx512f;
    let at: [u32; 16] = cast(isa._mm512_min_epu32(at, isa._mm512_set1_epi32(last as i32)));
    let mut rows = [isa._mm512_setzero_si512(); 8];
    for (row, (low, high)) in rows.iter_mut().zip(PAIRS) {
        // SAFETY: each position is at most `last`, that of a live record.
        let (low, high) =
            unsafe { (records.get_unchecked(at[low] as usize), records.get_unchecked(at[high] as usize)) };
        let low = isa._mm512_castsi256_si512(cast(*low));
        *row = isa._mm512_inserti64x4::<1>(low, cast(*high));
    }
    // By quarters: columns 0 and 4, 1 and 5, 2 and 6, 3 and 7 of four rows, and of the four others.
    let mut halves = [[rows[0]; 4]; 2];
    for (half, rows) in halves.iter_mut().zip(rows.chunks_exact(4)) {
        let (a, b) = (isa._mm512_unpacklo_epi32(rows[0], rows[1]), isa._mm512_unpacklo_epi32(rows[2], rows[3]));
        let (c, d) = (isa._mm512_unpackhi_epi32(rows[0], rows[1]), isa._mm512_unpackhi_epi32(rows[2], rows[3]));
        *half = [
            isa._mm512_unpacklo_epi64(a, b),
            isa._mm512_unpackhi_epi64(a, b),
            isa._mm512_unpacklo_epi64(c, d),
            isa._mm512_unpackhi_epi64(c, d),
        ];
    }
    let [low, high] = halves;
    [
        isa._mm512_shuffle_i32x4::<0x88>(low[0], high[0]),
        isa._mm512_shuffle_i32x4::<0x88>(low[1], high[1]),
        isa._mm512_shuffle_i32x4::<0x88>(low[2], high[2]),
        isa._mm512_shuffle_i32x4::<0x88>(low[3], high[3]),
        isa._mm512_shuffle_i32x4::<0xdd>(low[0], high[0]),
        isa._mm512_shuffle_i32x4::<0xdd>(low[1], high[1]),
    ]
}

/// Which two of sixteen records share a vector, so that their words end in the order of the records.
const PAIRS: [(usize, usize); 8] = [(0, 4), (1, 5), (2, 6), (3, 7), (8, 12), (9, 13), (10, 14), (11, 15)];
