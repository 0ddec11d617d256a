//! The requests that run, by the names that their clients know them by, so that they can be cancelled.
//!
//! A request is known under its request id, which a client may have chosen and used more than once, and under
//! the id of its completion, which is the daemon's. It is known as long as its ticket lives.

use std::collections::HashMap;
use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Path};
use parking_lot::Mutex;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::http::AppState;
use crate::http::error::ApiError;

/// The requests that run. Cheap to clone; every clone is the same register.
#[derive(Debug, Default, Clone)]
pub struct Running {
    by_name: Arc<Mutex<HashMap<String, Vec<Arc<CancellationToken>>>>>,
}

/// A running request's place in the register, given up when it is dropped.
#[derive(Debug)]
pub struct Ticket {
    running: Running,
    names: Vec<String>,
    order: Arc<CancellationToken>,
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
        let order = Arc::new(CancellationToken::new());
        let mut by_name = self.by_name.lock();
        for name in &names {
            by_name.entry(name.clone()).or_default().push(Arc::clone(&order));
        }
        drop(by_name);
        Ticket { running: self.clone(), names: names.into(), order }
    }

    /// Gives every request of this name the order to end, and returns how many those are.
    fn cancel(&self, name: &str) -> usize {
        let orders = self.by_name.lock().get(name).cloned().unwrap_or_default();
        for order in &orders {
            order.cancel();
        }
        orders.len()
    }
}

impl Ticket {
    /// Makes the request known under one more name, which came to light while it ran.
    pub fn add_name(&mut self, name: String) {
        if !self.names.contains(&name) {
            let mut by_name = self.running.by_name.lock();
            by_name.entry(name.clone()).or_default().push(Arc::clone(&self.order));
            drop(by_name);
            self.names.push(name);
        }
    }

    /// Waits for the order to end.
    ///
    /// # Cancel safety
    ///
    /// An order is not lost.
    pub async fn cancelled(&self) {
        self.order.cancelled().await;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut by_name = self.running.by_name.lock();
        for name in &self.names {
            if let Some(orders) = by_name.get_mut(name) {
                orders.retain(|order| !Arc::ptr_eq(order, &self.order));
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

    #[test]
    fn a_request_is_known_by_either_name_as_long_as_it_runs() {
        let running = Running::default();
        let ticket = running.register(names("r", "c"));
        assert_eq!((running.cancel("x"), ticket.order.is_cancelled()), (0, false));
        assert_eq!((running.cancel("c"), ticket.order.is_cancelled()), (1, true));
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
        assert_eq!((one.order.is_cancelled(), other.order.is_cancelled()), (false, true));
        drop(other);
        assert_eq!((running.cancel("r"), one.order.is_cancelled()), (1, true));
    }
}
