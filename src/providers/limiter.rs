//! Places among the calls in flight to one upstream, handed out fairly and with a bounded queue.
//!
//! Requests take turns: each freed place goes to the next request in a ring, whichever of its calls has waited longest,
//! so that one of a thousand candidates does not stand before one of a single call. A queue that is full says so at
//! once. Nothing here blocks a thread.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// The request on whose behalf calls are made. Its clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    request: Arc<Request>,
    deadline: Option<Instant>,
}

#[derive(Debug, Default)]
struct Request {
    /// It has had a place, here or elsewhere. It is not turned away any more, since that would waste what it has spent.
    was_let_in: AtomicBool,
}

/// How many calls there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Calls in flight, at least 1.
    pub n_parallel: usize,
    /// Requests that may wait when another wants to.
    pub max_queued: usize,
}

/// As many requests wait as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QueueFull(pub Limits);

/// What is going on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    /// Calls in flight.
    pub in_flight: usize,
    /// Calls that wait.
    pub queued_calls: usize,
    /// The requests that these are of.
    pub queued_requests: usize,
}

/// Hands out places.
#[derive(Debug)]
pub(super) struct Limiter {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limits: Limits,
    in_flight: usize,
    /// The requests with calls that wait, the next first.
    ring: VecDeque<RequestId>,
    lines: HashMap<RequestId, VecDeque<Waiter>>,
    next_number: u64,
}

/// The address of a request: whoever waits holds it, so that no other can come to lie there.
type RequestId = usize;

#[derive(Debug)]
struct Waiter {
    number: u64,
    turn: oneshot::Sender<()>,
}

impl Caller {
    /// The same request, which waits until then.
    #[must_use]
    pub fn until(&self, deadline: Option<Instant>) -> Self {
        Self { request: Arc::clone(&self.request), deadline }
    }

    /// When it does not wait any more.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether the request has had a place, here or elsewhere.
    pub(super) fn was_let_in(&self) -> bool {
        self.request.was_let_in.load(Ordering::Relaxed)
    }

    fn id(&self) -> RequestId {
        Arc::as_ptr(&self.request).addr()
    }
}

impl Limiter {
    pub fn new(limits: Limits) -> Self {
        let state = State { limits, in_flight: 0, ring: VecDeque::new(), lines: HashMap::new(), next_number: 0 };
        Self { state: Mutex::new(state) }
    }

    /// Holds to other limits from now on. Nobody who is inside or waits is turned away.
    pub fn limit(&self, limits: Limits) {
        let mut state = self.state.lock();
        state.limits = limits;
        state.hand_out();
    }

    /// Waits for a place.
    ///
    /// # Errors
    ///
    /// At once, when there is none, as many requests wait as may, and this one has never had one.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue.
    pub async fn place(self: &Arc<Self>, caller: &Caller) -> Result<Place, QueueFull> {
        let Some(mut waiting) = self.enter(caller)? else { return Ok(self.taken(caller)) };
        // The sender stays in the queue for as long as the waiting lasts.
        let _ = (&mut waiting.turn).await;
        waiting.is_over = true;
        Ok(self.taken(caller))
    }

    pub fn traffic(&self) -> Traffic {
        let state = self.state.lock();
        Traffic {
            in_flight: state.in_flight,
            queued_calls: state.lines.values().map(VecDeque::len).sum(),
            queued_requests: state.lines.len(),
        }
    }

    /// Calls in flight or waiting.
    pub fn load(&self) -> usize {
        let Traffic { in_flight, queued_calls, .. } = self.traffic();
        in_flight + queued_calls
    }

    /// Takes a free place, which is `None`, or a position in the queue.
    fn enter(self: &Arc<Self>, caller: &Caller) -> Result<Option<Waiting>, QueueFull> {
        let mut state = self.state.lock();
        if state.in_flight < state.limits.n_parallel {
            state.in_flight += 1;
            return Ok(None);
        }
        let id = caller.id();
        let is_new = !caller.was_let_in() && !state.lines.contains_key(&id);
        if is_new && state.lines.len() >= state.limits.max_queued {
            return Err(QueueFull(state.limits));
        }
        let (sender, turn) = oneshot::channel();
        let number = state.next_number;
        state.next_number += 1;
        let line = state.lines.entry(id).or_default();
        line.push_back(Waiter { number, turn: sender });
        if line.len() == 1 {
            state.ring.push_back(id);
        }
        let limiter = Arc::clone(self);
        Ok(Some(Waiting { limiter, caller: caller.clone(), number, turn, is_over: false }))
    }

    fn taken(self: &Arc<Self>, caller: &Caller) -> Place {
        caller.request.was_let_in.store(true, Ordering::Relaxed);
        Place(Arc::clone(self))
    }
}

impl State {
    /// Gives every free place to whose turn it is.
    fn hand_out(&mut self) {
        while self.in_flight < self.limits.n_parallel {
            let Some(id) = self.ring.pop_front() else { return };
            let line = self.lines.get_mut(&id).expect("a request in the ring has calls that wait");
            let first = line.pop_front().expect("a request in the ring has calls that wait");
            if line.is_empty() {
                self.lines.remove(&id);
            } else {
                self.ring.push_back(id);
            }
            // Who leaves the queue takes the sender out of it first, so that there is somebody to hear it.
            if first.turn.send(()).is_ok() {
                self.in_flight += 1;
            }
        }
    }

    fn free(&mut self) {
        self.in_flight -= 1;
        self.hand_out();
    }

    fn leave(&mut self, id: RequestId, number: u64) {
        let Some(line) = self.lines.get_mut(&id) else { return };
        line.retain(|waiter| waiter.number != number);
        if line.is_empty() {
            self.lines.remove(&id);
            self.ring.retain(|other| *other != id);
        }
    }
}

