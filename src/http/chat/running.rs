//! The requests that run, by the names that their clients know them by, so that they can be told to end.
//!
//! A request is known under its request id, which a client may have chosen and used more than once, and under
//! the id of its completion, which is the daemon's. It is known as long as its ticket lives.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Path};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

use crate::http::AppState;
use crate::http::error::ApiError;

/// The requests that run. Cheap to clone; every clone is the same register.
#[derive(Debug, Default, Clone)]
pub struct Running {
    by_name: Arc<Mutex<HashMap<String, Vec<Order>>>>,
    /// The daemon stops: whatever runs or comes now ends at once.
    is_closed: Arc<AtomicBool>,
}

/// Why a running request is to end before it has an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interruption {
    /// A client asked for it.
    Cancelled,
    /// The daemon stops, and the time to finish is over.
    Stopping,
    /// Its client has read nothing of the answer for too long.
    Unread,
}

/// The order to end, which one request waits for. Cheap to clone; the first reason that is given stays.
#[derive(Debug, Clone, Default)]
pub struct Order {
    given: Arc<watch::Sender<Option<Interruption>>>,
    is_closed: Arc<AtomicBool>,
}

/// One who waits for an order again and again.
#[derive(Debug)]
pub struct Listener {
    order: Order,
    given: watch::Receiver<Option<Interruption>>,
}

/// A running request's place in the register, given up when it is dropped.
#[derive(Debug)]
pub struct Ticket {
    running: Running,
    names: Vec<String>,
    order: Order,
}

#[derive(Serialize)]
struct Cancelled<'a> {
    status: &'static str,
    request_id: &'a str,
    /// How many requests had this id.
    requests: usize,
}

/// `POST /v1/chat/cancel/{request_id}`: ends the running requests of that id, which is a request's or a
/// completion's, with all of their calls.
pub async fn cancel(state: Data<AppState>, id: Path<String>) -> Result<HttpResponse, ApiError> {
    match state.running.cancel(&id) {
        0 => Err(ApiError::new(
            StatusCode::NOT_FOUND,
            "invalid_request_error",
            Some("request_not_found"),
            Some("request_id".to_owned()),
            format!(
                "no running request has the id {:?}; it has ended, or never was: give the x-request-id or the \
                 completion's id of a request that still runs",
                id.as_str()
            ),
        )),
        requests => Ok(HttpResponse::Ok().json(Cancelled { status: "cancelled", request_id: &id, requests })),
    }
}

impl Running {
    /// Makes a request known under its names.
    pub fn register(&self, names: [String; 2]) -> Ticket {
        let order = Order { given: Arc::default(), is_closed: Arc::clone(&self.is_closed) };
        let mut by_name = self.by_name.lock();
        for name in &names {
            by_name.entry(name.clone()).or_default().push(order.clone());
        }
        drop(by_name);
        Ticket { running: self.clone(), names: names.into(), order }
    }

    /// Ends every request that runs, and those that are still to come.
    pub fn close(&self) {
        // All of them know of it before the first ends, so that none takes over what another lets go of.
        self.is_closed.store(true, Ordering::SeqCst);
        for order in self.by_name.lock().values().flatten() {
            order.give(Interruption::Stopping);
        }
    }

    /// Gives every request of this name the order to end, and returns how many those are.
    fn cancel(&self, name: &str) -> usize {
        let orders = self.by_name.lock().get(name).cloned().unwrap_or_default();
        for order in &orders {
            order.give(Interruption::Cancelled);
        }
        orders.len()
    }
}

impl Order {
    pub fn give(&self, why: Interruption) {
        self.given.send_if_modified(|given| given.is_none() && given.replace(why).is_none());
    }

    /// Waits for the order.
    ///
    /// # Cancel safety
    ///
    /// An order is not lost.
    pub async fn given(&self) -> Interruption {
        self.listener().given().await
    }

    /// Who waits more than once needs only one of these.
    pub fn listener(&self) -> Listener {
        Listener { order: self.clone(), given: self.given.subscribe() }
    }

    /// The order, if it is given already.
    pub fn is_given(&self) -> Option<Interruption> {
        let given = *self.given.borrow();
        given.or_else(|| self.is_closed.load(Ordering::SeqCst).then_some(Interruption::Stopping))
    }

