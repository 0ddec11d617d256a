//! Log lines on their way out.
//!
//! Whoever logs serves requests, and does not wait for a terminal, a disk or a journal: it leaves its line here, and a
//! thread of its own takes them away, many at a time. While they go nowhere, only so many are kept. Of what is logged just
//! before the process is killed or aborts, the last line may be missing.

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How long a line should wait for others: to be woken up for each of them would cost more than they do. Warnings and
/// errors do not wait.
pub(super) const WAIT: Duration = Duration::from_millis(5);
/// Bytes of lines that wait at the same time, while as many may be on their way out. What comes beyond is counted and
/// dropped.
const MOST_WAITING: usize = 4 << 20;
/// Bytes that are kept for further lines when those are out.
const MOST_AT_REST: usize = 64 << 10;
/// The pause before a sink is tried again that takes nothing at the moment.
const PAUSE: Duration = Duration::from_millis(5);
/// Whoever ends waits so long for a sink that takes the last lines slowly.
const LONGEST_END: Duration = Duration::from_secs(1);

/// Where lines are left. Cheap to clone.
#[derive(Clone)]
pub(super) struct Lines(Arc<Shared>);

/// Keeps the thread that takes them away. Dropped, it has taken all that came before, unless the sink has taken nothing for
/// [`LONGEST_END`].
pub(super) struct Carrier(Lines);

/// One line as it is written.
pub(super) struct Line<'a> {
    shared: &'a Shared,
    is_urgent: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    came: Condvar,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    has_urgent: bool,
    /// Lines that were not written, of which nobody was told.
    dropped: u64,
    /// Nobody is told of further lines: the thread is at work, and looks again.
    is_awake: bool,
    is_over: bool,
    /// The thread has ended.
    has_ended: bool,
}

impl Lines {
    /// Lines that go to `sink`, as long as the carrier lives. A line waits for others for `wait`, unless it is a warning or an
    /// error. How many were dropped goes to `tell` when lines are written again.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub(super) fn to(
        sink: impl Write + Send + 'static,
        wait: Duration,
        tell: impl Fn(u64) + Send + 'static,
    ) -> io::Result<(Self, Carrier)> {
        let lines = Self(Arc::default());
        let shared = Arc::clone(&lines.0);
        thread::Builder::new().name("itsd-log".into()).spawn(move || shared.carry(sink, wait, tell))?;
        Ok((lines.clone(), Carrier(lines)))
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
        let shared = &*self.0.0;
        let end = Instant::now() + LONGEST_END;
        let mut state = shared.state.lock();
        state.is_over = true;
        shared.came.notify_one();
        while !state.has_ended && !shared.ended.wait_until(&mut state, end).timed_out() {}
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

    fn carry(&self, mut sink: impl Write, wait: Duration, tell: impl Fn(u64)) {
        let mut taken = Vec::new();
        let mut is_cut = false;
        while self.take(&mut taken, wait) {
            let mut left = taken.len();
            if !is_cut || write(&mut sink, b"\n") == 0 {
                left = write(&mut sink, &taken);
                let is_part = |written: &[u8]| written.last().is_some_and(|last| *last != b'\n');
                is_cut = left > 0 && is_part(&taken[..taken.len() - left]);
            }
            let rest = &taken[taken.len() - left..];
            let lost = rest.iter().filter(|byte| **byte == b'\n').count() as u64;
            taken.clear();
            taken.shrink_to(MOST_AT_REST);
            let dropped = {
                let mut state = self.state.lock();
                state.dropped += lost;
                // To a sink that takes nothing it would be told again and again.
                if left == 0 { std::mem::take(&mut state.dropped) } else { 0 }
            };
            if dropped > 0 {
                tell(dropped);
            }
        }
        self.state.lock().has_ended = true;
        self.ended.notify_all();
    }

    /// Waits for lines and takes all there are. False: there will be no more.
    fn take(&self, taken: &mut Vec<u8>, wait: Duration) -> bool {
        let mut state = self.state.lock();
        while state.waiting.is_empty() && !state.is_over {
            state.is_awake = false;
            self.came.wait(&mut state);
        }
        let end = Instant::now() + wait;
        while !state.has_urgent && !state.is_over && !self.came.wait_until(&mut state, end).timed_out() {}
        std::mem::swap(&mut state.waiting, taken);
        state.has_urgent = false;
        !taken.is_empty()
    }
}

