//! How many messages of one queue may be on the way, and when to let more come.
//!
//! RabbitMQ sends on its own account, up to the prefetch of each subscription, and that never changes: so a queue has as many subscriptions as it
//! takes, each adding to what may be on the way. One that is cancelled adds nothing any more, but for what came by it and is not settled.

/// AMQP counts a prefetch in 16 bits, and takes 0 for no limit.
const LARGEST: usize = u16::MAX as usize;
/// From so many subscriptions on, each new one at least doubles what they allow together: their number stays small.
const MANY: usize = 16;

/// What may be on the way from one queue.
#[derive(Debug, Default)]
pub(crate) struct Window {
    subscriptions: Vec<Subscription>,
    /// Fetched one by one, by no subscription, and not settled.
    fetched: usize,
}

#[derive(Debug)]
struct Subscription {
    number: u64,
    prefetch: usize,
    unsettled: usize,
    cancelled: bool,
}

/// By which subscription a message came; none if it was fetched.
pub(crate) type By = Option<u64>;

impl Window {
    /// Notes that the queue is subscribed to once more.
    pub(crate) fn subscribed(&mut self, number: u64, prefetch: u16) {
        self.subscriptions.push(Subscription { number, prefetch: prefetch.into(), unsettled: 0, cancelled: false });
    }

    pub(crate) fn delivered(&mut self, by: By) {
        match self.find(by) {
            Some(subscription) => subscription.unsettled += 1,
            None => self.fetched += 1,
        }
    }

    pub(crate) fn settled(&mut self, by: By) {
        match self.find(by) {
            Some(subscription) => {
                subscription.unsettled = subscription.unsettled.saturating_sub(1);
                if subscription.cancelled && subscription.unsettled == 0 {
                    self.subscriptions.retain(|one| Some(one.number) != by);
                }
            }
            None => self.fetched = self.fetched.saturating_sub(1),
        }
    }

    /// Notes that a subscription is cancelled; whether it was not before.
    pub(crate) fn cancelled(&mut self, number: u64) -> bool {
        let Some(subscription) = self.find(Some(number)) else { return false };
        let before = std::mem::replace(&mut subscription.cancelled, true);
        if subscription.unsettled == 0 {
            self.subscriptions.retain(|one| one.number != number);
        }
        !before
    }

    /// Those that are not cancelled.
    pub(crate) fn active(&self) -> impl Iterator<Item = u64> {
        self.subscriptions.iter().filter(|one| !one.cancelled).map(|one| one.number)
    }

    /// Those by which more may come, if of the messages that came by each `back` go back.
    pub(crate) fn open(&self, back: impl Fn(u64) -> usize) -> Vec<u64> {
        let open =
            |one: &&Subscription| !one.cancelled && one.prefetch > one.unsettled.saturating_sub(back(one.number));
        self.subscriptions.iter().filter(open).map(|one| one.number).collect()
    }

    /// How many more may come as things stand.
    pub(crate) fn room(&self) -> usize {
        self.subscriptions
            .iter()
            .filter(|one| !one.cancelled)
            .map(|one| one.prefetch.saturating_sub(one.unsettled))
            .sum()
    }

    /// The prefetch of one more subscription, so that `wanted` may come while no more than `most` are on the way at any time; `None` if there
    /// is no need for one, or no place.
    pub(crate) fn growth(&self, wanted: usize, most: usize) -> Option<u16> {
        let room = self.room();
        // Half of it is enough: what comes next is settled before it is missed.
        if room.saturating_mul(2) >= wanted {
            return None;
        }
        let missing = wanted - room;
        let growth = if self.subscriptions.len() < MANY { missing } else { missing.max(self.allowed()) };
        let growth = growth.min(self.spare(most)).min(LARGEST);
        u16::try_from(growth).ok().filter(|growth| *growth > 0)
    }

    /// How many more may be let come, so that no more than `most` are on the way at any time.
    pub(crate) fn spare(&self, most: usize) -> usize {
        most.saturating_sub(self.allowed() + self.leaving())
    }

    /// How many may be on the way by the subscriptions there are.
    fn allowed(&self) -> usize {
        self.subscriptions.iter().filter(|one| !one.cancelled).map(|one| one.prefetch).sum()
    }

    /// Whether `wanted` cannot come before something is settled that will make place for more subscriptions.
    pub(crate) fn is_full(&self, wanted: usize) -> bool {
        self.room().saturating_mul(2) < wanted && self.leaving() > 0
    }

    /// What is on the way and, once it is settled, makes place for more subscriptions.
    fn leaving(&self) -> usize {
        self.fetched + self.subscriptions.iter().filter(|one| one.cancelled).map(|one| one.unsettled).sum::<usize>()
    }

    fn find(&mut self, by: By) -> Option<&mut Subscription> {
        let number = by?;
        self.subscriptions.iter_mut().find(|one| one.number == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A window with one subscription of this prefetch, `unsettled` messages of which came.
    fn window(prefetch: u16, unsettled: usize) -> Window {
        let mut window = Window::default();
        window.subscribed(1, prefetch);
        (0..unsettled).for_each(|_| window.delivered(Some(1)));
        window
    }

    #[test]
    fn as_many_may_come_as_are_wanted_and_no_more() {
        assert_eq!(Window::default().growth(8, 100), Some(8));
        assert_eq!(window(8, 8).growth(3, 100), Some(3));
        assert_eq!(window(8, 6).growth(100, 1_000), Some(98));
    }

    #[test]
    fn nothing_grows_while_half_of_what_is_wanted_may_come() {
        assert_eq!(window(8, 7).growth(1, 100), None);
        assert_eq!(window(8, 7).growth(2, 100), None);
        assert_eq!(window(8, 7).growth(3, 100), Some(2));
        assert_eq!(window(8, 8).growth(0, 100), None);
    }

    #[test]
    fn never_more_are_on_the_way_than_the_limit() {
        assert_eq!(window(1, 1).growth(1, 1), None);
        assert_eq!(window(8, 8).growth(100, 10), Some(2));
        assert_eq!(Window::default().growth(1_000_000, usize::MAX), Some(u16::MAX));
        let mut window = window(4, 4);
        assert!(window.cancelled(1));
        assert_eq!(window.growth(4, 4), None, "what came by it is still on the way");
        window.settled(Some(1));
        assert_eq!(window.growth(4, 4), Some(1));
    }

    #[test]
    fn what_is_fetched_counts_until_it_is_settled() {
        let mut window = Window::default();
        window.delivered(None);
        assert_eq!((window.room(), window.growth(1, 1)), (0, None));
        assert_eq!((window.spare(1), window.spare(3)), (0, 2));
        window.settled(None);
        assert_eq!(window.growth(1, 1), Some(1));
    }

    #[test]
    fn a_subscription_that_can_bring_more_is_open() {
        let mut window = window(2, 2);
        window.subscribed(2, 1);
        assert_eq!(window.open(|_| 0), [2]);
        assert_eq!(window.open(|number| usize::from(number == 1)), [1, 2]);
        assert!(window.cancelled(2) && !window.cancelled(2));
        assert_eq!(window.active().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn a_great_many_small_wishes_make_few_subscriptions() {
        let mut window = Window::default();
        for wish in 0..10_000 {
            if let Some(prefetch) = window.growth(1, 20_000) {
                window.subscribed(wish, prefetch);
            }
            let by = window.subscriptions.iter().find(|one| one.unsettled < one.prefetch).unwrap().number;
            window.delivered(Some(by));
        }
        assert!(window.subscriptions.len() < 40, "{}", window.subscriptions.len());
    }
}
