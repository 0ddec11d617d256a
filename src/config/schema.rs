//! JSON Schemas (draft 2020-12) of a configuration and of the settings file, made of the tables that the parsers
//! read: what a schema says a parser does.
//!
//! A schema tells of one field at a time. Rules over several fields, references to secrets, and where an address may
//! lead are the parser's alone.

use serde_json::{Map, Value, json};

use super::endpoint::MOST_MEMBERS;
use super::fields::{FIELDS, Field, Kind, Scope};
use super::raw::RawSettings;
use super::settings_table::{SETTINGS, SettingKind};

/// Text that is not blank.
const NOT_BLANK: &str = r"\S";
/// The same without control characters, which no header can carry.
const NOT_BLANK_LINE: &str =
    r"^\s*[^\s\u0000-\u001F\u007F-\u009F]([^\u0000-\u001F\u007F-\u009F]*[^\s\u0000-\u001F\u007F-\u009F])?\s*$";
/// An absolute address, or `auto`.
const URL: &str = r"^\s*([aA][uU][tT][oO]|[hH][tT][tT][pP][sS]?://[^\s?#@]+)\s*$";

/// An absolute address.
const ABSOLUTE_URL: &str = r"^\s*[hH][tT][tT][pP][sS]?://[^\s?#@]+\s*$";

/// The document of `POST /configure`: also what a `PATCH` may hold, which needs no `model`.
pub fn configuration(required: &[&str]) -> Value {
    object(properties(|_| true), required)
}

/// The properties of a chat request that stand for fields of this scope.
pub fn of_scope(scope: Scope) -> Map<String, Value> {
    properties(|field| field.scope == scope)
}

/// One of a closed set of words, in each of its spellings.
pub fn words(known: &[&str]) -> Value {
    json!({"type": "string", "enum": spellings(known)})
}

/// The configuration file, `[active]` included.
pub fn settings_file() -> Value {
    let defaults = serde_json::to_value(RawSettings::default()).expect("settings serialise");
    let mut sections: Map<String, Value> = Map::new();
    for setting in SETTINGS {
        let (section, key) = setting.name.split_once('.').expect("a setting has a section");
        let mut schema = setting_kind(setting.kind);
        schema["description"] = setting.description.into();
        match &defaults[section][key] {
            Value::Null => {}
            default => schema["default"] = default.clone(),
        }
        let section = sections.entry(section.to_owned()).or_insert_with(|| object(Map::new(), &[]));
        section["properties"][key] = schema;
    }
    let mut active = configuration(&["model"]);
    active["description"] = "The first active configuration, in the words of POST /configure.".into();
    sections.insert("active".to_owned(), active);
    let mut file = object(sections, &[]);
    file["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    file["title"] = "The configuration file of itsd".into();
    file
}

fn properties(wanted: impl Fn(&Field) -> bool) -> Map<String, Value> {
    let mut properties = Map::new();
    for field in FIELDS.iter().filter(|field| wanted(field)) {
        let schema = field_schema(field);
        for alias in field.aliases {
            let mut schema = schema.clone();
            schema["description"] = format!("Another name of `{}`.", field.name).into();
            properties.insert((*alias).to_owned(), schema);
        }
        properties.insert(field.name.to_owned(), schema);
    }
    properties
}

fn object(properties: Map<String, Value>, required: &[&str]) -> Value {
    let mut schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
    if !required.is_empty() {
        schema["required"] = required.into();
        for name in required {
            // Null stands for a field that was left out, and this one must not be.
            schema["properties"][name]["type"] = schema["properties"][name]["type"][0].clone();
        }
    }
    schema
}

/// A field's schema. Null is as good as leaving it out.
fn field_schema(field: &Field) -> Value {
    let mut schema = or_null(kind(field.kind));
    schema["description"] = field.about.into();
    match serde_json::from_str(field.default).expect("defaults are JSON") {
        Value::Null => {}
        default => schema["default"] = default,
    }
    schema
}

fn or_null(mut schema: Value) -> Value {
    if let Some(words) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        words.push(Value::Null);
    }
    match schema["type"].take() {
        Value::String(one) => schema["type"] = json!([one, "null"]),
        _ => {
            schema.as_object_mut().expect("schemas are objects").shift_remove("type");
            let alternatives = schema.get_mut("anyOf").and_then(Value::as_array_mut);
            alternatives.expect("a schema has a type or alternatives").push(json!({"type": "null"}));
        }
    }
    schema
}