/// A place among the calls in flight. Dropping it makes room for the next.
#[derive(Debug)]
pub(super) struct Place(Arc<Limiter>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.state.lock().free();
    }
}

/// A position in the queue, or a place that was handed out and not taken yet.
struct Waiting {
    limiter: Arc<Limiter>,
    caller: Caller,
    number: u64,
    turn: oneshot::Receiver<()>,
    /// The place was taken, and is another's to give back.
    is_over: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        // Places are handed out under the lock, so that it is settled which of the two this is.
        let mut state = self.limiter.state.lock();
        match self.turn.try_recv() {
            Ok(()) => state.free(),
            Err(_) => state.leave(self.caller.id(), self.number),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use futures_util::FutureExt;

    use super::*;

    type Waits = Pin<Box<dyn Future<Output = Result<Place, QueueFull>> + Send>>;

    fn limiter(n_parallel: usize, max_queued: usize) -> Arc<Limiter> {
        Arc::new(Limiter::new(Limits { n_parallel, max_queued }))
    }

    fn wait(limiter: &Arc<Limiter>, caller: &Caller) -> Waits {
        let (limiter, caller) = (Arc::clone(limiter), caller.clone());
        let mut waits: Waits = Box::pin(async move { limiter.place(&caller).await });
        assert!(waits.as_mut().now_or_never().is_none(), "there is no place");
        waits
    }

    fn take(limiter: &Arc<Limiter>, caller: &Caller) -> Place {
        limiter.place(caller).now_or_never().expect("there is a place").unwrap()
    }

    fn came(waits: &mut Waits) -> Option<Place> {
        waits.as_mut().now_or_never().map(Result::unwrap)
    }

    #[test]
    fn requests_take_turns_however_many_calls_each_has() {
        let limiter = limiter(1, 10);
        let [big, small, other] = [(); 3].map(|()| Caller::default());
        let held = take(&limiter, &big);
        let mut of_big: Vec<Waits> = (0..63).map(|_| wait(&limiter, &big)).collect();
        let mut of_small = wait(&limiter, &small);
        let mut of_other: Vec<Waits> = (0..2).map(|_| wait(&limiter, &other)).collect();
        let traffic = Traffic { in_flight: 1, queued_calls: 66, queued_requests: 3 };
        assert_eq!((limiter.traffic(), limiter.load()), (traffic, 67));
        drop(held);
        drop(came(&mut of_big[0]).expect("its first call was first in line"));
        drop(came(&mut of_small).expect("the next request is next"));
        drop(came(&mut of_other[0]).expect("and the one after it"));
        drop(came(&mut of_big[1]).expect("then it is the first one's turn again"));
        drop(came(&mut of_other[1]).expect("and the other's"));
        for waits in &mut of_big[2..] {
            drop(came(waits).expect("it is alone now"));
        }
        assert_eq!(limiter.traffic(), Traffic::default());
    }

    #[test]
    fn a_full_queue_refuses_new_requests_at_once_but_none_that_is_in() {
        let limiter = limiter(1, 1);
        let [inside, waiting, new] = [(); 3].map(|()| Caller::default());
        let held = take(&limiter, &inside);
        let _first = wait(&limiter, &waiting);
        let full = QueueFull(Limits { n_parallel: 1, max_queued: 1 });
        assert_eq!(limiter.place(&new).now_or_never().unwrap().unwrap_err(), full);
        let _second = wait(&limiter, &waiting);
        let _more = wait(&limiter, &inside);
        drop(held);
        assert_eq!(limiter.traffic().queued_requests, 2);
        assert_eq!(limiter.place(&new).now_or_never().unwrap().unwrap_err(), full);
    }

    #[test]
    fn without_a_queue_a_request_is_served_if_there_is_a_place_and_all_of_its_calls_are() {
        let limiter = limiter(2, 0);
        let [first, second] = [(); 2].map(|()| Caller::default());
        let held = [take(&limiter, &first), take(&limiter, &first)];
        let mut third = wait(&limiter, &first);
        assert!(limiter.place(&second).now_or_never().unwrap().is_err());
        drop(held);
        drop(came(&mut third));
        drop(take(&limiter, &second));
    }

    #[test]
    fn who_leaves_the_queue_or_a_place_just_handed_out_makes_room() {
        let limiter = limiter(1, 10);
        let [a, b, c] = [(); 3].map(|()| Caller::default());
        let held = take(&limiter, &a);
        let (leaves, gives_back, mut stays) = (wait(&limiter, &a), wait(&limiter, &b), wait(&limiter, &c));
        drop(leaves);
        assert_eq!(limiter.traffic().queued_requests, 2);
        drop(held);
        assert!(came(&mut stays).is_none());
        // It has been handed the place, and goes before it has heard of it.
        drop(gives_back);
        drop(came(&mut stays).expect("it was given on"));
        assert_eq!(limiter.traffic(), Traffic::default());
        drop(take(&limiter, &a));
    }

    #[test]
    fn a_new_limit_resets_nobody() {
        let limiter = limiter(1, 10);
        let [a, b] = [(); 2].map(|()| Caller::default());
        let held = take(&limiter, &a);
        let mut waits = [wait(&limiter, &b), wait(&limiter, &b)];
        limiter.limit(Limits { n_parallel: 2, max_queued: 0 });
        let second = came(&mut waits[0]).expect("there is room for one more");
        assert!(came(&mut waits[1]).is_none());
        limiter.limit(Limits { n_parallel: 1, max_queued: 0 });
        drop(second);
        assert!(came(&mut waits[1]).is_none(), "there were two, and now there may be one");
        drop(held);
        drop(came(&mut waits[1]).expect("its turn has come"));
    }
}