    /// Drives the future until it ends or the order is given, which drops it.
    ///
    /// # Errors
    ///
    /// The order, also where both come at once.
    ///
    /// # Cancel safety
    ///
    /// As the future.
    pub async fn or<T>(&self, future: impl Future<Output = T>) -> Result<T, Interruption> {
        tokio::select! {
            biased;
            why = self.given() => Err(why),
            output = future => Ok(output),
        }
    }
}

impl Listener {
    /// Waits for the order, as [`Order::given`] does.
    pub async fn given(&mut self) -> Interruption {
        let Self { order, given } = self;
        let mut ordered = pin!(given.wait_for(Option::is_some));
        poll_fn(|context| {
            if let Some(why) = order.is_given() {
                return Poll::Ready(why);
            }
            ordered.as_mut().poll(context).map(|why| {
                let why = why.ok().and_then(|why| *why);
                why.expect("the sender lives as long as this order, and was waited for")
            })
        })
        .await
    }
}

impl Ticket {
    /// Makes the request known under one more name, which came to light while it ran.
    pub fn add_name(&mut self, name: String) {
        if !self.names.contains(&name) {
            let mut by_name = self.running.by_name.lock();
            by_name.entry(name.clone()).or_default().push(self.order.clone());
            drop(by_name);
            self.names.push(name);
        }
    }

    pub fn order(&self) -> &Order {
        &self.order
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut by_name = self.running.by_name.lock();
        for name in &self.names {
            if let Some(orders) = by_name.get_mut(name) {
                orders.retain(|order| !Arc::ptr_eq(&order.given, &self.order.given));
                if orders.is_empty() {
                    by_name.remove(name);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(request: &str, completion: &str) -> [String; 2] {
        [request.to_owned(), completion.to_owned()]
    }

    fn given(ticket: &Ticket) -> Option<Interruption> {
        ticket.order.is_given()
    }

    #[test]
    fn a_request_is_known_by_either_name_as_long_as_it_runs() {
        let running = Running::default();
        let ticket = running.register(names("r", "c"));
        assert_eq!((running.cancel("x"), given(&ticket)), (0, None));
        assert_eq!((running.cancel("c"), given(&ticket)), (1, Some(Interruption::Cancelled)));
        drop(ticket);
        assert_eq!((running.cancel("r"), running.cancel("c")), (0, 0));
        assert!(running.by_name.lock().is_empty(), "nothing is kept of a request that has ended");
    }

    #[test]
    fn a_name_that_comes_late_is_as_good_and_is_given_up_with_the_others() {
        let running = Running::default();
        let mut ticket = running.register(names("r", "c"));
        ticket.add_name("u".to_owned());
        ticket.add_name("c".to_owned());
        assert_eq!((running.cancel("u"), running.cancel("c")), (1, 1));
        drop(ticket);
        assert!(running.by_name.lock().is_empty());
    }

    #[test]
    fn requests_that_share_a_name_are_told_apart_by_the_other() {
        let running = Running::default();
        let (one, other) = (running.register(names("r", "c1")), running.register(names("r", "c2")));
        assert_eq!(running.cancel("c2"), 1);
        assert_eq!((given(&one), given(&other)), (None, Some(Interruption::Cancelled)));
        drop(other);
        assert_eq!((running.cancel("r"), given(&one)), (1, Some(Interruption::Cancelled)));
    }
    #[test]
    fn whatever_runs_or_comes_later_ends_when_the_daemon_does() {
        let running = Running::default();
        let (early, cancelled) = (running.register(names("r", "c1")), running.register(names("s", "c2")));
        running.cancel("s");
        running.close();
        let late = running.register(names("r", "c3"));
        assert_eq!((given(&early), given(&late)), (Some(Interruption::Stopping), Some(Interruption::Stopping)));
        assert_eq!(given(&cancelled), Some(Interruption::Cancelled), "what was said first stays");
    }

    #[tokio::test]
    async fn an_order_is_heard_whether_it_comes_before_or_after_the_listener() {
        let order = Order::default();
        let listener = tokio::spawn({
            let order = order.clone();
            async move { order.given().await }
        });
        tokio::task::yield_now().await;
        order.give(Interruption::Unread);
        assert_eq!((listener.await.unwrap(), order.given().await), (Interruption::Unread, Interruption::Unread));
    }
}
