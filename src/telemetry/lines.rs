//! Log lines on their way out.
//!
//! Whoever logs serves requests, and does not wait for a terminal, a disk or a journal: it leaves its line here, and a
//! thread of its own takes them away, many at a time. While they go nowhere, only so many are kept.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How long a line may wait for others: to be woken up for each of them would cost more than they do. Warnings and errors do
/// not wait.
const LONGEST_WAIT: Duration = Duration::from_millis(5);
/// Bytes of lines that wait at the same time; what comes beyond is counted and dropped.
const MOST_WAITING: usize = 4 << 20;
/// Bytes that are kept for further lines when those are out.
const MOST_AT_REST: usize = 64 << 10;

/// Where lines are left. Cheap to clone.
#[derive(Clone)]
pub(super) struct Lines(Arc<Shared>);

/// The thread that takes them away. Dropped, it has taken all that came before.
pub(super) struct Carrier {
    lines: Lines,
    thread: Option<JoinHandle<()>>,
}

/// One line as it is written.
pub(super) struct Line<'a> {
    shared: &'a Shared,
    is_urgent: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    came: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    has_urgent: bool,
    dropped: u64,
    /// Nobody is told of further lines: the thread is at work, and looks again.
    is_awake: bool,
    is_over: bool,
}

impl Lines {
    /// Lines that go to `sink`, as long as the carrier lives.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub(super) fn to(sink: impl Write + Send + 'static) -> io::Result<(Self, Carrier)> {
        let lines = Self(Arc::default());
        let shared = Arc::clone(&lines.0);
        let thread = thread::Builder::new().name("itsd-log".into()).spawn(move || shared.carry(sink))?;
        Ok((lines.clone(), Carrier { lines, thread: Some(thread) }))
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { shared: &self.0, is_urgent: false }
    }

    fn make_writer_for(&'a self, about: &Metadata<'_>) -> Line<'a> {
        Line { shared: &self.0, is_urgent: *about.level() <= Level::WARN }
    }
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.shared.leave(line, self.is_urgent);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.lines.0.state.lock().is_over = true;
        self.lines.0.came.notify_one();
        if let Some(thread) = self.thread.take() {
            // It panics only where the sink does.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn leave(&self, line: &[u8], is_urgent: bool) {
        let mut state = self.state.lock();
        if state.waiting.len() + line.len() > MOST_WAITING {
            state.dropped += 1;
            return;
        }
        state.waiting.extend_from_slice(line);
        let is_news = is_urgent && !state.has_urgent;
        state.has_urgent |= is_urgent;
        let was_awake = std::mem::replace(&mut state.is_awake, true);
        drop(state);
        if is_news || !was_awake {
            self.came.notify_one();
        }
    }

    fn carry(&self, mut sink: impl Write) {
        let mut taken = Vec::new();
        while self.take(&mut taken) {
            // Where the log cannot be written there is nobody to tell.
            let _ = sink.write_all(&taken).and_then(|()| sink.flush());
            taken.clear();
            taken.shrink_to(MOST_AT_REST);
        }
    }

    /// Waits for lines and takes all there are. False: there will be no more.
    fn take(&self, taken: &mut Vec<u8>) -> bool {
        let mut state = self.state.lock();
        while state.waiting.is_empty() && !state.is_over {
            state.is_awake = false;
            self.came.wait(&mut state);
        }
        let end = Instant::now() + LONGEST_WAIT;
        while !state.has_urgent && !state.is_over && !self.came.wait_until(&mut state, end).timed_out() {}
        std::mem::swap(&mut state.waiting, taken);
        state.has_urgent = false;
        let dropped = std::mem::take(&mut state.dropped);
        if dropped > 0 {
            let _ =
                writeln!(taken, "itsd: {dropped} log lines were dropped, as what was before them could not be written");
        }
        !taken.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A sink that takes a piece whenever it is allowed to.
    struct Gate {
        reached: Sender<String>,
        allowed: Receiver<()>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.reached.send(String::from_utf8_lossy(bytes).into_owned()).map_err(io::Error::other)?;
            self.allowed.recv().map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated() -> (Lines, Carrier, Receiver<String>, Sender<()>) {
        let ((reached, pieces), (allow, allowed)) = (channel(), channel());
        let (lines, carrier) = Lines::to(Gate { reached, allowed }).unwrap();
        (lines, carrier, pieces, allow)
    }

    fn leave(lines: &Lines, line: &str) {
        assert_eq!(lines.make_writer().write(line.as_bytes()).unwrap(), line.len());
    }

    #[test]
    fn nobody_waits_for_a_sink_that_is_stuck_and_no_line_is_torn_or_out_of_order() {
        let (lines, carrier, pieces, allow) = gated();
        leave(&lines, "first\n");
        assert_eq!(pieces.recv().unwrap(), "first\n");
        for number in 0..1000 {
            leave(&lines, &format!("{number}\n"));
        }
        drop(allow);
        drop(carrier);
        let rest: String = pieces.iter().collect();
        assert_eq!(rest, (0..1000).map(|number| format!("{number}\n")).collect::<String>());
    }

    #[test]
    fn what_is_too_much_is_counted() {
        let (lines, carrier, pieces, allow) = gated();
        leave(&lines, "first\n");
        pieces.recv().unwrap();
        let long = "x".repeat(MOST_WAITING / 2);
        for _ in 0..5 {
            leave(&lines, &long);
        }
        allow.send(()).unwrap();
        let second = pieces.recv().unwrap();
        assert!(
            second.starts_with(&long.repeat(2))
                && second[2 * long.len()..].starts_with("itsd: 3 log lines were dropped")
        );
        allow.send(()).unwrap();
        leave(&lines, "third\n");
        assert_eq!(pieces.recv().unwrap(), "third\n");
        allow.send(()).unwrap();
        drop(carrier);
    }

    #[test]
    fn lines_of_all_threads_are_there_when_the_carrier_is_gone() {
        let kept = Arc::new(Mutex::new(Vec::new()));
        struct Keep(Arc<Mutex<Vec<u8>>>);
        impl Write for Keep {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (lines, carrier) = Lines::to(Keep(Arc::clone(&kept))).unwrap();
        thread::scope(|scope| {
            for thread in 0..4 {
                let lines = &lines;
                scope.spawn(move || (0..500).for_each(|number| leave(lines, &format!("{thread} {number}\n"))));
            }
        });
        drop(carrier);
        let text = String::from_utf8(std::mem::take(&mut *kept.lock())).unwrap();
        for thread in 0..4 {
            let of_it = text.lines().filter_map(|line| line.strip_prefix(&format!("{thread} ")));
            assert!(of_it.map(|number| number.parse::<u32>().unwrap()).eq(0..500));
        }
    }

    #[test]
    fn warnings_do_not_wait_for_others() {
        let (lines, carrier, pieces, allow) = gated();
        let warning = |line: &str| Line { shared: &lines.0, is_urgent: true }.write_all(line.as_bytes()).unwrap();
        leave(&lines, "before\n");
        warning("urgent\n");
        let mut text = String::new();
        while !text.ends_with("urgent\n") {
            text += &pieces.recv().unwrap();
            allow.send(()).unwrap();
        }
        assert_eq!(text, "before\nurgent\n");
        drop(carrier);
    }
}
