//! A slice and a position in, the cache line on its way out: the hint that code gives before it needs what lies there.

/// Asks for the cache line of an element, if there is one. No element is read, so a wrong position costs time and nothing else.
#[inline(always)]
#[allow(unsafe_code)]
pub fn prefetch<T>(slice: &[T], at: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(element) = slice.get(at) {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the instruction never faults and reads nothing that the program sees; the address is that of a live element.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(element).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (slice, at);
}
