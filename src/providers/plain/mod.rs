//! HTTP/1.1 over connections that are not secured, driven by the very calls that use them.
//!
//! Usually a task serves each connection, and a call is handed its answer by that task: for one answer the two wake each
//! other some four times, and where many answers arrive at once, each of them is moved on a little before any is whole.
//! Here whoever waits for an answer reads it from the connection himself. Between calls a connection rests in a pool,
//! where it is looked at once a second.

mod gunzip;
mod line;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tower_service::Service as _;
use url::Url;

use self::gunzip::Gunzip;
use self::line::Line;
use super::http_error::HttpError;
use super::lookup::Lookup;
use super::payload::Payload;

/// Who calls, in the words of HTTP.
pub(super) const AGENT: &str = concat!("itsd/", env!("CARGO_PKG_VERSION"));
/// A connection that nobody has used for so long is closed.
const LONGEST_REST: Duration = Duration::from_secs(90);
/// A connection over which nothing comes is asked for a sign of life after this time and again after as long, three times;
/// one whose other end acknowledges nothing is given up after [`UNACKNOWLEDGED`]. As reqwest has it.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const KEEP_ALIVE_TRIES: u32 = 3;
#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);
/// Connections at rest are looked at so often: servers close them too.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// Where a request goes, in the forms in which it is wanted.
#[derive(Debug, Clone)]
pub(super) struct Address {
    whole: Uri,
    /// The path and the query, which are all that the server is told in the first line.
    path: Uri,
    host: HeaderValue,
    /// Host and port, by which connections rest.
    place: Arc<str>,
}

/// Connections to any addresses, and the means to make more. Cheap to clone; every clone is the same connections.
#[derive(Debug, Clone)]
pub(super) struct Client(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    connector: HttpConnector<Lookup>,
    connect_timeout: Duration,
    resting: Mutex<Resting>,
}

/// Connections that serve nobody at the moment.
#[derive(Debug, Default)]
struct Resting {
    /// By host and port; the last used last.
    lines: HashMap<Arc<str>, Vec<(Line, Instant)>>,
    /// A task looks after them.
    is_watched: bool,
}

/// The body of an answer. Dropping it before its end closes the connection.
#[derive(Debug)]
pub(super) struct Body {
    incoming: Incoming,
    /// What it is read from, until its end is here.
    line: Option<Line>,
    home: Arc<Shared>,
    place: Arc<str>,
    gunzip: Option<Box<Gunzip>>,
}

impl Address {
    /// `None` for what is no address of HTTP's, however good a URL it is.
    pub fn new(url: &Url) -> Option<Self> {
        let whole: Uri = url.as_str().parse().ok()?;
        // Without what may stand before an @.
        let authority = match url.port() {
            Some(port) => format!("{}:{port}", url.host_str()?),
            None => url.host_str()?.to_owned(),
        };
        let (host, place) = (HeaderValue::from_str(&authority).ok()?, authority.into());
        let path = whole.path_and_query()?.clone().into();
        Some(Self { whole, path, host, place })
    }
}

/// Adds the headers that every request to this address has, where they do not stand there already.
pub(super) fn dress(headers: &mut HeaderMap, address: &Address) {
    for (name, value) in [
        (HOST, &address.host),
        (USER_AGENT, &HeaderValue::from_static(AGENT)),
        (ACCEPT, &HeaderValue::from_static("*/*")),
        (ACCEPT_ENCODING, &HeaderValue::from_static("gzip")),
    ] {
        headers.entry(name).or_insert_with(|| value.clone());
    }
}

impl Client {
    pub fn new(lookup: Lookup, connect_timeout: Duration) -> Self {
        let mut connector = HttpConnector::new_with_resolver(lookup);
        connector.set_nodelay(true);
        // Divided among the addresses of a name, so that one of them which is dead leaves time for the next.
        connector.set_connect_timeout(Some(connect_timeout));
        connector.set_keepalive(Some(KEEP_ALIVE));
        connector.set_keepalive_interval(Some(KEEP_ALIVE));
        connector.set_keepalive_retries(Some(KEEP_ALIVE_TRIES));
        #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
        connector.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
        Self(Arc::new(Shared { connector, connect_timeout, resting: Mutex::default() }))
    }