/// Writes what a sink takes. How many bytes it did not take, as it is broken.
fn write(sink: &mut impl Write, mut bytes: &[u8]) -> usize {
    while !bytes.is_empty() {
        match sink.write(bytes) {
            Ok(0) => break,
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Another program may have made it so that shares the terminal or pipe.
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(_) => break,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    const AN_HOUR: Duration = Duration::from_secs(3600);
    /// Longer than anything takes here.
    const LONG: Duration = Duration::from_secs(30);

    /// A sink that takes pieces as it is told: all of one, so many bytes, or none with an error.
    struct Gate {
        reached: Sender<String>,
        orders: Receiver<io::Result<usize>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.reached.send(String::from_utf8_lossy(bytes).into_owned()).map_err(io::Error::other)?;
            self.orders.recv().map_err(io::Error::other)?.map(|most| bytes.len().min(most))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Gated {
        lines: Lines,
        carrier: Carrier,
        pieces: Receiver<String>,
        orders: Sender<io::Result<usize>>,
        dropped: Receiver<u64>,
    }

    fn gated(wait: Duration) -> Gated {
        let ((reached, pieces), (orders, ordered), (tell, dropped)) = (channel(), channel(), channel());
        let tell = move |count| tell.send(count).unwrap();
        let (lines, carrier) = Lines::to(Gate { reached, orders: ordered }, wait, tell).unwrap();
        Gated { lines, carrier, pieces, orders, dropped }
    }

    impl Gated {
        fn leave(&self, line: &str) {
            assert_eq!(self.lines.make_writer().write(line.as_bytes()).unwrap(), line.len());
        }

        /// The next piece that the sink is given.
        fn piece(&self) -> String {
            self.pieces.recv_timeout(LONG).unwrap()
        }

        fn order(&self, most: io::Result<usize>) {
            self.orders.send(most).unwrap();
        }
    }

    #[test]
    fn nobody_waits_for_a_sink_that_is_stuck_and_lines_keep_their_order() {
        let gate = gated(Duration::ZERO);
        gate.leave("first\n");
        assert_eq!(gate.piece(), "first\n");
        let mut came = String::new();
        for turn in 0..10 {
            // It is stuck with the last piece meanwhile.
            for number in 0..100 {
                gate.leave(&format!("{turn}.{number}\n"));
            }
            gate.order(Ok(usize::MAX));
            came += &gate.piece();
        }
        let expected = (0..10).flat_map(|turn| (0..100).map(move |number| format!("{turn}.{number}\n")));
        assert_eq!(came, expected.collect::<String>());
    }

    #[test]
    fn what_is_too_much_is_counted() {
        let gate = gated(Duration::ZERO);
        gate.leave("first\n");
        gate.piece();
        let long = "x".repeat(MOST_WAITING / 2);
        for _ in 0..5 {
            gate.leave(&long);
        }
        gate.order(Ok(usize::MAX));
        assert_eq!(gate.dropped.recv_timeout(LONG), Ok(3));
        assert_eq!(gate.piece(), long.repeat(2));
        gate.order(Ok(usize::MAX));
        gate.leave("third\n");
        assert_eq!(gate.piece(), "third\n");
        gate.order(Ok(usize::MAX));
        drop(gate.carrier);
        assert!(gate.dropped.try_recv().is_err(), "it is told once");
    }

    #[test]
    fn what_a_sink_refuses_is_counted_and_what_it_takes_later_begins_on_a_line_of_its_own() {
        let gate = gated(Duration::ZERO);
        gate.leave("one\ntwo\nthree\n");
        assert_eq!(gate.piece(), "one\ntwo\nthree\n");
        gate.order(Err(ErrorKind::WouldBlock.into()));
        assert_eq!(gate.piece(), "one\ntwo\nthree\n", "it is tried again");
        gate.order(Ok(5));
        assert_eq!(gate.piece(), "wo\nthree\n");
        gate.order(Err(ErrorKind::StorageFull.into()));
        gate.leave("four\n");
        for piece in ["\n", "four\n"] {
            assert_eq!(gate.piece(), piece);
            gate.order(Ok(usize::MAX));
        }
        assert_eq!(gate.dropped.recv_timeout(LONG), Ok(2));
    }

    #[test]
    fn lines_of_all_threads_are_there_when_the_carrier_is_gone() {
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
        let kept = Arc::new(Mutex::new(Vec::new()));
        let (lines, carrier) = Lines::to(Keep(Arc::clone(&kept)), AN_HOUR, |_| ()).unwrap();
        thread::scope(|scope| {
            for thread in 0..4 {
                let mut writer = lines.make_writer();
                let mut leave = move |number| writer.write_all(format!("{thread} {number}\n").as_bytes()).unwrap();
                scope.spawn(move || (0..500).for_each(&mut leave));
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
    fn a_sink_that_is_stuck_for_good_keeps_nobody_from_ending() {
        let gate = gated(Duration::ZERO);
        gate.leave("first\n");
        gate.piece();
        // Its orders never come.
        drop(gate.carrier);
    }

    #[test]
    fn warnings_do_not_wait_for_others() {
        let gate = gated(AN_HOUR);
        let layer = tracing_subscriber::fmt::layer().with_writer(gate.lines.clone()).with_ansi(false);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!("this can wait");
            tracing::warn!("this cannot");
        });
        let piece = gate.piece();
        assert!(piece.contains("this can wait\n") && piece.ends_with("this cannot\n"), "{piece}");
        gate.order(Ok(usize::MAX));
    }
}
