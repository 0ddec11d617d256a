use super::*;

/// 256 bytes and some words, then two tokens that end an answer and one that is no text.
fn texts() -> Vec<Vec<u8>> {
    let mut texts: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    let words = ["{\"", "\":", "true", "false", "null", "}}", "ab", "\", \"", " ", "name", "1e", "00", "日本"];
    texts.extend(words.map(|word| word.as_bytes().to_vec()));
    texts.extend([Vec::new(), Vec::new(), Vec::new()]);
    texts
}

fn grammars() -> Grammars {
    let texts = texts();
    let size = texts.len() as u32;
    Grammars::new(&texts, &[size - 2, size - 3]).unwrap()
}

fn regex(text: &str) -> Form {
    Form::Regex(text.into())
}

fn lark(text: &str) -> Form {
    Form::Grammar(text.into())
}

fn refusal(form: &Form) -> String {
    grammars().compile(form).err().unwrap_or_else(|| panic!("{form:?} was taken")).to_string()
}

/// The text of a walk that takes any allowed token by the numbers of a generator, for at most so many tokens, and
/// whether it came to an end.
fn walk(compiled: &Compiled, seed: u64, most: usize) -> (String, bool) {
    let texts = texts();
    let is_end = |token: u32| (texts.len() as u32 - 3..texts.len() as u32 - 1).contains(&token);
    let mut constraint = compiled.begin();
    let (mut text, mut state) = (Vec::new(), seed);
    for _ in 0..most {
        let allowed: Vec<u32> = constraint.allowed().unwrap().iter().collect();
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Strings would hardly ever be closed, and digits hardly ever end, if every byte were as likely.
        let closing =
            |token: &&u32| is_end(**token) || matches!(texts[**token as usize][..], [b'"' | b'}' | b']' | b',']);
        let closing: Vec<u32> = allowed.iter().filter(closing).copied().collect();
        let among = if closing.is_empty() || (state >> 33).is_multiple_of(3) { &allowed } else { &closing };
        let token = among[((state >> 40) as usize) % among.len()];
        if is_end(token) {
            return (String::from_utf8(text).unwrap(), true);
        }
        text.extend(&texts[token as usize]);
        if constraint.accept(token).unwrap() == Progress::Complete {
            return (String::from_utf8(text).unwrap(), true);
        }
    }
    (String::from_utf8_lossy(&text).into_owned(), false)
}

