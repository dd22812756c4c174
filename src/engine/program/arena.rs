//! Tables in, one piece of memory out: all that look-ups touch, on huge pages, each table at the beginning of a cache line.
//!
//! A table of half a megabyte is too small for a huge page of its own; together they fill a few, and a look-up that loads from ten
//! places then walks no page tables.

use std::fmt;
use std::marker::PhantomData;

use bytemuck::{Pod, Zeroable, cast_slice_mut};

/// One cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Zeroable, Pod)]
#[repr(C, align(64))]
pub struct Line([u64; 8]);

/// Where a table lies in the memory that it was put into.
pub struct Table<T> {
    first_line: u32,
    len: u32,
    of: PhantomData<T>,
}

impl<T> Clone for Table<T> {
    fn clone(&self) -> Table<T> {
        *self
    }
}

impl<T> Copy for Table<T> {}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table { first_line: 0, len: 0, of: PhantomData }
    }
}

impl<T> fmt::Debug for Table<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at line {}", self.len, self.first_line)
    }
}

impl<T: Pod> Table<T> {
    /// Puts a table at the end of the memory. Control line only.
    pub fn put(lines: &mut Vec<Line>, elements: &[T]) -> Table<T> {
        let first_line = lines.len();
        let needed = size_of_val(elements).div_ceil(size_of::<Line>());
        lines.resize(first_line + needed, Line::zeroed());
        cast_slice_mut(&mut lines[first_line..])[..elements.len()].copy_from_slice(elements);
        Table { first_line: first_line as u32, len: elements.len() as u32, of: PhantomData }
    }

    /// The table; empty if this is not the memory that it was put into. Cost: some ten instructions, so once per burst.
    #[inline(always)]
    pub fn view(self, lines: &[Line]) -> &[T] {
        let first = self.first_line as usize;
        let lines = lines.get(first..).unwrap_or(&[]);
        bytemuck::try_cast_slice(lines).ok().and_then(|all| all.get(..self.len as usize)).unwrap_or(&[])
    }

    /// Elements.
    pub fn len(self) -> usize {
        self.len as usize
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Bytes of memory, whole lines.
    pub fn bytes(self) -> usize {
        (self.len() * size_of::<T>()).next_multiple_of(size_of::<Line>())
    }
}