    /// Sends a request to an address, and waits for the head of the answer. A connection that turns out to
    /// have been closed before the request was on its way is replaced by another.
    ///
    /// # Errors
    ///
    /// When there is no connection, or it breaks.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn send(&self, address: &Address, mut request: Request<Payload>) -> Result<Response<Body>, HttpError> {
        dress(request.headers_mut(), address);
        *request.uri_mut() = address.path.clone();
        let (line, answer) = loop {
            let rested = self.0.resting.lock().take(&address.place);
            let has_rested = rested.is_some();
            let mut line = match rested {
                Some(line) => line,
                None => self.connect(&address.whole).await?,
            };
            match line.ask(request).await {
                Ok(answer) => break (line, answer),
                Err(mut error) => match error.take_message() {
                    Some(unsent) if has_rested => request = unsent,
                    _ => return Err(HttpError::Broken(error.into_error())),
                },
            }
        };
        let is_packed = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"gzip");
        let gunzip = answer.headers().get(CONTENT_ENCODING).is_some_and(is_packed).then(Box::default);
        let mut answer = answer;
        if gunzip.is_some() {
            // They say how it was sent, and it is given otherwise.
            answer.headers_mut().remove(CONTENT_ENCODING);
            answer.headers_mut().remove(CONTENT_LENGTH);
        }
        let (home, place) = (Arc::clone(&self.0), Arc::clone(&address.place));
        Ok(answer.map(|incoming| Body { incoming, line: Some(line), home, place, gunzip }))
    }

    async fn connect(&self, whole: &Uri) -> Result<Line, HttpError> {
        let mut connector = self.0.connector.clone();
        let connected = timeout(self.0.connect_timeout, connector.call(whole.clone())).await;
        let connection =
            connected.map_err(|_| HttpError::ConnectTimeout)?.map_err(|error| HttpError::Unconnected(error.into()))?;
        Line::new(connection).await.map_err(HttpError::Broken)
    }
}

impl Body {
    /// The next of what the server has sent.
    fn poll_sent(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        // It, too, comes about while the connection is driven.
        let mut nobody = Context::from_waker(Waker::noop());
        let here = Pin::new(&mut self.incoming).poll_frame(&mut nobody);
        let sent = match (here, &mut self.line) {
            (Poll::Pending, Some(line)) => {
                line.drive(context);
                ready!(Pin::new(&mut self.incoming).poll_frame(&mut nobody))
            }
            (here, _) => ready!(here),
        };
        if sent.is_none()
            && let Some(line) = self.line.take()
        {
            self.home.rest(&self.place, line);
        }
        Poll::Ready(sent)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = self.get_mut();
        if this.gunzip.is_none() {
            return this.poll_sent(context).map_err(HttpError::Broken);
        }
        loop {
            let gunzip = this.gunzip.as_mut().expect("it stays what it is");
            if let Some(piece) = gunzip.next().map_err(HttpError::Packed)? {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if gunzip.is_over() {
                return Poll::Ready(None);
            }
            match ready!(this.poll_sent(context)) {
                Some(Ok(frame)) => {
                    if let (Ok(packed), Some(gunzip)) = (frame.into_data(), &mut this.gunzip) {
                        gunzip.push(packed);
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(HttpError::Broken(error)))),
                None => this.gunzip.as_mut().expect("it stays what it is").end(),
            }
        }
    }
}

impl Shared {
    /// Lets a connection that has served its call rest until the next, unless it has ended with that.
    fn rest(self: &Arc<Self>, place: &Arc<str>, mut line: Line) {
        if !line.is_at_rest() {
            return;
        }
        let mut resting = self.resting.lock();
        resting.lines.entry(Arc::clone(place)).or_default().push((line, Instant::now()));
        if !std::mem::replace(&mut resting.is_watched, true) {
            tokio::spawn(watch(Watcher(Arc::downgrade(self))));
        }
    }
}

impl Resting {
    /// The connection to a host and port that was used last, which servers are the least likely to have closed.
    fn take(&mut self, place: &str) -> Option<Line> {
        self.lines.get_mut(place)?.pop().map(|(line, _)| line)
    }

    /// Drops those that their server has closed, or that have rested for long.
    fn clear(&mut self, now: Instant) {
        self.lines.retain(|_, lines| {
            lines.retain_mut(|(line, since)| now.duration_since(*since) < LONGEST_REST && line.is_at_rest());
            !lines.is_empty()
        });
    }
}

/// Who looks after connections at rest. It ends when there are none, and with the runtime that its connections live on.
struct Watcher(Weak<Shared>);

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.resting.lock().is_watched = false;
        }
    }
}

async fn watch(mut watcher: Watcher) {
    loop {
        sleep(BETWEEN_LOOKS).await;
        let Some(shared) = watcher.0.upgrade() else { return };
        let mut resting = shared.resting.lock();
        resting.clear(Instant::now());
        if resting.lines.is_empty() {
            resting.is_watched = false;
            // Whoever comes after this has another watch, and it is not for this one to call it off.
            watcher.0 = Weak::new();
            return;
        }
    }
}

#[cfg(test)]
mod tests;
