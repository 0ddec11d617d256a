//! A load that does not wait: requests arrive at random moments of their own (a Poisson process), whether or not those
//! before have been answered. A latency counts from the moment at which its request was due, so that whatever keeps the
//! service busy is seen by all who would have asked meanwhile.
//!
//! Load tools that pace by a timer of a millisecond send bursts instead, whose last requests wait for the first; what
//! they measure is the burst.
//!
//! `cargo bench --bench open_loop -- ADDRESS REQUESTS_PER_SECOND SECONDS BODY` posts BODY to ADDRESS/v1/chat/completions
//! and prints one line: requests a second, p50 and p99 in microseconds.
//!
//! All of it is done by one thread, which costs the least where load and service share a machine: what the load takes from
//! the service's processors would be measured as the service's.

#[cfg(target_os = "linux")]
mod load;

#[cfg(target_os = "linux")]
fn main() {
    const USAGE: &str = "ADDRESS REQUESTS_PER_SECOND SECONDS BODY";
    // Cargo adds a word of its own.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let [address, rate, seconds, body] = words.as_slice() else { panic!("wants {USAGE}") };
    let authority = address.strip_prefix("http://").expect("an address that begins with http://");
    let rate = rate.parse().expect("a number of requests");
    let seconds: f64 = seconds.parse().expect("a number of seconds");
    let mut latencies = load::run(authority, body, rate, seconds).expect("the service takes the load");
    latencies.sort_unstable();
    assert!(!latencies.is_empty(), "nothing was due in that time");
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    println!("{:.1} {:.1} {:.1}", latencies.len() as f64 / seconds, at(0.50), at(0.99));
}

#[cfg(not(target_os = "linux"))]
fn main() {
    panic!("the load is timed by a timer of Linux's");
}
