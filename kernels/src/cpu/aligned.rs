//! Memory that starts at a cache line, zeroed, and untouched until it is used.

/// Bytes of a cache line, and of the widest vector.
const LINE: usize = 64;

/// A vector of fixed length whose first element lies on a cache line.
///
/// Built over the zeroing allocator: large ones cost no memory until they are written, which is what lets KV memory be
/// sized generously.
#[derive(Debug, Default)]
pub struct AlignedVec<T> {
    memory: Vec<T>,
    start: usize,
    length: usize,
}

impl<T: Copy + Zero> AlignedVec<T> {
    /// `length` zeros.
    #[must_use]
    pub fn zeroed(length: usize) -> Self {
        let padding = LINE / size_of::<T>().max(1);
        let memory = vec![T::ZERO; length + padding];
        let start = memory.as_ptr().align_offset(LINE).min(padding);
        Self { memory, start, length }
    }

    /// Grows to at least `length` elements; what it held is lost.
    pub fn reserve(&mut self, length: usize) {
        if self.length < length {
            *self = Self::zeroed(length.next_power_of_two());
        }
    }
}

impl<T> std::ops::Deref for AlignedVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.memory[self.start..self.start + self.length]
    }
}

impl<T> std::ops::DerefMut for AlignedVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.memory[self.start..self.start + self.length]
    }
}

/// Numbers whose zero is all bits zero, so that `vec!` asks the allocator for zeroed memory.
pub trait Zero {
    /// Zero.
    const ZERO: Self;
}

macro_rules! zero {
    ($($type:ty),*) => {$(
        impl Zero for $type {
            const ZERO: Self = 0 as $type;
        }
    )*};
}
zero!(u8, i8, i32, u32, f32);

impl Zero for [i32; 2] {
    const ZERO: Self = [0; 2];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_on_a_line() {
        for length in [0, 1, 100, 5000] {
            let vector = AlignedVec::<f32>::zeroed(length);
            assert_eq!(vector.len(), length);
            assert!(vector.as_ptr().addr().is_multiple_of(LINE));
            assert!(vector.iter().all(|&x| x == 0.0));
        }
    }
}
