//! The way from the engine's thread to whoever asked: one bounded channel a job, which can neither block the
//! thread nor lose the end of a candidate.
//!
//! Room for the last events of each candidate is reserved when the job is made. Deltas before that take
//! what room there is besides; when there is none, the text waits in its candidate and goes out joined with
//! what follows.

use std::sync::Weak;

use tokio::sync::mpsc::{OwnedPermit, Receiver, Sender, channel};

use super::paths::Search;
use crate::completion::{Delta, StepEvent};
use crate::failure::{Failure, FailureKind};

/// A candidate's index, and what happened to it.
pub(super) type Event = (usize, StepEvent);

/// The last events of a streamed candidate: role, rest of the thought, rest of the text, tool calls, end.
const LAST_EVENTS_LIVE: usize = 5;
/// Room for deltas that are sent before the end of their candidate.
const DELTA_ROOM: usize = 64;

/// One candidate's place in the channel. Dropped without an end, it says that the candidate failed.
#[derive(Debug)]
pub(super) struct Seat {
    candidate: usize,
    sender: Sender<Event>,
    /// Room for the last events.
    permits: Vec<OwnedPermit<Event>>,
}

/// Tells whether anybody still wants to know.
#[derive(Debug, Clone)]
pub(super) enum Watch {
    /// Of a channel, which stays open as long as this is kept.
    Channel(Sender<Event>),
    /// Of a search.
    Search(Weak<Search>),
    /// Of whoever waits for a prompt to be scored.
    Waiting(Weak<()>),
}

/// Makes a channel with a seat for each candidate. There must be at least one.
pub(super) fn open(
    candidates: impl ExactSizeIterator<Item = usize>,
    live: bool,
) -> (Vec<Seat>, Watch, Receiver<Event>) {
    let last_events = if live { LAST_EVENTS_LIVE } else { 1 };
    let room = candidates.len() * last_events + if live { DELTA_ROOM } else { 0 };
    let (sender, receiver) = channel(room);
    let seats = candidates
        .map(|candidate| Seat {
            candidate,
            sender: sender.clone(),
            permits: (0..last_events)
                .map(|_| sender.clone().try_reserve_owned().expect("the channel was made with room for all"))
                .collect(),
        })
        .collect();
    (seats, Watch::Channel(sender), receiver)
}

impl Watch {
    /// Whether the receiver was dropped or closed, or all paths of the search were.
    pub(super) fn is_abandoned(&self) -> bool {
        match self {
            Self::Channel(sender) => sender.is_closed(),
            Self::Search(search) => search.strong_count() == 0,
            Self::Waiting(waiting) => waiting.strong_count() == 0,
        }
    }
}

impl Seat {
    /// Sends a delta if there is room. False: keep it for later.
    pub(super) fn offer(&self, delta: Delta) -> bool {
        self.sender.try_send((self.candidate, StepEvent::Delta(delta))).is_ok()
    }

    /// Sends the last events, of which only the very last is an end.
    pub(super) fn end(mut self, deltas: impl IntoIterator<Item = Delta>, last: StepEvent) {
        debug_assert!(!matches!(last, StepEvent::Delta(_)), "a candidate ends with an end");
        let mut permits = std::mem::take(&mut self.permits);
        let end = permits.pop().expect("a seat ends once");
        for (delta, permit) in deltas.into_iter().zip(permits) {
            permit.send((self.candidate, StepEvent::Delta(delta)));
        }
        end.send((self.candidate, last));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(end) = self.permits.pop() {
            let failure = Failure::new(FailureKind::Unavailable, "the engine stopped before this candidate was done");
            end.send((self.candidate, StepEvent::Failed(failure)));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::to_raw_value;

    use super::*;

    fn delta(text: &str) -> Delta {
        Delta { fields: to_raw_value(text).unwrap(), logprobs: None }
    }

    fn failed() -> StepEvent {
        StepEvent::Failed(Failure::new(FailureKind::Internal, "end"))
    }

    #[test]
    fn deltas_never_take_the_room_of_the_last_events() {
        let (mut seats, watch, mut receiver) = open([7, 8].into_iter(), true);
        let sent = (0..1000).take_while(|_| seats[0].offer(delta("x"))).count();
        assert_eq!(sent, DELTA_ROOM);
        for seat in seats.drain(..) {
            seat.end([delta("a"), delta("b"), delta("c")], failed());
        }
        drop(watch);
        let mut events = Vec::new();
        while let Some(event) = receiver.blocking_recv() {
            events.push(event);
        }
        assert_eq!(events.len(), DELTA_ROOM + 8);
        assert!(matches!(events.last(), Some((8, StepEvent::Failed(_)))));
    }

    #[test]
    fn a_seat_dropped_without_an_end_says_that_it_failed() {
        let (seats, _, mut receiver) = open([3].into_iter(), false);
        drop(seats);
        assert!(matches!(receiver.blocking_recv(), Some((3, StepEvent::Failed(_)))));
        assert!(receiver.blocking_recv().is_none());
    }

    #[test]
    fn a_closed_receiver_still_gets_the_ends_and_a_dropped_one_does_no_harm() {
        let (mut seats, watch, mut receiver) = open([0, 1].into_iter(), true);
        assert!(!watch.is_abandoned());
        receiver.close();
        assert!(watch.is_abandoned());
        assert!(!seats[0].offer(delta("x")));
        seats.remove(0).end([], failed());
        assert!(matches!(receiver.blocking_recv(), Some((0, _))));
        drop(receiver);
        seats.remove(0).end([delta("x")], failed());
    }
}
