//! One of the queues of a consumer.

use std::collections::VecDeque;

use celeriac_core::QueueName;

use super::window::Window;

/// A queue that is consumed.
pub(crate) struct Line {
    pub(crate) queue: QueueName,
    /// The queue lives as long as it is consumed, so that it always is.
    pub(crate) kept: bool,
    /// The server said that it does not exist any more.
    pub(super) gone: bool,
    pub(super) window: Window,
    /// Those whose time has come, before the others.
    pub(super) due: VecDeque<u64>,
    /// By the server's tags.
    pub(super) ready: VecDeque<u64>,
    /// How many wait until they are due.
    pub(super) early: usize,
}

impl Line {
    pub(crate) fn new(queue: QueueName, kept: bool) -> Self {
        let (due, ready) = (VecDeque::new(), VecDeque::new());
        Self { queue, kept, gone: false, window: Window::default(), due, ready, early: 0 }
    }

    pub(super) fn waiting(&self) -> usize {
        self.due.len() + self.ready.len()
    }

    pub(super) fn next(&mut self) -> Option<u64> {
        self.due.pop_front().or_else(|| self.ready.pop_front())
    }

    /// In the order in which the server sent them, by whichever subscription.
    pub(super) fn insert(&mut self, tag: u64) {
        let place = self.ready.iter().rposition(|before| *before < tag).map_or(0, |last| last + 1);
        self.ready.insert(place, tag);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_wait_in_the_order_in_which_the_server_sent_them() {
        let mut line = Line::new(QueueName::DEFAULT, false);
        [3, 1, 2, 5, 4].into_iter().for_each(|tag| line.insert(tag));
        line.due.push_back(9);
        assert_eq!(std::iter::from_fn(|| line.next()).collect::<Vec<_>>(), [9, 1, 2, 3, 4, 5]);
    }
}
