//! The server's settings as data: what each is and which values it takes. The reader of the file checks ranges by
//! it, and the JSON Schema of the file is made of it, so that the two cannot differ.

/// One setting of the configuration file.
#[derive(Debug)]
pub struct Setting {
    /// Section and key, such as `server.port`.
    pub name: &'static str,
    pub kind: SettingKind,
    /// One line, for editors.
    pub description: &'static str,
}

/// What values a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingKind {
    /// A whole number in a range, both ends included.
    Integer {
        least: i64,
        most: i64,
    },
    Switch,
    Text,
    Path,
    Texts,
    Paths,
    Choice(&'static [&'static str]),
}

use SettingKind::{Choice, Integer, Path, Paths, Switch, Text, Texts};

/// Every setting, in the order in which it is shown. Those that may be left unset have no default.
pub const SETTINGS: &[Setting] = &[
    setting("server.host", Text, "Name or address to listen on; beyond this machine only with allow_unauthenticated"),
    setting("server.port", Integer { least: 0, most: 65_535 }, "Port to listen on; 0 picks a free one"),
    setting("server.port_file", Path, "File that gets the actual port once the service listens"),
    setting("server.workers", Integer { least: 1, most: 1024 }, "Threads that serve connections; one a core if unset"),
    setting(
        "server.body_limit_bytes",
        Integer { least: 1024, most: 1024 * 1024 * 1024 },
        "The largest request body after decompression",
    ),
    setting("server.allowed_hosts", Texts, "Host names besides localhost under which a browser may call the service"),
    setting("server.allow_unauthenticated", Switch, "Listen beyond this machine although nobody has to give a key"),
    setting(
        "server.shutdown_timeout_s",
        Integer { least: 0, most: 86_400 },
        "Seconds that running requests get to finish when the service is told to stop",
    ),
    setting("store.state_dir", Path, "Directory for the configurations and the key that seals their secrets"),
    setting("models.dirs", Paths, "Directories with GGUF files; a model is named by its file without .gguf"),
    setting(
        "llama.threads",
        Integer { least: 1, most: 1024 },
        "Compute threads; as many as run at the same time if unset",
    ),
    setting(
        "llama.context_tokens",
        Integer { least: 16, most: 16 * 1024 * 1024 },
        "Tokens that all candidates together may hold; what suits the model if unset",
    ),
    setting(
        "llama.kept_tokens",
        Integer { least: 0, most: 16 * 1024 * 1024 },
        "Tokens of prompts and answers that stay evaluated when nobody needs them, for requests that begin with the same; \
         one context, 8192 or half of context_tokens if unset, whichever is least",
    ),
    setting(
        "llama.kept_mib",
        Integer { least: 0, most: 16 * 1024 * 1024 },
        "Memory in MiB, for each model, for prompts and answers that nobody needs and that make way in the cache for who \
         works; 0: none makes way before its room is needed, and is forgotten then",
    ),
    setting(
        "llama.batch_tokens",
        Integer { least: 1, most: 65_536 },
        "Tokens evaluated at a time; at least max_sequences",
    ),
    setting("llama.gpu_layers", Integer { least: -1, most: i32::MAX as i64 }, "Layers on the GPU; -1 means all"),
    setting("llama.max_sequences", Integer { least: 1, most: 192 }, "Candidates generated at a time; more wait"),
    setting(
        "llama.separate_reasoning",
        Switch,
        "Whether what a model thinks before it answers is given as reasoning_content instead of in the text",
    ),
    setting("telemetry.log_format", Choice(&["auto", "text", "json"]), "How log lines are written"),
    setting("telemetry.log_level", Text, "A level such as info, or a filter such as itsd=debug,warn"),
    setting("outbound.allow_http", Texts, "Hosts that plain http may go to, as name or name:port"),
];

const fn setting(name: &'static str, kind: SettingKind, description: &'static str) -> Setting {
    Setting { name, kind, description }
}

/// The range of an integer setting.
///
/// # Panics
///
/// When there is no such setting.
pub fn range(name: &str) -> std::ops::RangeInclusive<i64> {
    let setting = SETTINGS.iter().find(|setting| setting.name == name);
    match setting.map(|setting| setting.kind) {
        Some(Integer { least, most }) => least..=most,
        _ => panic!("{name} is no integer setting"),
    }
}