fn kind(kind: Kind) -> Value {
    match kind {
        Kind::Boolean => json!({"type": "boolean"}),
        Kind::Integer(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
        Kind::Number(least, most) => json!({"type": "number", "minimum": least, "maximum": most}),
        Kind::Positive(most) => json!({"type": "number", "exclusiveMinimum": 0, "maximum": most}),
        Kind::Text => json!({"type": "string", "pattern": NOT_BLANK}),
        Kind::Token => json!({"type": "string", "minLength": 1}),
        Kind::Secret => json!({"type": "string", "pattern": NOT_BLANK_LINE}),
        Kind::Url => json!({"type": "string", "pattern": URL}),
        Kind::Urls(members) => {
            let properties = members.iter().map(|member| (member.name.to_owned(), field_schema(member)));
            let mut member = object(properties.collect(), &["url"]);
            member["properties"]["url"]["pattern"] = json!(ABSOLUTE_URL);
            let address = json!({"type": "string", "pattern": ABSOLUTE_URL});
            let list = json!({
                "type": "array", "minItems": 1, "maxItems": MOST_MEMBERS, "items": {"anyOf": [address, member]},
            });
            json!({"anyOf": [{"type": "string", "pattern": URL}, list]})
        }
        Kind::Texts => json!({"type": "array", "items": {"type": "string", "minLength": 1}}),
        Kind::TextOrTexts => json!({"anyOf": [
            {"type": "string", "minLength": 1},
            {"type": "array", "items": {"type": "string", "minLength": 1}},
        ]}),
        Kind::Word { known, later: _ } => words(known),
        Kind::WordOrText(words) => json!({"anyOf": [
            {"type": "string", "enum": spellings(words)},
            {"type": "string", "pattern": r"\S\s+\S"},
        ]}),
        Kind::WordOrInteger(words, least, most) => json!({"anyOf": [
            {"type": "string", "enum": words},
            {"type": "integer", "minimum": least, "maximum": most},
        ]}),
        Kind::Object(members) => {
            let properties = members.iter().map(|member| (member.name.to_owned(), field_schema(member)));
            object(properties.collect(), &[])
        }
        Kind::TextMap => json!({
            "type": "object",
            "propertyNames": {"pattern": NOT_BLANK},
            "additionalProperties": {"type": "string", "pattern": NOT_BLANK},
        }),
        Kind::ObjectMap(members) => {
            let properties = members.iter().map(|member| (member.name.to_owned(), field_schema(member)));
            json!({"type": "object", "additionalProperties": object(properties.collect(), &[])})
        }
        Kind::OpenObject(members) => {
            let properties = members.iter().map(|member| (member.name.to_owned(), field_schema(member)));
            json!({"type": "object", "properties": properties.collect::<Map<_, _>>()})
        }
        Kind::TemperatureSwitch => json!({
            "type": "array",
            "prefixItems": [
                {"type": "number", "minimum": 0, "maximum": 2},
                {"type": "string", "minLength": 1},
                {"type": "string", "minLength": 1},
            ],
            "minItems": 3,
            "maxItems": 3,
        }),
        Kind::BooleanOrWord(words) => json!({"anyOf": [
            {"type": "boolean"},
            {"type": "string", "enum": words},
        ]}),
    }
}

/// The words, and each as it is written with `_` for `-` and the other way round, which are the same.
fn spellings(words: &[&str]) -> Vec<String> {
    let mut spellings: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    for word in words {
        for other in [word.replace('-', "_"), word.replace('_', "-")] {
            if !spellings.contains(&other) {
                spellings.push(other);
            }
        }
    }
    spellings
}

fn setting_kind(kind: SettingKind) -> Value {
    match kind {
        SettingKind::Integer { least, most } => json!({"type": "integer", "minimum": least, "maximum": most}),
        SettingKind::Switch => json!({"type": "boolean"}),
        SettingKind::Text => json!({"type": "string", "pattern": NOT_BLANK}),
        SettingKind::Path => json!({"type": "string"}),
        SettingKind::Texts | SettingKind::Paths => json!({"type": "array", "items": {"type": "string"}}),
        SettingKind::Choice(words) => json!({"type": "string", "enum": words}),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use jsonschema::Validator;
    use proptest::prelude::*;

    use super::*;

    const ADDRESSES: &[&str] = &[
        "auto",
        " auto ",
        "",
        "gateway",
        "https://a.example",
        "http://localhost:8000/v1",
        "http://[::1]:8000",
        "ftp://a.example",
        "https://a.example/?q=1",
        "https://u:p@a.example",
        "https://a.example/#f",
    ];
    use crate::config::ActiveSettings;

    fn validator(schema: &Value) -> Validator {
        jsonschema::draft202012::meta::validate(schema).unwrap_or_else(|error| panic!("{error}"));
        jsonschema::draft202012::new(schema).unwrap()
    }

    #[test]
    fn every_field_that_the_parser_takes_is_in_the_schema_with_its_range() {
        let schema = configuration(&["model"]);
        validator(&schema);
        let properties = schema["properties"].as_object().unwrap();
        let mut names = 0;
        for field in FIELDS {
            for name in std::iter::once(&field.name).chain(field.aliases) {
                names += 1;
                let property = &properties[*name];
                match field.kind {
                    Kind::Integer(least, most) => {
                        assert_eq!(
                            (&property["minimum"], &property["maximum"]),
                            (&least.into(), &most.into()),
                            "{name}"
                        );
                    }
                    Kind::Number(least, most) => {
                        assert_eq!(
                            (&property["minimum"], &property["maximum"]),
                            (&least.into(), &most.into()),
                            "{name}"
                        );
                    }
                    Kind::Positive(most) => assert_eq!(property["maximum"], most, "{name}"),
                    _ => {}
                }
                assert!(!property["description"].as_str().unwrap().is_empty(), "{name}");
            }
        }
        assert_eq!(properties.len(), names);
        assert_eq!(properties["budget"]["default"], 8);
        assert_eq!(schema["required"], json!(["model"]));
    }

    #[test]
    fn the_manual_names_every_field() {
        let manual = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md")).unwrap();
        for field in FIELDS {
            let members = match field.kind {
                Kind::Object(members) | Kind::ObjectMap(members) | Kind::OpenObject(members) => members,
                _ => &[],
            };
            for name in
                std::iter::once(&field.name).chain(field.aliases).chain(members.iter().map(|member| &member.name))
            {
                assert!(manual.contains(&format!("`{name}`")), "{name} is missing");
            }
        }
    }

    #[test]
    fn the_file_that_ships_is_one_that_the_schema_takes_and_mistakes_are_not() {
        let schema = settings_file();
        let validator = validator(&schema);
        let example =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(crate::config::DEFAULT_FILE)).unwrap();
        let example = config::Config::builder()
            .add_source(config::File::from_str(&example, config::FileFormat::Toml))
            .build()
            .unwrap();
        let example: Value = example.try_deserialize().unwrap();
        assert!(
            validator.is_valid(&example),
            "{:?}",
            validator.iter_errors(&example).map(|e| e.to_string()).collect::<Vec<_>>()
        );
        for wrong in [
            json!({"server": {"prot": 1}}),
            json!({"server": {"port": 70_000}}),
            json!({"sever": {}}),
            json!({"llama": {"max_sequences": 193}}),
            json!({"telemetry": {"log_format": "xml"}}),
            json!({"active": {}}),
            json!({"active": {"model": "m", "budget": 0}}),
        ] {
            assert!(!validator.is_valid(&wrong), "{wrong}");
        }
        // Every setting of the file is in the table.
        let known = serde_json::to_value(RawSettings::default()).unwrap();
        for (section, keys) in known.as_object().unwrap() {
            for key in keys.as_object().into_iter().flat_map(|keys| keys.keys()) {
                assert!(schema["properties"][section]["properties"].get(key).is_some(), "{section}.{key}");
            }
        }
    }

    /// Values near what a kind takes, and some of every other type.
    fn values(kind: Kind) -> BoxedStrategy<Value> {
        let whole = |least: i64, most: i64| {
            prop_oneof![
                Just(json!(least)),
                Just(json!(most)),
                Just(json!(least.saturating_sub(1))),
                Just(json!(most.saturating_add(1))),
                Just(json!(1.5)),
                Just(json!(3.0)),
                (-5_i64..2000).prop_map(Value::from),
            ]
            .boxed()
        };
        let number = |least: f64, most: f64| {
            prop_oneof![
                Just(json!(least)),
                Just(json!(most)),
                Just(json!(least - 0.001)),
                Just(json!(most * 1.001 + 0.001)),
                (-1.0..3.0).prop_map(Value::from),
            ]
            .boxed()
        };
        let text = || "[a-z /_-]{0,8}|\t| ";
        let words = |words: &'static [&'static str]| {
            let spelt = spellings(words);
            prop_oneof![3 => proptest::sample::select(spelt).prop_map(Value::from), 1 => text().prop_map(Value::from)]
                .boxed()
        };
        let own = match kind {
            Kind::Boolean => any::<bool>().prop_map(Value::from).boxed(),
            Kind::Integer(least, most) => whole(least, most),
            Kind::Number(least, most) => number(least, most),
            Kind::Positive(most) => number(0.0, most),
            Kind::Text | Kind::Token | Kind::Secret => text().prop_map(Value::from).boxed(),
            Kind::Url => proptest::sample::select(ADDRESSES.to_vec()).prop_map(Value::from).boxed(),
            Kind::Urls(members) => {
                let address = || proptest::sample::select(ADDRESSES.to_vec()).prop_map(Value::from);
                let of_list = proptest::sample::subsequence(ADDRESSES.to_vec(), 0..3).prop_map(|texts| json!(texts));
                let member = (address(), members_of(members)).prop_map(|(url, mut member)| {
                    member["url"] = url;
                    json!([member])
                });
                prop_oneof![address(), of_list, member, Just(json!([{"weight": 1}])), Just(json!(["http://a", 1]))]
                    .boxed()
            }
            Kind::Texts | Kind::TextOrTexts => prop_oneof![
                proptest::collection::vec("[a-z]{0,3}", 0..4).prop_map(|texts| json!(texts)),
                Just(json!(["a", 1])),
                "[a-z]{0,3}".prop_map(Value::from),
            ]
            .boxed(),
            Kind::Word { known, .. } => words(known),
            Kind::WordOrText(known) => prop_oneof![words(known), "[a-z]{1,4} [a-z]{0,4}".prop_map(Value::from)].boxed(),
            Kind::WordOrInteger(known, least, most) => prop_oneof![words(known), whole(least, most)].boxed(),
            Kind::Object(members) => members_of(members),
            Kind::TextMap => {
                proptest::collection::btree_map("[a-z ]{0,2}", "[a-z ]{0,2}", 0..3).prop_map(|map| json!(map)).boxed()
            }
            Kind::ObjectMap(members) => members_of(members).prop_map(|object| json!({"m": object})).boxed(),
            Kind::OpenObject(members) => prop_oneof![members_of(members), Just(json!({"top_a": 1}))].boxed(),
            Kind::TemperatureSwitch => {
                let texts = proptest::collection::vec("[a-z]{0,1}", 1..4);
                (number(0.0, 2.0), texts)
                    .prop_map(|(temperature, texts)| {
                        json!(
                            std::iter::once(temperature).chain(texts.into_iter().map(Value::from)).collect::<Vec<_>>()
                        )
                    })
                    .boxed()
            }
            Kind::BooleanOrWord(words) => {
                let word = proptest::sample::select(words).prop_map(Value::from);
                prop_oneof![any::<bool>().prop_map(Value::from), word, text().prop_map(Value::from)].boxed()
            }
        };
        let other = proptest::sample::select(vec![
            json!(null),
            json!(true),
            json!(0),
            json!(1),
            json!(1.5),
            json!(""),
            json!("a b"),
            json!([]),
            json!({}),
            json!({"zzz": 1}),
        ]);
        // An object of any content takes names that are refused by itsd for reasons of its own.
        let other = other.prop_filter("an object of any content", move |value| {
            !matches!(kind, Kind::OpenObject(_)) || *value != json!({"zzz": 1})
        });
        prop_oneof![4 => own, 1 => other].boxed()
    }

    fn members_of(members: &'static [Field]) -> BoxedStrategy<Value> {
        let one = (0..members.len()).prop_flat_map(move |at| {
            let member = members[at];
            values(member.kind).prop_map(move |value| (member.name.to_owned(), value))
        });
        proptest::collection::vec(one, 0..3).prop_map(|pairs| Value::Object(pairs.into_iter().collect())).boxed()
    }

    /// What else must be there for a field to be judged alone.
    fn companions(name: &str, value: &Value) -> Map<String, Value> {
        let mut document = Map::from_iter([("model".to_owned(), json!("m"))]);
        document.insert(name.to_owned(), value.clone());
        match (name, value.as_str()) {
            ("provider", Some("openai-compatible" | "openai_compatible")) => {
                document.insert("endpoint".to_owned(), json!("https://a.example"));
            }
            // A limit in dollars needs prices.
            ("limits", _) => {
                document.insert("prices".to_owned(), json!({"m": {}}));
            }
            // Only models in this process tell it.
            ("rm_name", Some("self_certainty" | "self-certainty")) => {
                document.insert("provider".to_owned(), json!("llama"));
            }
            ("vote_on", Some("regex")) => {
                document.insert("regex_patterns".to_owned(), json!(["a"]));
            }
            _ => {}
        }
        document
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_the_schema_takes_the_parser_takes_and_nothing_else(
            (name, value) in (0..FIELDS.len()).prop_flat_map(|at| {
                let field = &FIELDS[at];
                let names: Vec<&str> = std::iter::once(field.name).chain(field.aliases.iter().copied()).collect();
                (proptest::sample::select(names), values(field.kind))
            })
        ) {
            use std::sync::OnceLock;
            static VALIDATOR: OnceLock<Validator> = OnceLock::new();
            let validator = VALIDATOR.get_or_init(|| validator(&configuration(&["model"])));
            let document = companions(name, &value);
            let parsed = ActiveSettings::parse(&document);
            let document = Value::Object(document);
            prop_assert_eq!(
                validator.is_valid(&document),
                parsed.is_ok(),
                "{}: {:?}", document, parsed.err().map(|error| error.message)
            );
        }
    }
}
