//! A length in, a fixed array of plain old data out, on huge pages where the machine has them.
//!
//! A table of hundreds of megabytes on pages of 4 KiB pays a walk of the page table for nearly every access, half of what a
//! look-up costs. Linux gives huge pages to a mapping that asks (`madvise`), if its address and length allow.

use bytemuck::Pod;
use memmap2::{Advice, MmapMut, MmapOptions};
use std::fmt;
use std::ops::{Deref, DerefMut};

/// Size and alignment of a huge page (x86-64 and ARM64 with 4 KiB pages).
const HUGE: usize = 2 << 20;

/// Smaller arrays come from the heap: a huge page would be more than half empty.
const LEAST_MAPPED: usize = HUGE / 2;

/// A fixed-length array on huge pages.
///
/// It dereferences to a slice. The conversion costs a few instructions, so code that runs per packet takes the slice once per
/// burst. Memory is taken by the kernel when it is first written, unless [`Pages::populate`] is called.
pub struct Pages<T> {
    memory: Memory<T>,
    len: usize,
}

enum Memory<T> {
    /// Small, or the kernel refused a mapping.
    Heap(Vec<T>),
    /// The array begins `skip` bytes into the mapping, where a huge page begins.
    Mapped { map: MmapMut, skip: usize, is_advised: bool },
}

impl<T: Pod> Pages<T> {
    /// An array of `len` elements whose bytes are all zero. Falls back to normal pages, and to the heap, where there are no huge
    /// pages to be had; ends the process if there is no memory at all, as a `Vec` does.
    pub fn zeroed(len: usize) -> Pages<T> {
        let memory = Pages::<T>::map(len).unwrap_or_else(|| Memory::Heap(bytemuck::zeroed_vec(len)));
        Pages { memory, len }
    }

    /// A copy of a slice.
    pub fn from_slice(elements: &[T]) -> Pages<T> {
        let mut pages = Pages::zeroed(elements.len());
        pages.copy_from_slice(elements);
        pages
    }

    fn map(len: usize) -> Option<Memory<T>> {
        let bytes = len.checked_mul(size_of::<T>())?;
        if bytes < LEAST_MAPPED {
            return None;
        }
        // Room to begin at a huge page, and to end with a whole one; what lies outside is never touched.
        let whole = bytes.checked_next_multiple_of(HUGE)?;
        let map = MmapOptions::new().len(whole.checked_add(HUGE)?).map_anon().ok()?;
        let skip = (map.as_ptr() as usize).wrapping_neg() % HUGE;
        let is_advised = map.advise_range(Advice::HugePage, skip, whole).is_ok();
        Some(Memory::Mapped { map, skip, is_advised })
    }

    /// Takes the memory from the kernel now rather than at the first write, so that no packet waits for it. Without effect where
    /// the kernel cannot (before 5.14).
    pub fn populate(&self) {
        if let Memory::Mapped { map, skip, .. } = &self.memory {
            let _is_done = map.advise_range(Advice::PopulateWrite, *skip, self.bytes()).is_ok();
        }
    }
}

impl<T> Pages<T> {
    /// Whether the kernel was asked for huge pages and agreed to try. Small arrays do not ask.
    pub fn is_advised(&self) -> bool {
        matches!(self.memory, Memory::Mapped { is_advised: true, .. })
    }

    /// Elements. Cheaper than through the slice.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the elements.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.len * size_of::<T>()
    }
}

impl<T: Pod> Deref for Pages<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        match &self.memory {
            Memory::Heap(elements) => elements,
            Memory::Mapped { map, skip, .. } => {
                let bytes = map.get(*skip..*skip + self.bytes()).unwrap_or(&[]);
                bytemuck::try_cast_slice(bytes).unwrap_or(&[])
            }
        }
    }
}

impl<T: Pod> DerefMut for Pages<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        let bytes = self.bytes();
        match &mut self.memory {
            Memory::Heap(elements) => elements,
            Memory::Mapped { map, skip, .. } => {
                let bytes = map.get_mut(*skip..*skip + bytes).unwrap_or(&mut []);
                bytemuck::try_cast_slice_mut(bytes).unwrap_or(&mut [])
            }
        }
    }
}

impl<T: Pod> Clone for Pages<T> {
    fn clone(&self) -> Pages<T> {
        Pages::from_slice(self)
    }
}

impl<T: Pod> Default for Pages<T> {
    fn default() -> Pages<T> {
        Pages::zeroed(0)
    }
}

impl<T: Pod> From<Vec<T>> for Pages<T> {
    /// Takes a small vector as it is, copies a large one.
    fn from(elements: Vec<T>) -> Pages<T> {
        if elements.len().saturating_mul(size_of::<T>()) < LEAST_MAPPED {
            let len = elements.len();
            return Pages { memory: Memory::Heap(elements), len };
        }
        Pages::from_slice(&elements)
    }
}

/// Length and pages only: the elements are too many to print.
impl<T> fmt::Debug for Pages<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").field("len", &self.len).field("is_advised", &self.is_advised()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_arrays_hold_what_is_written() {
        for len in [0, 1, 1000, LEAST_MAPPED / 8 - 1, LEAST_MAPPED / 8, HUGE / 8, HUGE / 8 + 1, HUGE] {
            let mut pages: Pages<u64> = Pages::zeroed(len);
            assert_eq!((pages.len(), pages.bytes()), (len, len * 8));
            assert!(pages.iter().all(|&element| element == 0), "{len}");
            for (i, element) in pages.iter_mut().enumerate() {
                *element = i as u64;
            }
            let copy = pages.clone();
            pages.populate();
            assert!(copy.iter().enumerate().all(|(i, &element)| element == i as u64), "{len}");
            assert_eq!(*copy, *pages);
        }
    }

    #[test]
    fn a_large_array_begins_at_a_huge_page() {
        let pages: Pages<[u8; 64]> = Pages::zeroed(1 << 17);
        assert_eq!(pages.as_ptr() as usize % HUGE, 0);
        assert!(!Pages::<u8>::zeroed(10).is_advised());
        assert_eq!(format!("{:?}", Pages::<u8>::zeroed(10)), "Pages { len: 10, is_advised: false }");
    }

    #[test]
    fn a_vector_becomes_pages_whatever_its_size() {
        for len in [0, 5, LEAST_MAPPED] {
            let elements: Vec<u8> = (0..len).map(|i| i as u8).collect();
            assert_eq!(*Pages::from(elements.clone()), elements);
        }
    }
}
