//! Pages nobody holds.

/// A KV slot's number. Page p is made of slots `p * page_tokens..(p + 1) * page_tokens`.
pub type Slot = u32;

/// The free pages of one KV memory.
#[derive(Debug)]
pub(crate) struct FreePages {
    page_tokens: usize,
    /// Pages in all.
    total: usize,
    /// The last is handed out next, so that recently used memory, still warm, is used again.
    free: Vec<u32>,
}

impl FreePages {
    /// All pages of `slots` slots, free; slots that fill no page are left out.
    ///
    /// # Panics
    /// If a page has no tokens, or a slot's number would not fit.
    pub(crate) fn new(slots: usize, page_tokens: usize) -> Self {
        assert!(page_tokens > 0, "a page holds tokens");
        let total = slots / page_tokens;
        Slot::try_from(total * page_tokens).expect("a slot number is 32 bits");
        Self { page_tokens, total, free: (0..total as u32).rev().collect() }
    }

    pub(crate) fn page_tokens(&self) -> usize {
        self.page_tokens
    }

    /// Slots in all.
    pub(crate) fn total_slots(&self) -> usize {
        self.total * self.page_tokens
    }

    /// Slots of free pages.
    pub(crate) fn free_slots(&self) -> usize {
        self.free.len() * self.page_tokens
    }

    /// Takes a page and puts its slots onto the end of `slots`.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn take(&mut self, slots: &mut Vec<Slot>) {
        let page = self.free.pop().expect("the caller made room");
        let first = page * self.page_tokens as Slot;
        slots.extend(first..first + self.page_tokens as Slot);
    }

    /// Gives whole pages back.
    pub(crate) fn give_back(&mut self, slots: &[Slot]) {
        debug_assert!(slots.len().is_multiple_of(self.page_tokens), "whole pages");
        self.free.extend(slots.iter().step_by(self.page_tokens).map(|slot| slot / self.page_tokens as Slot));
    }

    /// The free pages' slots, for a recount.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        let width = self.page_tokens as Slot;
        self.free.iter().flat_map(move |page| page * width..(page + 1) * width)
    }
}
