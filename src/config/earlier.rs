//! Variables of the services whose place this one takes, as far as it does not read them: who exports them expects
//! that something comes of it.

use super::environment::Environment;

/// What each of the tiers of one of them had a name for.
const TIERS: [&str; 5] = ["LIGHT", "MEDIUM", "HEAVY", "EMBEDDING", "RERANKER"];
const OF_A_TIER: [&str; 14] = [
    "MODEL_PATH",
    "BACKEND",
    "ENDPOINT",
    "N_CTX",
    "N_BATCH",
    "N_THREADS",
    "N_GPU_LAYERS",
    "TEMPERATURE",
    "TOP_P",
    "TOP_K",
    "MAX_TOKENS",
    "REPEAT_PENALTY",
    "USE_MMAP",
    "USE_MLOCK",
];

/// Those that ask for something whatever their value is.
const SETTINGS: [&str; 3] = ["PRM_MODEL_PATH", "VLLM_MAX_MODEL_LEN", "VLLM_GPU_MEMORY_UTILIZATION"];

/// Those that ask for something only when they are on: this version does what they say when they are off.
const SWITCHES: [&str; 4] = ["ENABLE_CACHE", "CACHE_PERSIST_TO_DISK", "ENABLE_CORS", "PRM_USE_VLLM"];

/// What to tell of the variables that are set and not read; `None` where there is none.
pub fn warning(environment: &Environment) -> Option<String> {
    let of_tiers = TIERS.iter().flat_map(|tier| OF_A_TIER.iter().map(move |setting| format!("{tier}_{setting}")));
    let settings = of_tiers.chain(SETTINGS.map(str::to_owned)).filter(|name| environment.var(name).is_some());
    let switches = SWITCHES.into_iter().filter(|name| environment.var(name).is_some_and(is_on)).map(str::to_owned);
    let names: Vec<String> = settings.chain(switches).collect();
    (!names.is_empty()).then(|| {
        format!(
            "set in the environment, but not read by this version: {}; models are set by POST /configure, the engine in \
             this process by the settings file's `[llama]`",
            names.join(", ")
        )
    })
}

fn is_on(value: &str) -> bool {
    matches!(value.trim().to_ascii_lowercase().as_str(), "true" | "1" | "yes" | "on")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_set_and_asks_for_something_is_told_and_never_its_value() {
        let told = |variables: &[(&str, &str)]| warning(&Environment::from_pairs(variables.iter().copied()));
        assert_eq!(told(&[]), None);
        let quiet = [
            ("ENABLE_CACHE", "false"),
            ("ENABLE_CORS", "0"),
            ("LIGHT_MODEL_PATH", " "),
            ("PORT", "8001"),
            ("VLLM_MODEL_PATH", "m.gguf"),
            ("HEAVY_INDUSTRY", "steel"),
        ];
        assert_eq!(told(&quiet), None);
        let warning = told(&[
            ("ENABLE_CACHE", "True"),
            ("PRM_MODEL_PATH", "/secret/prm.gguf"),
            ("RERANKER_MODEL_PATH", "r.gguf"),
            ("LIGHT_N_CTX", "8192"),
        ])
        .unwrap();
        assert!(warning.contains(": LIGHT_N_CTX, RERANKER_MODEL_PATH, PRM_MODEL_PATH, ENABLE_CACHE;"), "{warning}");
        assert!(!warning.contains("secret"), "{warning}");
    }
}
