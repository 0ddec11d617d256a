//! Durations counted by how long they were, without a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// A histogram of durations. Cheap to clone; every clone is the same histogram.
///
/// The one that comes with the registry takes a lock for each observation, which connections on several threads would
/// wait for.
#[derive(Debug, Clone)]
pub struct Timing(Arc<Buckets>);

#[derive(Debug)]
struct Buckets {
    /// Upper bounds in seconds, rising; each bound belongs to its bucket.
    bounds: &'static [f64],
    /// One for each bound, and the last for what is above all of them.
    counts: Box<[AtomicU64]>,
    sum_ns: AtomicU64,
}

impl Timing {
    /// An empty histogram with these upper bounds in seconds, which rise.
    pub fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Buckets { bounds, counts, sum_ns: AtomicU64::new(0) }))
    }

    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let Buckets { bounds, counts, sum_ns } = &*self.0;
        let bucket = bounds.partition_point(|bound| *bound < seconds);
        counts[bucket].fetch_add(1, Ordering::Relaxed);
        sum_ns.fetch_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl TypedMetric for Timing {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Timing {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Buckets { bounds, counts, sum_ns } = &*self.0;
        let bounds = bounds.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().map(|count| count.load(Ordering::Relaxed))).collect();
        // Made of what is told, so that the last bucket and the count agree whatever is observed meanwhile.
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = sum_ns.load(Ordering::Relaxed) as f64 / 1e9;
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn a_duration_counts_in_the_first_bucket_whose_bound_it_does_not_pass() {
        let timing = Timing::new(&[0.001, 0.5]);
        for duration in [
            Duration::ZERO,
            Duration::from_millis(1),
            Duration::from_nanos(1_000_001),
            Duration::from_millis(500),
            Duration::from_secs(2),
        ] {
            timing.observe(duration);
        }
        let mut registry = Registry::default();
        registry.register("t", "Time", timing);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let expected = "t_sum 2.502000001\nt_count 5\n\
                        t_bucket{le=\"0.001\"} 2\nt_bucket{le=\"0.5\"} 4\nt_bucket{le=\"+Inf\"} 5\n";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn nothing_observed_is_all_zero() {
        let mut registry = Registry::default();
        registry.register("t", "Time", Timing::new(&[]));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        assert!(text.contains("t_sum 0.0\nt_count 0\nt_bucket{le=\"+Inf\"} 0\n"), "{text}");
    }
}
