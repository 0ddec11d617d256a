//! A load that does not wait: requests arrive at random moments of their own (a Poisson process), whether or not those
//! before have been answered. A latency counts from the moment at which its request was due, so that whatever keeps the
//! service busy is seen by all who would have asked meanwhile.
//!
//! Load tools that pace by a timer of a millisecond send bursts instead, whose last requests wait for the first; what
//! they measure is the burst.
//!
//! `cargo bench --bench open_loop -- ADDRESS REQUESTS_PER_SECOND SECONDS BODY` posts BODY to ADDRESS/v1/chat/completions
//! and prints one line: requests a second, p50 and p99 in microseconds.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;
use tokio::runtime;

/// Requests that may be under way at once; further ones wait, and their latency counts from when they were due.
const CONNECTIONS: usize = 64;
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
const USAGE: &str = "ADDRESS REQUESTS_PER_SECOND SECONDS BODY";

/// What the two threads share: one sends what is due, the other reads what comes.
struct Desk {
    state: Mutex<State>,
    /// A connection is free again.
    freed: Condvar,
}

struct State {
    free: Vec<usize>,
    /// When the request was due that each connection carries.
    due: Vec<Instant>,
    latencies: Vec<Duration>,
}

fn main() {
    // Cargo adds a word of its own.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let [address, rate, seconds, body] = words.as_slice() else { panic!("wants {USAGE}") };
    let rate: f64 = rate.parse().expect("a number of requests");
    let seconds: f64 = seconds.parse().expect("a number of seconds");
    let authority = address.strip_prefix("http://").expect("an address that begins with http://");
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {authority}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );

    let mut senders: Vec<TcpStream> = (0..CONNECTIONS).map(|_| connect(authority)).collect();
    let readers: Vec<TcpStream> =
        senders.iter().map(|sender| sender.try_clone().expect("a connection has two ends")).collect();
    let state = State { free: (0..CONNECTIONS).collect(), due: vec![Instant::now(); CONNECTIONS], latencies: vec![] };
    let desk = Arc::new(Desk { state: Mutex::new(state), freed: Condvar::new() });
    let reading = Arc::clone(&desk);
    thread::spawn(move || read_all(readers, &reading));

    // The same arrivals for whoever is measured.
    let mut random = StdRng::seed_from_u64(0);
    let begun = Instant::now();
    let mut due = begun;
    let mut sent = 0;
    loop {
        let interval = -(1.0 - random.random::<f64>()).ln() / rate;
        due += Duration::from_secs_f64(interval);
        if due.duration_since(begun).as_secs_f64() > seconds {
            break;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let connection = desk.take(due);
        senders[connection].write_all(request.as_bytes()).expect("the service takes the request");
        sent += 1;
    }
    let mut latencies = desk.all(sent);
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    println!("{:.1} {:.1} {:.1}", sent as f64 / seconds, at(0.50), at(0.99));
}

impl Desk {
    /// A free connection for a request that is due, as soon as there is one.
    fn take(&self, due: Instant) -> usize {
        let deadline = due + PATIENCE;
        let mut state = self.state.lock();
        loop {
            if let Some(connection) = state.free.pop() {
                state.due[connection] = due;
                return connection;
            }
            let is_late = self.freed.wait_until(&mut state, deadline).timed_out();
            assert!(!is_late, "the service answers no more");
        }
    }

    /// The answer that a connection has carried is here.
    fn answered(&self, connection: usize) {
        let now = Instant::now();
        let mut state = self.state.lock();
        let latency = now.duration_since(state.due[connection]);
        state.latencies.push(latency);
        // The one that has rested longest goes last, so that all of them are used.
        state.free.insert(0, connection);
        self.freed.notify_one();
    }

    /// The latencies of all that was sent, when the last answer is here.
    fn all(&self, sent: usize) -> Vec<Duration> {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state.lock();
        while state.latencies.len() < sent {
            let is_late = self.freed.wait_until(&mut state, deadline).timed_out();
            assert!(!is_late, "{} of {sent} requests were answered", state.latencies.len());
        }
        std::mem::take(&mut state.latencies)
    }
}

fn connect(authority: &str) -> TcpStream {
    let connection = TcpStream::connect(authority).expect("the service listens");
    connection.set_nodelay(true).expect("a connection can send at once");
    connection
}

/// Reads the answers of all connections, on this thread alone.
fn read_all(connections: Vec<TcpStream>, desk: &Arc<Desk>) {
    let runtime = runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
    runtime.block_on(async {
        let reading = connections.into_iter().enumerate().map(|(number, connection)| {
            connection.set_nonblocking(true).expect("a connection can be polled");
            let (reader, writer) =
                tokio::net::TcpStream::from_std(connection).expect("a connection can be polled").into_split();
            // Its other end is the sender's.
            writer.forget();
            read(reader, number, desk)
        });
        futures_util::future::join_all(reading).await;
    });
}

/// Reads one answer after the other.
async fn read(mut connection: OwnedReadHalf, number: usize, desk: &Desk) {
    let mut bytes = Vec::with_capacity(1 << 16);
    loop {
        while !is_whole(&bytes) {
            let read = connection.read_buf(&mut bytes).await.expect("the service keeps the connection");
            if read == 0 {
                return;
            }
        }
        assert!(bytes.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&bytes));
        bytes.clear();
        desk.answered(number);
    }
}

/// Whether an answer is here to its last byte.
fn is_whole(bytes: &[u8]) -> bool {
    const END: &[u8] = b"\r\n\r\n";
    let Some(end) = bytes.windows(END.len()).position(|window| window == END) else { return false };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).expect("an answer says its length");
    bytes.len() >= end + END.len() + length.trim().parse::<usize>().expect("a length")
}
