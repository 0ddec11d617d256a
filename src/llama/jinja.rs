//! Jinja as chat templates know it: with the settings and functions that Python's `transformers` gives them
//! (`raise_exception`, `strftime_now`, `tojson`, loop controls, trimmed blocks), Python's methods, and Python's way
//! to write out what is no string.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;
use time::OffsetDateTime;

use super::python;

/// A compiled template.
#[derive(Debug)]
pub(super) struct Jinja {
    environment: Environment<'static>,
}

const NAME: &str = "chat";

/// Steps that one rendering may take, which is a thousand for each of ten thousand messages. A template comes
/// from a stranger's file, and one that loops without end must not hold a thread for ever.
const FUEL: u64 = 10_000_000;

impl Jinja {
    /// `clock` is what `strftime_now` reads.
    ///
    /// # Errors
    ///
    /// In words, when the template is not one that can be compiled.
    pub(super) fn new(source: &str, clock: fn() -> OffsetDateTime) -> Result<Self, String> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| error.to_string())?);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_formatter(|output, _, value| output.write_str(&python::str(value)).map_err(Error::from));
        environment.set_unknown_method_callback(method);
        environment.set_fuel(Some(FUEL));
        environment.add_filter("tojson", to_json);
        environment.add_filter("string", |value: &Value| python::str(value));
        // To Python a string is a sequence, and a sequence of characters at that.
        environment.add_test("sequence", |value: &Value| {
            matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::String | ValueKind::Undefined)
        });
        environment.add_test("iterable", |value: &Value| {
            value.as_str().is_some() || (!value.is_none() && value.try_iter().is_ok())
        });
        environment.add_filter("escape", html_escaped);
        environment.add_filter("e", html_escaped);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", move |format: &str| python::strftime(clock(), format));
        environment.add_template_owned(NAME, without_training_marks(source)).map_err(|error| error.to_string())?;
        Ok(Self { environment })
    }

    pub(super) fn render(&self, context: Value) -> Result<String, Error> {
        self.environment.get_template(NAME)?.render(context)
    }
}

/// Some templates mark the assistant's words for training, with a tag that only one library knows. Here the
/// marked part is kept like any other.
fn without_training_marks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let (tag, after) = rest[start..].split_at(length);
        out.push_str(&rest[..start]);
        match tag.trim_start_matches("{%").trim_matches(|c: char| c.is_whitespace() || "+-".contains(c)) {
            "generation" => out.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => out.push_str(&tag.replace("endgeneration", "endif")),
            _ => out.push_str(tag),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Python's methods, those that the template engine's own companion leaves out first.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let texts = |texts: [&str; 3]| Value::from(texts.map(Value::from).to_vec());
    if let Some(text) = value.as_str() {
        match name {
            "removeprefix" => {
                let (prefix,): (&str,) = from_args(args)?;
                return Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text)));
            }
            "removesuffix" => {
                let (suffix,): (&str,) = from_args(args)?;
                return Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text)));
            }
            "rsplit" => {
                let (separator, most): (&str, Option<i64>) = from_args(args)?;
                let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
                let mut parts: Vec<Value> = text.rsplitn(most.saturating_add(1), separator).map(Value::from).collect();
                parts.reverse();
                return Ok(Value::from(parts));
            }
            "partition" | "rpartition" => {
                let (separator,): (&str,) = from_args(args)?;
                let from_end = name == "rpartition";
                let halves = if from_end { text.rsplit_once(separator) } else { text.split_once(separator) };
                return Ok(match halves {
                    Some((before, after)) => texts([before, separator, after]),
                    None if from_end => texts(["", "", text]),
                    None => texts([text, "", ""]),
                });
            }
            "title" => {
                let () = from_args(args)?;
                return Ok(Value::from(python::title(text)));
            }
            "index" => {
                let (part,): (&str,) = from_args(args)?;
                let found = text.find(part).map(|start| text[..start].chars().count());
                return found.map(Value::from).ok_or_else(|| {
                    Error::new(ErrorKind::InvalidOperation, format!("{part:?} is not in the text to look it up in"))
                });
            }
            _ => {}
        }
    }
    pycompat::unknown_method_callback(state, value, name, args)
}

fn html_escaped(value: &Value) -> String {
    let mut out = String::new();
    for c in python::str(value).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&#34;"),
            c => out.push(c),
        }
    }
    out
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// Python's `json.dumps(value, ensure_ascii=False, …)`, which is what models saw in training. The filter that comes
/// with the template engine escapes characters for HTML.
fn to_json(value: &Value, positional: Rest<Value>, options: Kwargs) -> Result<String, Error> {
    if !positional.is_empty() {
        return Err(Error::new(ErrorKind::TooManyArguments, "tojson takes its options by name"));
    }
    let separators: Option<Vec<String>> = options.get("separators")?;
    let indent: Option<usize> = options.get("indent")?;
    let (item, key) = match separators.as_deref() {
        None => (if indent.is_some() { "," } else { ", " }, ": "),
        Some([item, key]) => (item.as_str(), key.as_str()),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "tojson takes two separators")),
    };
    let style = python::JsonStyle {
        item,
        key,
        indent,
        ensure_ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    python::json(value, &style)
}
