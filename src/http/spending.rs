//! What a request may spend, and what the tokens of its calls cost.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::config::SettingsError;
use crate::config::prices::Price;
use crate::config::run::{Limits, RunSettings};
use crate::generator::{Bounds, Phase};
use crate::runtime::ActiveConfig;

/// The prices and bounds of a run whose model has these `names`, the client's first, and whose judge, if it comes
/// to that, is `judge` to its provider.
///
/// # Errors
///
/// When the cost is limited and a model that the run calls has no price.
pub fn of_run(
    active: &ActiveConfig,
    settings: &RunSettings,
    names: [&str; 2],
    judge: &str,
    arrived: Instant,
) -> Result<(BTreeMap<Phase, Price>, Bounds), SettingsError> {
    let judge_names = match &active.judge_model {
        Some(public) => [public, judge],
        // The model that answers judges itself.
        None => names,
    };
    if settings.limits.max_cost_usd.is_some() {
        active.prices.require(&names)?;
        if settings.is_judged() {
            active.prices.require(&judge_names)?;
        }
    }
    let by_phase = [(Phase::Generate, names), (Phase::Synthesize, names), (Phase::Judge, judge_names)];
    let prices = by_phase.into_iter().filter_map(|(phase, names)| Some((phase, active.prices.of(names)?))).collect();
    Ok((prices, bounds(&settings.limits, arrived)))
}

/// The bounds of a request that arrived at this time.
pub fn bounds(limits: &Limits, arrived: Instant) -> Bounds {
    Bounds {
        deadline: limits.deadline.map(|after| (arrived + after).into()),
        max_total_tokens: limits.max_total_tokens,
        max_cost_usd: limits.max_cost_usd,
    }
}
