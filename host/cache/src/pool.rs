//! Who holds each slot.

/// A KV slot's number.
pub type Slot = u32;

/// How one slot is held.
#[derive(Clone, Copy, Debug, Default)]
struct Holders {
    /// Sequences that read or write it now.
    locks: u32,
    /// Cache entries that remember it.
    entries: u32,
}

/// All slots of one KV memory.
///
/// A slot is *locked* while a sequence uses it, *evictable* while only cache entries remember it, *free* otherwise.
#[derive(Debug)]
pub struct SlotPool {
    holders: Vec<Holders>,
    /// Free slots; the last is handed out next, so that recently used memory, still warm, is used again.
    free: Vec<Slot>,
    locked: usize,
}

impl SlotPool {
    /// A pool of `size` free slots.
    ///
    /// # Panics
    /// If `size` does not fit a slot number.
    #[must_use]
    pub fn new(size: usize) -> Self {
        let size = Slot::try_from(size).expect("a slot number is 32 bits");
        Self { holders: vec![Holders::default(); size as usize], free: (0..size).rev().collect(), locked: 0 }
    }

    /// Slots in all.
    #[must_use]
    pub fn size(&self) -> usize {
        self.holders.len()
    }

    /// Slots nobody holds.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Slots that a sequence uses.
    #[must_use]
    pub fn locked(&self) -> usize {
        self.locked
    }

    /// Slots that only the cache remembers: they can be had by evicting.
    #[must_use]
    pub fn evictable(&self) -> usize {
        self.size() - self.free() - self.locked
    }

    /// Takes `count` free slots, locked once each, onto the end of `slots`; takes none if there are too few.
    pub fn allocate(&mut self, count: usize, slots: &mut Vec<Slot>) -> bool {
        let Some(first) = self.free.len().checked_sub(count) else { return false };
        for slot in self.free.drain(first..).rev() {
            self.holders[slot as usize].locks = 1;
            slots.push(slot);
        }
        self.locked += count;
        true
    }

    /// Locks slots that are held already.
    ///
    /// # Panics
    /// If one of them is free: its contents may be anything.
    pub fn lock(&mut self, slots: &[Slot]) {
        for &slot in slots {
            let holders = &mut self.holders[slot as usize];
            assert!(holders.locks + holders.entries > 0, "slot {slot} is free and cannot be locked");
            self.locked += usize::from(holders.locks == 0);
            holders.locks += 1;
        }
    }

    /// Gives back one lock of each slot.
    ///
    /// # Panics
    /// If one of them is not locked.
    pub fn unlock(&mut self, slots: &[Slot]) {
        for &slot in slots {
            let holders = &mut self.holders[slot as usize];
            assert!(holders.locks > 0, "slot {slot} is not locked");
            holders.locks -= 1;
            if holders.locks == 0 {
                self.locked -= 1;
                if holders.entries == 0 {
                    self.free.push(slot);
                }
            }
        }
    }

    /// Notes that a cache entry remembers these slots.
    ///
    /// # Panics
    /// If one of them is free.
    pub(crate) fn remember(&mut self, slots: &[Slot]) {
        for &slot in slots {
            let holders = &mut self.holders[slot as usize];
            assert!(holders.locks + holders.entries > 0, "slot {slot} is free and cannot be cached");
            holders.entries += 1;
        }
    }

    /// Notes that a cache entry forgot these slots.
    ///
    /// # Panics
    /// If one of them is not remembered.
    pub(crate) fn forget(&mut self, slots: &[Slot]) {
        for &slot in slots {
            let holders = &mut self.holders[slot as usize];
            assert!(holders.entries > 0, "slot {slot} is not cached");
            holders.entries -= 1;
            if holders.locks + holders.entries == 0 {
                self.free.push(slot);
            }
        }
    }

    /// Recounts everything.
    ///
    /// # Panics
    /// If a slot is lost or counted twice.
    pub fn check(&self) {
        let count = |test: fn(&Holders) -> bool| self.holders.iter().filter(|holders| test(holders)).count();
        assert_eq!(self.free.len(), count(|holders| holders.locks + holders.entries == 0), "free slots");
        assert_eq!(self.locked, count(|holders| holders.locks > 0), "locked slots");
        let mut seen = vec![false; self.size()];
        for &slot in &self.free {
            assert!(!std::mem::replace(&mut seen[slot as usize], true), "slot {slot} is free twice");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_move_between_free_locked_and_evictable() {
        let counts = |pool: &SlotPool| {
            pool.check();
            (pool.free(), pool.locked(), pool.evictable())
        };
        let mut pool = SlotPool::new(8);
        let mut slots = Vec::new();
        assert!(pool.allocate(5, &mut slots));
        assert_eq!(counts(&pool), (3, 5, 0));
        assert!(!pool.allocate(4, &mut slots));
        assert_eq!(slots.len(), 5);
        pool.remember(&slots[..3]);
        pool.unlock(&slots);
        assert_eq!(counts(&pool), (5, 0, 3));
        pool.lock(&slots[..1]);
        pool.lock(&slots[..1]);
        assert_eq!(counts(&pool), (5, 1, 2));
        pool.forget(&slots[..3]);
        assert_eq!(counts(&pool), (7, 1, 0));
        pool.unlock(&slots[..1]);
        pool.unlock(&slots[..1]);
        assert_eq!(counts(&pool), (8, 0, 0));
    }

    #[test]
    #[should_panic(expected = "free and cannot be locked")]
    fn a_free_slot_cannot_be_locked() {
        SlotPool::new(1).lock(&[0]);
    }
}
