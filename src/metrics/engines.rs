//! What the in-process engines are doing, as they say at the moment of a scrape.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

/// Figures of all engines that are loaded, together; none where none is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Engines {
    pub loaded: u64,
    /// Requests that have not begun.
    pub waiting: u64,
    /// Answers and paths being generated or held.
    pub sequences: u64,
    /// Tokens of the last batch.
    pub batch_tokens: u64,
    /// Tokens that candidates draw in a second of evaluation, of late.
    pub tokens_per_second: f64,
    /// Cells of the cache that requests hold or are expected to need, that are kept for who may need them, and all.
    pub used_cells: u64,
    pub kept_cells: u64,
    /// Memory of prompts and answers that have made way in the cache.
    pub shelved_bytes: u64,
    pub cells: u64,
    pub prompt_tokens: u64,
    pub shared_tokens: u64,
    pub generated_tokens: u64,
    pub busy_seconds: f64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

impl Engines {
    pub(super) fn register(&self, registry: &mut Registry) {
        let mut gauge = |name: &str, help: &str, value: u64| {
            registry.register(name, help, ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)));
        };
        gauge("engine_loaded", "Models that are loaded in the process", self.loaded);
        gauge("engine_waiting", "Requests that wait for an engine to take them in", self.waiting);
        gauge("engine_sequences", "Answers and paths that engines generate or hold", self.sequences);
        gauge("engine_batch_size", "Tokens of the last batch that was evaluated", self.batch_tokens);
        gauge("engine_kv_used", "Cells of the cache that requests hold or are expected to need", self.used_cells);
        gauge("engine_kv_kept", "Cells of the cache with prompts and answers that nobody needs now", self.kept_cells);
        let help = "Memory of prompts and answers that nobody needs now and that have made way in the cache, in bytes";
        gauge("engine_kv_shelved_bytes", help, self.shelved_bytes);
        gauge("engine_kv_cells", "Cells of the cache altogether, one a token", self.cells);
        let help = "Tokens that answers get in a second of evaluation, of late";
        registry.register("engine_tokens_per_second", help, ConstGauge::new(self.tokens_per_second));
        let tokens: Family<Kind, Counter> = Family::default();
        let kinds =
            [("prompt", self.prompt_tokens), ("shared", self.shared_tokens), ("generated", self.generated_tokens)];
        for (kind, count) in kinds {
            tokens.get_or_create(&Kind { kind }).inc_by(count);
        }
        let help = "Tokens that were evaluated of prompts, that were in the cache already, and that were generated";
        registry.register("engine_tokens", help, tokens);
        let help = "Time spent in evaluations";
        registry.register_with_unit("engine_busy", help, Unit::Seconds, ConstCounter::new(self.busy_seconds));
    }
}
