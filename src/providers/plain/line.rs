//! One connection, over which one question is asked after the other.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use futures_util::future::poll_fn;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Connection, SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::unconstrained;

use crate::providers::payload::Payload;

/// A connection that moves only while it is driven.
#[derive(Debug)]
pub(super) struct Line {
    sender: SendRequest<Payload>,
    /// `None` once it has ended. Dropping it closes it.
    connection: Option<Box<Connection<TokioIo<TcpStream>, Payload>>>,
}

impl Line {
    pub async fn new(connected: TokioIo<TcpStream>) -> hyper::Result<Self> {
        let (sender, connection) = handshake(connected).await?;
        Ok(Self { sender, connection: Some(Box::new(connection)) })
    }

    /// Sends a request and drives the connection until the head of the answer is here.
    ///
    /// # Errors
    ///
    /// When the connection breaks; with the request, if it was not on its way yet.
    pub async fn ask(
        &mut self,
        request: Request<Payload>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Payload>>> {
        let mut answer = pin!(self.sender.try_send_request(request));
        poll_fn(|context| {
            self.drive(context);
            // It comes about while the connection is driven, and never by itself: nobody need be woken for it.
            let mut answer = unconstrained(answer.as_mut());
            Pin::new(&mut answer).poll(&mut Context::from_waker(Waker::noop()))
        })
        .await
    }

    /// Moves on as far as it goes without waiting.
    pub fn drive(&mut self, context: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            && Pin::new(&mut **connection).poll(context).is_ready()
        {
            // Its call has been told how it ended.
            self.connection = None;
        }
    }

    /// Whether it could take another request: the last one is answered to the end, and neither side has closed it. It
    /// wakes nobody from now on until it is driven again.
    pub fn is_at_rest(&mut self) -> bool {
        // Many are looked at in a row, and none for longer than it takes to see that nothing has come.
        let mut drive = pin!(unconstrained(poll_fn(|_| {
            self.drive(&mut Context::from_waker(Waker::noop()));
            Poll::Ready(())
        })));
        let _ = drive.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        self.connection.is_some() && self.sender.is_ready()
    }
}