#[test]
fn every_text_that_comes_to_an_end_keeps_its_schema() {
    let grammars = grammars();
    for schema in [
        json!({}),
        json!({"type": "object"}),
        json!({"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 4}),
        json!({"type": "number", "minimum": -1.5, "exclusiveMaximum": 3}),
        json!({"type": "number", "multipleOf": 0.25}),
        json!({"type": "integer", "minimum": 7, "maximum": 1200, "multipleOf": 7}),
        json!({"enum": ["a\"b", 1, 2.5, null, true, ["x"], {"k": "v"}]}),
        json!({"const": {"a": [1, "日本", {"b": null}]}}),
        json!({"type": "string", "minLength": 2, "maxLength": 3}),
        json!({"type": "string", "pattern": "^[a-c]+\\d{2}$"}),
        json!({"type": "string", "format": "date"}),
        json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "boolean"}}, "required": ["b"]}),
        json!({
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": ["string", "null"]}},
            "required": ["a", "b"],
            "additionalProperties": false
        }),
        json!({"type": "object", "minProperties": 1, "additionalProperties": {"type": "integer"}}),
        json!({"type": "object", "patternProperties": {"^x": {"type": "integer"}}, "additionalProperties": false}),
        json!({"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "null"}}]}),
        json!({"oneOf": [{"type": "integer"}, {"type": "string"}]}),
        json!({"allOf": [
            {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
            {"properties": {"a": {"minimum": 5}, "b": {"const": "b"}}, "required": ["b"]}
        ]}),
        json!({
            "$ref": "#/$defs/node",
            "$defs": {"node": {
                "type": "object",
                "properties": {"v": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
                "required": ["v", "next"],
                "additionalProperties": false
            }}
        }),
    ] {
        let compiled =
            grammars.compile(&Form::Schema(schema.clone())).unwrap_or_else(|error| panic!("{schema}: {error}"));
        let validator = jsonschema::validator_for(&schema).unwrap();
        let mut ended = 0;
        for seed in 0..25 {
            let (text, has_ended) = walk(&compiled, seed, 400);
            if has_ended {
                ended += 1;
                let value: Json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
                assert!(validator.is_valid(&value), "{text} breaks {schema}");
            }
        }
        assert!(ended > 8, "{schema}: {ended}");
    }
}

#[test]
fn grammars_and_expressions_are_matched_as_a_whole() {
    let grammars = grammars();
    let compiled = grammars.compile(&regex("[0-9]{3}-(yes|no)")).unwrap();
    for seed in 0..20 {
        let (text, has_ended) = walk(&compiled, seed, 50);
        let (digits, word) = text.split_once('-').unwrap();
        assert!(has_ended && digits.len() == 3 && ["yes", "no"].contains(&word), "{text}");
    }
    let compiled = grammars.compile(&lark("start: \"(\" start \")\" | WORD\nWORD: /[ab]{1,3}/")).unwrap();
    for seed in 0..20 {
        let (text, has_ended) = walk(&compiled, seed, 4000);
        let inner = text.trim_start_matches('(').trim_end_matches(')');
        assert!(has_ended && text.matches('(').count() == text.matches(')').count(), "{text}");
        assert!((1..=3).contains(&inner.len()) && inner.chars().all(|it| "ab".contains(it)), "{text}");
    }
    let (text, has_ended) = walk(&grammars.compile(&regex("a/b\n\"c\"")).unwrap(), 1, 50);
    assert_eq!((text.as_str(), has_ended), ("a/b\n\"c\"", true));
}

#[test]
fn an_answer_may_end_where_it_matches_and_must_where_nothing_can_follow() {
    let grammars = grammars();
    let end = texts().len() as u32 - 2;
    let mut constraint = grammars.compile(&regex("a{1,2}")).unwrap().begin();
    assert!(!constraint.allowed().unwrap().is_allowed(end));
    assert_eq!(constraint.accept(u32::from(b'a')).unwrap(), Progress::GoesOn);
    assert!(constraint.allowed().unwrap().is_allowed(end) && constraint.allowed().unwrap().is_allowed(end - 1));
    assert_eq!(constraint.accept(u32::from(b'a')).unwrap(), Progress::Complete);
    assert!(constraint.allowed().is_err() && constraint.accept(u32::from(b'a')).is_err());
    // A model without such a token ends where nothing can follow.
    let bytes: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    let endless = Grammars::new(&bytes, &[]).unwrap();
    let mut constraint = endless.compile(&regex("ab")).unwrap().begin();
    assert_eq!(constraint.accept(u32::from(b'a')).unwrap(), Progress::GoesOn);
    assert_eq!(constraint.accept(u32::from(b'b')).unwrap(), Progress::Complete);
}

#[test]
fn candidates_of_a_form_do_not_disturb_each_other() {
    let compiled = grammars().compile(&regex("(ab|cd)e")).unwrap();
    let (mut one, mut other) = (compiled.begin(), compiled.begin());
    one.accept(u32::from(b'a')).unwrap();
    other.accept(u32::from(b'c')).unwrap();
    assert_eq!(one.allowed().unwrap().to_list(), [u32::from(b'b')]);
    assert_eq!(other.allowed().unwrap().to_list(), [u32::from(b'd')]);
    drop(one);
    other.accept(u32::from(b'd')).unwrap();
    assert_eq!(other.accept(u32::from(b'e')).unwrap(), Progress::Complete);
    let refused = compiled.begin().accept(u32::from(b'x')).unwrap_err();
    assert!(!refused.to_string().contains("backtrace"), "{refused}");
}

#[test]
fn what_cannot_be_read_or_kept_is_refused_in_words() {
    for (form, word) in [
        (regex("("), "unclosed group"),
        (regex("a(?=b)"), "look-around"),
        (regex(&format!("{}a{}", "(".repeat(5000), ")".repeat(5000))), "nest"),
        (regex("[^\\x00-\\x{10FFFF}]"), "no token may come first"),
        (lark("start: \"a"), "1("),
        (lark("nothing: \"a\""), "start"),
        (lark("start: start"), "no token may come first"),
        (lark(&format!("start: {}", "(".repeat(50_000))), "nested"),
        (lark("root ::= \"a\""), "GBNF"),
        (lark("start: <[5]>"), "`<[`"),
        (lark("start: %json {\"type\": \"null\"}"), "`%json`"),
        (Form::Schema(json!({"type": "text"})), "text"),
        (Form::Schema(json!({"not": {"type": "null"}})), "not"),
        (Form::Schema(json!({"type": "array", "uniqueItems": true})), "uniqueItems"),
        (Form::Schema(json!({"$ref": "https://example.com/schema"})), "example.com"),
        (Form::Schema(json!({"$ref": "#/$defs/none"})), "none"),
        (Form::Schema(json!({"$ref": "#"})), "no token may come first"),
        (Form::Schema(json!({"type": "string", "format": "of-mine"})), "of-mine"),
        (Form::Schema(json!({"type": "string", "pattern": "("})), "unclosed"),
        (Form::Schema(json!({"type": "integer", "minimum": 2, "maximum": 1})), "minimum"),
        (Form::Schema(json!({"oneOf": [{"minimum": 1}, {"maximum": 5}]})), "oneOf"),
        (Form::Schema(json!({"x-guidance": {"lenient": true}, "not": {}})), "x-guidance"),
        (Form::Schema(json!({"type": "object", "minProperties": 2})), "minProperties"),
        (Form::Schema(json!({"const": 9_007_199_254_740_993_u64})), "2^53"),
        (Form::Schema(json!({"items": [{"multipleOf": 1009}, {"multipleOf": 0.0101}]})), "multipleOf"),
        (Form::Schema(json!([])), "object"),
    ] {
        let told = refusal(&form);
        assert!(told.contains(word), "{told}");
        assert!(told.len() <= MAX_MESSAGE_BYTES && !told.contains("backtrace") && !told.contains('\n'), "{told}");
    }
    let large = regex(&"a".repeat(MAX_FORM_BYTES + 1));
    assert!(refusal(&large).contains("131073"));
}

#[test]
fn hostile_forms_are_taken_or_refused_and_never_end_the_process() {
    let grammars = grammars();
    let chain = |count: usize, link: &dyn Fn(usize) -> Json| {
        let mut links: serde_json::Map<String, Json> =
            (0..count).map(|index| (format!("d{index}"), link(index + 1))).collect();
        links.insert(format!("d{count}"), json!({"type": "object", "properties": {"a": {"type": "string"}}}));
        Form::Schema(json!({"$ref": "#/$defs/d0", "$defs": links}))
    };
    let to = |index: usize| json!({"$ref": format!("#/$defs/d{index}")});
    let either = |index: usize| {
        let one = |name: &str| json!({"properties": {(format!("{name}{index}")): {}}, "required": [format!("{name}{index}")]});
        json!({"anyOf": [one("a"), one("b")]})
    };
    let deep = (0..110).fold(json!({"type": "string"}), |inner, _| json!({"type": "array", "items": inner}));
    let optional: serde_json::Map<String, Json> =
        (0..1500).map(|index| (format!("property{index}"), json!({"type": "string"}))).collect();
    let rules = |count: usize, name: &str, twice: bool| {
        let rule = |index: usize| match twice {
            true => format!("{name}{index}: {name}{0} {name}{0}\n", index + 1),
            false => format!("{name}{index}: {name}{}\n", index + 1),
        };
        lark(&format!("start: {name}0\n{}{name}{count}: \"a\"\n", (0..count).map(rule).collect::<String>()))
    };
    for form in [
        chain(2500, &|index| json!({"allOf": [to(index)]})),
        chain(40, &|index| json!({"allOf": [to(index), to(index)]})),
        Form::Schema(json!({"allOf": (0..12).map(either).collect::<Vec<_>>()})),
        Form::Schema(deep),
        Form::Schema(json!({"type": "object", "properties": optional})),
        Form::Schema(json!({"type": "array", "items": {"type": "array", "minItems": 100_000}, "minItems": 100_000})),
        Form::Schema(json!({"type": "string", "minLength": 100_000_000})),
        Form::Schema(json!({"type": "integer", "multipleOf": 1_000_003})),
        regex("((((a{1000}){1000}){1000}){1000}){1000}"),
        regex("(a|b)*a(a|b){500}"),
        regex(r"\p{L}{1,5000}"),
        rules(6000, "r", false),
        rules(6000, "R", false),
        rules(60, "r", true),
        rules(60, "R", true),
        lark("start: start start | \"a\""),
        lark("start: (\"a\"{1,100000}){1,100000}"),
    ] {
        let Ok(compiled) = grammars.compile(&form) else { continue };
        let mut constraint = compiled.begin();
        for _ in 0..30 {
            // What takes too much is told, and the candidate ends.
            let Ok(allowed) = constraint.allowed() else { break };
            let Some(token) = allowed.first_bit_set().filter(|token| *token < 256) else { break };
            if constraint.accept(token as u32).is_ok_and(|progress| progress == Progress::Complete) {
                break;
            }
        }
    }
}

#[test]
fn a_vocabulary_that_cannot_spell_the_form_is_told() {
    let letters: Vec<Vec<u8>> = (b' '..=b'~').filter(|byte| *byte != b'{').map(|byte| vec![byte]).collect();
    let grammars = Grammars::new(&letters, &[]).unwrap();
    let told = grammars.compile(&Form::Schema(json!({"type": "object"}))).unwrap_err().to_string();
    assert!(told.contains("cannot spell `{`"), "{told}");
    let told = grammars.compile(&regex(r"\{a")).unwrap_err().to_string();
    assert!(told.contains("`{`"), "{told}");
    assert!(grammars.compile(&regex("ab")).is_ok());
}

#[test]
fn divisors_are_counted_by_their_digits() {
    for (number, expected) in [("5", 5), ("100", 1), ("0.01", 1), ("0.25", 25), ("2.50", 25), ("5.0", 5), ("1e-7", 1)] {
        assert_eq!(digits(number), Some(expected), "{number}");
    }
    assert_eq!(digits("0.1234567890123456789012345"), None);
    assert_eq!(least_common_multiple(4, 6), Some(12));
    assert_eq!(least_common_multiple(u64::MAX, 2), None);
}
