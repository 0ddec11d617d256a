use std::io::Write as _;

use super::*;

fn load_bytes(bytes: &[u8]) -> Result<Engine, LoadError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    Engine::load(&ModelSpec { path: file.path().into(), ..small_spec() })
}

#[test]
fn a_loaded_model_says_what_it_is() {
    let info = ENGINE.info();
    assert_eq!(info.architecture, "llama");
    assert!(!info.name.is_empty());
    assert!(info.parameters > 100_000 && info.size_bytes > info.parameters);
    assert!(info.context_length >= 256);
    assert!(info.cache_tokens >= info.context_length);
}

#[test]
fn a_file_cut_off_anywhere_is_an_error() {
    let whole = std::fs::read(MODEL).unwrap();
    let steps = (0..20).chain((20..20_000).step_by(997)).chain((20_000..whole.len()).step_by(200_003));
    for length in steps.chain([whole.len() - 1000]) {
        let error = load_bytes(&whole[..length]).unwrap_err();
        assert!(matches!(error, LoadError::File { .. }), "cut at {length}: {error}");
    }
}

#[test]
fn a_byte_that_is_wrong_anywhere_in_the_header_never_ends_the_process() {
    let whole = std::fs::read(MODEL).unwrap();
    for at in (4..12_000).step_by(173) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        // Whatever the model has become, it either loads or says why not.
        if let Ok(engine) = load_bytes(&bytes) {
            assert!(engine.info().context_length > 0);
        }
    }
}

#[test]
fn what_is_no_model_is_an_error_that_says_so() {
    let error = load_bytes(b"<html>404</html>").unwrap_err().to_string();
    assert!(error.contains("is no GGUF file"), "{error}");
    let missing = ModelSpec::new("/no/such/model.gguf");
    assert!(matches!(Engine::load(&missing), Err(LoadError::File { .. })));
    let folder = ModelSpec::new(env!("CARGO_MANIFEST_DIR"));
    assert!(matches!(Engine::load(&folder), Err(LoadError::File { .. })));
}

#[test]
fn a_model_without_a_chat_template_is_refused() {
    let bytes = replaced(b"tokenizer.chat_template", b"tokenizer.chat_tempIate");
    let error = load_bytes(&bytes).unwrap_err().to_string();
    assert!(error.contains("no chat template"), "{error}");
}

#[test]
fn an_architecture_that_llama_cpp_does_not_know_is_an_error_with_its_words() {
    let error = load_bytes(&replaced(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0lamma")).unwrap_err();
    assert!(matches!(error, LoadError::Refused { .. }));
    assert!(error.to_string().contains("lamma"), "{error}");
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let wrong = [
        ("max_sequences", ModelSpec { max_sequences: 0, ..spec() }),
        ("max_sequences", ModelSpec { max_sequences: MAX_SEQUENCES + 1, ..spec() }),
        ("batch_tokens", ModelSpec { batch_tokens: 10, ..spec() }),
        ("context_tokens", ModelSpec { context_tokens: Some(0), ..spec() }),
        ("threads", ModelSpec { threads: Some(0), ..spec() }),
        ("gpu_layers", ModelSpec { gpu_layers: -2, ..spec() }),
    ];
    for (name, spec) in wrong {
        let error = Engine::load(&spec).unwrap_err().to_string();
        assert!(error.starts_with(name), "{error}");
    }
}

#[test]
fn the_most_sequences_and_the_smallest_cache_work() {
    let widest = ModelSpec { max_sequences: MAX_SEQUENCES, context_tokens: Some(1), ..spec() };
    let engine = Engine::load(&widest).unwrap();
    assert_eq!(completions(&engine, job(&sum("1 + 2"), 0..5)).len(), 5);
}

/// The shipped model with one piece of its header replaced by another of the same length.
/// The model that ships with a byte-pair vocabulary that llama.cpp splits by a regular expression.
fn with_expressions(pre: &str) -> Vec<u8> {
    let put = |out: &mut Vec<u8>, text: &str| {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    };
    let mut added = Vec::new();
    for (key, value) in [("tokenizer.ggml.model", "gpt2"), ("tokenizer.ggml.pre", pre)] {
        put(&mut added, key);
        added.extend(8_u32.to_le_bytes());
        put(&mut added, value);
    }
    put(&mut added, "tokenizer.ggml.merges");
    added.extend(9_u32.to_le_bytes());
    added.extend(8_u32.to_le_bytes());
    added.extend(0_u64.to_le_bytes());
    // Filled up to whole blocks, so that the tensors stay where they are to be.
    put(&mut added, "filler");
    added.extend(8_u32.to_le_bytes());
    let missing = (added.len() + 8).next_multiple_of(32) - added.len() - 8;
    put(&mut added, &"x".repeat(missing));

    let mut bytes = replaced(b"tokenizer.ggml.model", b"tokenizer.ggml.mode1");
    let keys = u64::from_le_bytes(bytes[16..24].try_into().unwrap()) + 4;
    bytes[16..24].copy_from_slice(&keys.to_le_bytes());
    bytes.splice(24..24, added);
    bytes
}

#[test]
fn a_word_without_end_does_not_overflow_the_stack() {
    for pre in
        ["tekken", "gpt-4o", "deepseek-llm", "deepseek-coder", "deepseek-v3", "falcon", "starcoder", "mpt", "qwen2"]
    {
        let engine = load_bytes(&with_expressions(pre)).unwrap();
        // Half of what threads usually have.
        let small = std::thread::Builder::new().stack_size(1 << 20);
        let tokenising = small.spawn(move || {
            let vocabulary = &engine.0.vocabulary;
            for unit in ["A", "a", " ", "-", "\n", "é", "汉", "Aa", "a1", " \n"] {
                vocabulary.tokenize(&unit.repeat(6_000));
            }
            // One token a digit, whether it lies at a cut or not.
            assert_eq!(vocabulary.tokenize(&"5".repeat(2500)).len(), vocabulary.tokenize("5").len() + 2499);
        });
        tokenising.unwrap().join().unwrap();
    }
}

fn replaced(from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = std::fs::read(MODEL).unwrap();
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to);
    bytes
}

#[test]
fn a_noncharacter_in_a_message_becomes_the_replacement_character() {
    assert_eq!(ENGINE.0.vocabulary.defuse("a\u{FDD0}b"), "a\u{FFFD}b");
}

#[test]
fn an_engine_that_was_ended_says_so() {
    let engine = Engine::load(&small_spec()).unwrap();
    assert!(engine.is_alive());
    engine.end();
    assert!(!engine.is_alive());
    assert_eq!(engine.generate(job(&sum("1 + 2"), [1])).unwrap_err().kind, FailureKind::Unavailable);
}
