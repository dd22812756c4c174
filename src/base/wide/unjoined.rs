//! Half a vector in, the same half out: what is done to it is not joined with what is done to the other half.
//!
//! A compiler that finds one operation on both halves of a vector makes it one operation on the whole. Where that is slower it must
//! not know what a half holds.

#![allow(unsafe_code)]

use core::arch::asm;
use core::arch::x86_64::__m256i;

use pulp::x86::V3;

/// The same half. Cost: nothing; it stays in its register.
#[inline(always)]
pub(super) fn unjoined(_: V3, half: __m256i) -> __m256i {
    // SAFETY: a `V3` exists only where the processor has AVX.
    unsafe { unknown(half) }
}

#[inline]
#[target_feature(enable = "avx")]
fn unknown(mut half: __m256i) -> __m256i {
    // SAFETY: a comment is no instruction, so that nothing is read or written but the register that is named.
    unsafe { asm!("/* {0} */", inlateout(ymm_reg) half, options(pure, nomem, nostack, preserves_flags)) };
    half
}
