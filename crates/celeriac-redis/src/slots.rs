//! Slots: where the server keeps what a call did, for the case that its answer is lost.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The slots of one handle. As many as there were calls at once, so that what is kept is bounded.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    /// The free ones, and how many there are.
    state: Mutex<(Vec<u32>, u32)>,
    calls: AtomicU64,
}

impl Slots {
    /// A slot for one call, given back when dropped.
    pub(crate) fn take(&self) -> Slot<'_> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let number = state.0.pop().unwrap_or_else(|| {
            state.1 += 1;
            state.1
        });
        // ORDERING: only that no number comes twice matters.
        Slot { slots: self, number, call: self.calls.fetch_add(1, Ordering::Relaxed) }
    }
}

/// One call's slot.
pub(crate) struct Slot<'a> {
    slots: &'a Slots,
    number: u32,
    call: u64,
}

impl Slot<'_> {
    /// The slot's name.
    pub(crate) fn name(&self) -> String {
        self.number.to_string()
    }

    /// The call's own name, which no other call of this handle has.
    pub(crate) fn call(&self) -> String {
        self.call.to_string()
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut state = self.slots.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0.push(self.number);
    }
}

impl fmt::Debug for Slot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("number", &self.number).field("call", &self.call).finish()
    }
}
