//! What runs spend and save: candidates, tokens, dollars, judges that failed.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

use crate::failure::FailureKind;

#[derive(Debug)]
pub struct RunMetrics {
    pub generate: PhaseMetrics,
    pub synthesize: PhaseMetrics,
    pub judge: PhaseMetrics,
    candidates: Family<CandidateLabels, Counter>,
    saved_tokens: Counter,
    judge_failures: Family<KindLabels, Counter>,
}

/// What the calls of one phase spend.
#[derive(Debug)]
pub struct PhaseMetrics {
    prompt: Counter,
    completion: Counter,
    cached: Counter,
    reasoning: Counter,
    unknown_calls: Counter,
    cost_usd: Counter<f64, AtomicU64>,
}

/// Tokens that were spent at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tokens {
    pub prompt: u64,
    pub completion: u64,
    /// Those of the prompt that the provider had in its cache.
    pub cached: u64,
    /// Those of the completion that are reasoning.
    pub reasoning: u64,
    /// Calls that told no usage.
    pub unknown_calls: u64,
    /// US dollars, 0 where the model has no price.
    pub cost_usd: f64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CandidateLabels {
    algorithm: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    phase: &'static str,
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    phase: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

impl RunMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let candidates = Family::default();
        let tokens: Family<TokenLabels, Counter> = Family::default();
        let unknown_calls: Family<PhaseLabels, Counter> = Family::default();
        let cost_usd: Family<PhaseLabels, Counter<f64, AtomicU64>> = Family::default();
        let saved_tokens = Counter::default();
        let judge_failures = Family::default();
        registry.register("candidates", "Candidates by algorithm and by how they ended", Family::clone(&candidates));
        registry.register(
            "tokens",
            "Tokens that upstreams counted, of which cached ones are prompt and reasoning ones completion tokens",
            tokens.clone(),
        );
        registry.register(
            "unknown_usage_calls",
            "Calls whose tokens nobody counted: cancelled, broken off, or answered without usage",
            unknown_calls.clone(),
        );
        registry.register_with_unit(
            "cost",
            "US dollars spent on calls to models that have a price",
            Unit::Other("usd".to_owned()),
            cost_usd.clone(),
        );
        registry.register(
            "saved_tokens",
            "Completion tokens that runs did not have to spend because they stopped early, an estimate",
            Counter::clone(&saved_tokens),
        );
        registry.register(
            "judge_failures",
            "Judgements that came to nothing, by kind of failure",
            Family::clone(&judge_failures),
        );
        let phase = |phase| {
            let kind = |kind| tokens.get_or_create_owned(&TokenLabels { phase, kind });
            PhaseMetrics {
                prompt: kind("prompt"),
                completion: kind("completion"),
                cached: kind("cached"),
                reasoning: kind("reasoning"),
                unknown_calls: unknown_calls.get_or_create_owned(&PhaseLabels { phase }),
                cost_usd: cost_usd.get_or_create_owned(&PhaseLabels { phase }),
            }
        };
        Self {
            generate: phase("generate"),
            synthesize: phase("synthesize"),
            judge: phase("judge"),
            candidates,
            saved_tokens,
            judge_failures,
        }
    }

    /// So many candidates of an algorithm ended so: a kind of failure, or another word of ours.
    pub fn candidates(&self, algorithm: &'static str, outcome: &'static str, count: u64) {
        self.candidates.get_or_create(&CandidateLabels { algorithm, outcome }).inc_by(count);
    }

    pub fn saved_tokens(&self, tokens: u64) {
        self.saved_tokens.inc_by(tokens);
    }

    pub fn judge_failed(&self, kind: FailureKind) {
        self.judge_failures.get_or_create(&KindLabels { kind: kind.as_str() }).inc();
    }
}

impl PhaseMetrics {
    pub fn spent(&self, tokens: &Tokens) {
        let counts = [
            (&self.prompt, tokens.prompt),
            (&self.completion, tokens.completion),
            (&self.cached, tokens.cached),
            (&self.reasoning, tokens.reasoning),
            (&self.unknown_calls, tokens.unknown_calls),
        ];
        for (counter, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            counter.inc_by(count);
        }
        // A counter never falls, and is of no use once it is not a number.
        if tokens.cost_usd > 0.0 && tokens.cost_usd.is_finite() {
            self.cost_usd.inc_by(tokens.cost_usd);
        }
    }
}
