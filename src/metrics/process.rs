//! The process as a scraper knows any process: since when, how much memory, how many open files.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

/// What is known of the process now. What this system does not tell is left out.
pub(super) fn registry(started: SystemTime) -> Registry {
    let mut registry = Registry::default();
    if let Ok(since) = started.duration_since(UNIX_EPOCH) {
        let help = "When the daemon was started, since the Unix epoch";
        registry.register_with_unit("process_start_time", help, Unit::Seconds, ConstGauge::new(since.as_secs_f64()));
    }
    if let Some(bytes) = fs::read_to_string("/proc/self/status").ok().as_deref().and_then(resident_bytes) {
        registry.register_with_unit(
            "process_resident_memory",
            "Memory of the process that is in RAM",
            Unit::Bytes,
            ConstGauge::new(bytes),
        );
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // One of them is the directory that is being read.
        let count = (open.count() as u64).saturating_sub(1);
        registry.register("process_open_fds", "Open file descriptors of the process", ConstGauge::new(count));
    }
    registry
}

/// The resident set of what Linux says of a process; its unit kB is 1024 bytes.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resident_set_is_read_in_kibibytes() {
        assert_eq!(resident_bytes("Name:\titsd\nVmRSS:\t   12 kB\nThreads:\t4\n"), Some(12_288));
        for nonsense in ["", "VmRSS:", "VmRSS: kB", "VmRSS: -1 kB", "VmRSS: 18446744073709551615 kB", "VmRSS: 3 MB"] {
            assert_eq!(resident_bytes(nonsense), None, "{nonsense}");
        }
    }
}
