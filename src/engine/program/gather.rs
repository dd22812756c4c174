//! A table and sixteen positions in, sixteen elements out: loads that one instruction begins.
//!
//! The only code of this room that steps outside the safe language. Measured on 1,000 rules, loading lane by lane costs twice the
//! instructions of the whole look-up, and no crate has a gather that checks its bounds.

#![allow(unsafe_code)]

use core::arch::x86_64::{
    __m256i, __m512i, _mm256_i32gather_epi32, _mm256_mask_i32gather_epi32, _mm512_i32gather_epi32,
    _mm512_mask_i32gather_epi32,
};

use bytemuck::{Pod, cast};
use pulp::x86::{V3, V4};

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

/// [`words`] for eight positions, with AVX2.
#[inline(always)]
pub(super) fn words_of_eight(isa: V3, table: &[u32], at: __m256i) -> __m256i {
    let Some(last) = table.len().min(MOST).checked_sub(1) else { return cast([0u32; 8]) };
    let at = isa.avx2._mm256_min_epu32(at, isa.avx._mm256_set1_epi32(last as i32));
    // SAFETY: `isa` exists only where the processor has AVX2. Each lane of `at` is at most `last`, so that it is the position of a
    // live element of four bytes and not negative as a signed number.
    unsafe { _mm256_i32gather_epi32::<4>(table.as_ptr().cast(), at) }
}

/// [`halves`] for eight positions, with AVX2.
#[inline(always)]
pub(super) fn halves_of_eight(isa: V3, table: &[u16], at: __m256i) -> __m256i {
    let Some(last) = table.len().min(MOST).checked_sub(2) else { return cast([0u32; 8]) };
    let at = isa.avx2._mm256_min_epu32(at, isa.avx._mm256_set1_epi32(last as i32));
    // SAFETY: `isa` exists only where the processor has AVX2. Each lane of `at` is at most the last position but one, so that the
    // four bytes read there are that element and the next, both alive, and the position is not negative as a signed number.
    let pairs = unsafe { _mm256_i32gather_epi32::<2>(table.as_ptr().cast(), at) };
    isa.avx2._mm256_and_si256(pairs, isa.avx._mm256_set1_epi32(0xffff))
}

/// [`words_where`] for eight positions, with AVX2; all bits of a lane of `mask` are the same.
#[inline(always)]
pub(super) fn words_of_eight_where(isa: V3, mask: __m256i, table: &[u32], at: __m256i, no: __m256i) -> __m256i {
    let Some(last) = table.len().min(MOST).checked_sub(1) else { return no };
    let at = isa.avx2._mm256_min_epu32(at, isa.avx._mm256_set1_epi32(last as i32));
    // SAFETY: `isa` exists only where the processor has AVX2. Each lane of `at` is at most `last`, so that it is the position of a
    // live element of four bytes and not negative as a signed number.
    unsafe { _mm256_mask_i32gather_epi32::<4>(no, table.as_ptr().cast(), at, mask) }
}
