//! Requests at random moments, and how long each took.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// Requests that may be under way at once; further ones wait, and their latency counts from when they were due.
const CONNECTIONS: usize = 64;
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
const NO_TIME: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// What the timer is known by; connections are by their numbers.
const TIMER: u64 = u64::MAX;

struct Connection {
    stream: TcpStream,
    /// What has come of an answer.
    answer: Vec<u8>,
    /// When the request was due that it carries.
    due: Option<Instant>,
}

struct Load {
    connections: Vec<Connection>,
    /// The one that has rested longest first, so that all of them are used.
    free: VecDeque<usize>,
    poll: OwnedFd,
    timer: OwnedFd,
    /// The moment that the timer is set to.
    alarm: Option<Instant>,
    latencies: Vec<Duration>,
}

/// Posts the body as often as the rate says for so many seconds. The latencies of all answers.
pub fn run(authority: &str, body: &str, rate: f64, seconds: f64) -> io::Result<Vec<Duration>> {
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {authority}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut load = Load::new(authority)?;
    // The same arrivals for whoever is measured.
    let mut random = StdRng::seed_from_u64(0);
    let begun = Instant::now();
    let mut due = begun;
    let mut sent = 0;
    loop {
        due += Duration::from_secs_f64(-(1.0 - random.random::<f64>()).ln() / rate);
        if due.duration_since(begun).as_secs_f64() > seconds {
            break;
        }
        if Instant::now() >= due {
            // However late it is, answers are read as they come.
            load.take_answers(Some(&NO_TIME))?;
        }
        while Instant::now() < due {
            load.wait_until(due)?;
        }
        load.send(request.as_bytes(), due)?;
        sent += 1;
    }
    while load.latencies.len() < sent {
        load.wait_for_answers()?;
    }
    Ok(load.latencies)
}

impl Load {
    fn new(authority: &str) -> io::Result<Self> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        // At each edge, so that a timer that has gone off need not be read.
        epoll::add(&poll, &timer, epoll::EventData::new_u64(TIMER), epoll::EventFlags::IN | epoll::EventFlags::ET)?;
        let mut connections = Vec::with_capacity(CONNECTIONS);
        for number in 0..CONNECTIONS {
            let stream = TcpStream::connect(authority)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(&poll, &stream, epoll::EventData::new_u64(number as u64), epoll::EventFlags::IN)?;
            connections.push(Connection { stream, answer: Vec::with_capacity(1 << 16), due: None });
        }
        Ok(Self { connections, free: (0..CONNECTIONS).collect(), poll, timer, alarm: None, latencies: Vec::new() })
    }

    /// Sends a request that is due, as soon as a connection is free.
    fn send(&mut self, request: &[u8], due: Instant) -> io::Result<()> {
        let number = loop {
            match self.free.pop_front() {
                Some(number) => break number,
                None => self.wait_for_answers()?,
            }
        };
        let connection = &mut self.connections[number];
        connection.due = Some(due);
        // A connection carries one at a time: unless it is very large, there is room for it.
        connection.stream.write_all(request)
    }

    /// Waits for answers, of which there are to be some.
    fn wait_for_answers(&mut self) -> io::Result<()> {
        if self.wait_until(Instant::now() + PATIENCE)? { Ok(()) } else { Err(io::Error::other("it answers no more")) }
    }

    /// Waits for the moment or for answers, whatever comes first, and reads what has come. Whether anything has.
    fn wait_until(&mut self, moment: Instant) -> io::Result<bool> {
        // To set it takes long where the machine is a virtual one.
        if self.alarm.replace(moment) != Some(moment) {
            let left = moment.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
            let once = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
            let timer = Itimerspec { it_interval: NO_TIME, it_value: once };
            timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &timer)?;
        }
        self.take_answers(None)
    }

    /// Reads the answers that are here, or come or the timer goes off in that time. Whether there were any.
    fn take_answers(&mut self, time: Option<&Timespec>) -> io::Result<bool> {
        let mut events = Vec::with_capacity(CONNECTIONS + 1);
        match epoll::wait(&self.poll, spare_capacity(&mut events), time) {
            // It was stopped and goes on.
            Err(Errno::INTR) => {}
            waited => _ = waited?,
        }
        let now = Instant::now();
        let mut is_answer = false;
        for event in events {
            let number = event.data.u64();
            if number != TIMER {
                self.read(usize::try_from(number).expect("it is one of the connections"), now)?;
                is_answer = true;
            }
        }
        Ok(is_answer)
    }

    /// Reads what has come of an answer.
    fn read(&mut self, number: usize, now: Instant) -> io::Result<()> {
        let Connection { stream, answer, due } = &mut self.connections[number];
        let mut piece = [0; 1 << 12];
        let read = stream.read(&mut piece)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        answer.extend_from_slice(&piece[..read]);
        if is_whole(answer)? {
            let due = due.take().ok_or_else(|| io::Error::other("it answers what it was not asked"))?;
            self.latencies.push(now.duration_since(due));
            answer.clear();
            self.free.push_back(number);
        }
        Ok(())
    }
}

/// Whether an answer is here to its last byte.
fn is_whole(answer: &[u8]) -> io::Result<bool> {
    const END: &[u8] = b"\r\n\r\n";
    const LENGTH: &[u8] = b"content-length:";
    let Some(end) = answer.windows(END.len()).position(|window| window == END) else { return Ok(false) };
    if !answer.starts_with(b"HTTP/1.1 200 ") {
        return Err(io::Error::other(String::from_utf8_lossy(answer)));
    }
    let length = answer[..end].split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(LENGTH.len())?;
        name.eq_ignore_ascii_case(LENGTH).then(|| value.trim_ascii())
    });
    let length = length.and_then(|digits| str::from_utf8(digits).ok()?.parse::<usize>().ok());
    let length = length.ok_or_else(|| io::Error::other("an answer does not say its length"))?;
    Ok(answer.len() >= end + END.len() + length)
}
