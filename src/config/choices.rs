//! The words that fields of a run take: algorithms, votes, stop rules, scorers and how they are used.

use super::word::words;

words! {
    /// The algorithms that can be asked for by name.
    pub enum AlgorithmName {
        SelfConsistency = "self-consistency",
        /// Self-consistency with the stop rule `threshold`.
        AdaptiveSelfConsistency = "adaptive-self-consistency",
        /// Self-consistency with the stop rule `beta`.
        BetaSelfConsistency = "beta-self-consistency",
        BestOfN = "best-of-n" | "offline-bon",
        MixtureOfN = "mixture-of-n",
        Wait = "wait",
        BeamSearch = "beam-search",
        ParticleFiltering = "particle-filtering",
        /// One plain call.
        None = "none",
    }
    later "budget-forcing", "dvts", "entropic-particle-filtering", "online-best-of-n", "online-bon", "particle-gibbs",
}

impl AlgorithmName {
    /// Whether it goes step by step, and not by whole answers.
    pub fn is_search(self) -> bool {
        match self {
            Self::BeamSearch | Self::ParticleFiltering => true,
            Self::SelfConsistency
            | Self::AdaptiveSelfConsistency
            | Self::BetaSelfConsistency
            | Self::BestOfN
            | Self::MixtureOfN
            | Self::Wait
            | Self::None => false,
        }
    }
}

words! {
    /// How tool calls are compared.
    pub enum ToolVote {
        /// The sequence of tool names.
        ToolName = "tool_name",
        /// The arguments as one whole.
        ToolArgs = "tool_args",
        /// First the most common names, then among those the most common arguments.
        ToolHierarchical = "tool_hierarchical",
        /// The unordered set of (name, arguments) of parallel calls.
        ToolSet = "tool_set",
    }
}

words! {
    /// What of a text answer is compared.
    pub enum VoteOn {
        Auto = "auto",
        Answer = "answer",
        Exact = "exact",
        Number = "number",
        Choice = "choice",
        Json = "json",
        Regex = "regex",
        Similarity = "similarity",
    }
}

words! {
    /// What a vote weighs.
    pub enum VoteWeight {
        /// Each the same.
        None = "none",
        /// exp(c/T) of the mean log-probability c (CISC).
        Confidence = "confidence",
        /// The score that the scorer gives.
        Score = "score",
    }
}

words! {
    /// When a run stops before every candidate is in.
    pub enum StopRule {
        /// As soon as no ending of the unfinished candidates can change the winning class.
        Decided = "decided",
        /// When the majority stays with probability `confidence` (Adaptive-Consistency).
        Beta = "beta",
        /// When one window of samples is unanimous (ESC).
        Window = "window",
        /// When the top class holds the share `threshold`.
        Threshold = "threshold",
        /// Never: every candidate is awaited.
        None = "none",
    }
}

words! {
    /// How best-of-N chooses by scores.
    pub enum Select {
        /// The highest score; the first of equals.
        Argmax = "argmax",
        /// The heaviest answer class by the sum of its scores, and its best member.
        Weighted = "weighted",
        /// The largest answer class, and its best member.
        Majority = "majority",
    }
}

words! {
    /// What scores candidates.
    pub enum RewardName {
        LlmJudge = "llm-judge",
        Entropy = "entropy",
        Perplexity = "perplexity",
        SequenceProb = "sequence_prob",
        SelfCertainty = "self_certainty",
        TopKConfidence = "top_k_confidence",
    }
    later "prm",
}

impl RewardName {
    /// Whether it scores a candidate by what else its model might have said in place of each token.
    pub fn reads_alternatives(self) -> bool {
        match self {
            Self::Entropy | Self::TopKConfidence => true,
            Self::LlmJudge | Self::Perplexity | Self::SequenceProb | Self::SelfCertainty => false,
        }
    }

    /// Whether it scores a candidate by what its model thought of the tokens.
    pub fn reads_tokens(self) -> bool {
        match self {
            Self::LlmJudge => false,
            Self::Entropy | Self::Perplexity | Self::SequenceProb | Self::SelfCertainty | Self::TopKConfidence => true,
        }
    }
}

words! {
    /// How the scores of a candidate's steps become one.
    pub enum Aggregation {
        Last = "last",
        Min = "min",
        Product = "product" | "prod",
        Mean = "mean",
        Max = "max",
        /// The whole response is one step.
        Model = "model",
    }
}

words! {
    /// How the judge sees candidates.
    pub enum JudgeMode {
        /// Each by itself, 0 to 10.
        Pointwise = "pointwise",
        /// All of them at once, and the best picked.
        Groupwise = "groupwise",
    }
}

words! {
    /// What decides when the judge fails.
    pub enum JudgeFallback {
        /// The vote of self-consistency.
        Vote = "vote",
        /// The first candidate.
        First = "first",
        /// The request fails.
        Error = "error",
    }
}

words! {
    /// How particles are drawn anew by their weights.
    pub enum Resampling {
        /// One random number, and evenly spaced places from there.
        Systematic = "systematic",
        /// Each by itself.
        Multinomial = "multinomial",
        /// One random place in each of as many equal strata.
        Stratified = "stratified",
        /// Whole multiples are given, and the rest drawn each by itself.
        Residual = "residual",
    }
}

words! {
    /// When particles are drawn anew.
    pub enum Resample {
        /// After every step.
        Always = "always",
        /// When the effective sample size is below half the particles.
        Ess = "ess",
    }
}

words! {
    /// What a particle weighs.
    pub enum ParticleWeights {
        /// What its path is worth now.
        Absolute = "absolute",
        /// What it has gained since particles were drawn anew.
        Incremental = "incremental",
    }
}

words! {
    /// Which particle is the answer.
    pub enum FinalSelect {
        /// The one of the highest score; the first of equals.
        Argmax = "argmax",
        /// One that is drawn by the weights.
        Sample = "sample",
    }
}
