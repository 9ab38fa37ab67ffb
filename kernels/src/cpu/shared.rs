//! One slice written by several threads, each its own elements.

use std::{marker::PhantomData, ops::Range};

/// A mutable slice that threads split among themselves.
#[derive(Clone, Copy, Debug)]
pub struct SharedMut<'a, T> {
    start: *mut T,
    length: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: it is a `&mut [T]` whose users promise (see `SharedMut::range`) to touch disjoint elements.
unsafe impl<T: Send> Send for SharedMut<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    /// Takes the slice over for as long as it lives.
    pub fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), length: slice.len(), slice: PhantomData }
    }

    /// Elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The elements of `range`.
    ///
    /// # Safety
    /// While the returned slice lives, no other slice of these elements may.
    ///
    /// # Panics
    /// If the range does not lie within the slice.
    #[must_use]
    #[inline(always)]
    pub unsafe fn range(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.length, "a range within the slice");
        // SAFETY: within bounds, as just asserted; exclusive, as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.end - range.start) }
    }
}
