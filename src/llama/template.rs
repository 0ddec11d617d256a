//! The model's own chat template: from the client's messages to the text that the model was trained on.

use minijinja::Value;
use serde_json::Value as Json;
use time::OffsetDateTime;

use super::jinja::Jinja;
use super::reasoning::ThoughtMarks;
use super::tool_calls::ToolFormat;
use super::vocabulary::Vocabulary;
use crate::failure::Failure;

/// A compiled chat template.
#[derive(Debug)]
pub(super) struct ChatTemplate {
    jinja: Jinja,
    takes_tools: bool,
    tool_format: ToolFormat,
    thought_marks: ThoughtMarks,
}

impl ChatTemplate {
    /// # Errors
    ///
    /// In words, when the template is not one that can be compiled.
    pub(super) fn new(source: &str) -> Result<Self, String> {
        Self::with_clock(source, OffsetDateTime::now_utc)
    }

    fn with_clock(source: &str, clock: fn() -> OffsetDateTime) -> Result<Self, String> {
        Ok(Self {
            jinja: Jinja::new(source, clock)?,
            takes_tools: source.contains("tools"),
            tool_format: ToolFormat::of(source),
            thought_marks: ThoughtMarks::of(source),
        })
    }

    /// Whether the template puts tool definitions before the model at all.
    pub(super) fn takes_tools(&self) -> bool {
        self.takes_tools
    }

    /// How the model writes tool calls.
    pub(super) fn tool_format(&self) -> &ToolFormat {
        &self.tool_format
    }

    /// How the model marks what it thinks.
    pub(super) fn thought_marks(&self) -> ThoughtMarks {
        self.thought_marks
    }

    /// Renders a conversation up to where the model is to answer.
    ///
    /// # Errors
    ///
    /// When the messages are not of a shape that the engine takes, or the template refuses them.
    pub(super) fn render(&self, messages: &str, tools: &[&str], vocabulary: &Vocabulary) -> Result<String, Failure> {
        self.render_with(messages, tools, vocabulary.bos_text(), vocabulary.eos_text(), &|text| vocabulary.defuse(text))
    }

    fn render_with(
        &self,
        messages: &str,
        tools: &[&str],
        bos: &str,
        eos: &str,
        defuse: &dyn Fn(&str) -> String,
    ) -> Result<String, Failure> {
        let refused = |message: String| Failure::invalid_param("messages", message);
        let messages: Vec<Json> = serde_json::from_str(messages)
            .map_err(|error| refused(format!("messages must be an array of objects: {error}")))?;
        let messages = messages.into_iter().map(plain_message).collect::<Result<Vec<_>, _>>()?;
        let tools = tools
            .iter()
            .map(|tool| serde_json::from_str::<Json>(tool))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Failure::invalid_param("tools", format!("tools must be JSON: {error}")))?;
        let tools = if tools.is_empty() { Value::from(()) } else { to_value(&Json::Array(tools), defuse) };

        let render = |messages: &[Json]| {
            let context = Value::from_pairs([
                ("messages", to_value(&Json::Array(messages.to_vec()), defuse)),
                ("tools", tools.clone()),
                ("documents", Value::from(())),
                ("add_generation_prompt", Value::from(true)),
                ("bos_token", Value::from(bos)),
                ("eos_token", Value::from(eos)),
            ]);
            self.jinja.render(context)
        };
        // Most templates want the arguments of earlier tool calls as an object, a few as the JSON text.
        let mut with_objects = messages.clone();
        let has_calls = with_objects.iter_mut().map(parse_arguments).filter(|any| *any).count() > 0;
        let render_either = |change: fn(Json) -> Json| {
            let changed = |messages: &[Json]| messages.iter().cloned().map(change).collect::<Vec<_>>();
            match render(&changed(&with_objects)) {
                Err(error) if has_calls => render(&changed(&messages)).map_err(|_| error),
                other => other,
            }
        };
        // Most know that a turn which calls tools may have no content, a few only that it may be empty: they fail, or
        // write the word None for it.
        let mut rendered = render_either(std::convert::identity);
        if messages.iter().any(|message| message["content"].is_null())
            && let Ok(with_texts) = render_either(empty_for_null)
            && rendered.as_ref().map_or(true, |text| nones(text) > nones(&with_texts))
        {
            rendered = Ok(with_texts);
        }
        rendered.map_err(|error| {
            let detail = error.detail().map_or_else(|| error.to_string(), str::to_owned);
            refused(format!("the model's chat template refuses the messages: {detail}"))
        })
    }
}

/// Names under which the thoughts of an earlier turn come.
const REASONING_FIELDS: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// One message in the shape that templates know: text as one string, `developer` as `system`.
fn plain_message(message: Json) -> Result<Json, Failure> {
    let refused = |text: &str| Err(Failure::invalid_param("messages", text));
    let Json::Object(mut message) = message else { return refused("each message must be an object") };
    match message.get("role") {
        Some(Json::String(role)) if role == "developer" => {
            message.insert("role".into(), "system".into());
        }
        Some(Json::String(_)) => {}
        _ => return refused("each message must have a role"),
    }
    // What a model thought comes back to it under the names that templates read, as in `transformers`.
    let thought = REASONING_FIELDS.iter().find_map(|name| message.get(*name).filter(|thought| !thought.is_null()));
    if let Some(thought) = thought.cloned() {
        message.entry("thinking").or_insert_with(|| thought.clone());
        message.insert("reasoning_content".into(), thought);
    }
    match message.get("content") {
        // Templates join text and would write out a null; turns that call tools are known to have none.
        None | Some(Json::Null) => {
            let calls = message.get("tool_calls").and_then(Json::as_array).is_some_and(|calls| !calls.is_empty());
            message.insert("content".into(), if calls { Json::Null } else { "".into() });
        }
        Some(Json::String(_)) => {}
        Some(Json::Array(parts)) => {
            let mut texts = Vec::new();
            for part in parts {
                match (part.get("type").and_then(Json::as_str), part.get("text").and_then(Json::as_str)) {
                    (Some("text") | None, Some(text)) => texts.push(text),
                    _ => {
                        return refused(
                            "content parts other than text (images, audio, files) are not supported by the in-process engine yet",
                        );
                    }
                }
            }
            let text = texts.join("\n");
            message.insert("content".into(), text.into());
        }
        Some(_) => return refused("the content of a message must be a string, a list of parts or null"),
    }
    Ok(Json::Object(message))
}

fn nones(text: &str) -> usize {
    text.matches("None").count()
}

fn empty_for_null(mut message: Json) -> Json {
    if let Some(content @ Json::Null) = message.get_mut("content") {
        *content = "".into();
    }
    message
}

/// Turns the arguments of tool calls from JSON text into objects. Whether there were any.
fn parse_arguments(message: &mut Json) -> bool {
    let Some(calls) = message.get_mut("tool_calls").and_then(Json::as_array_mut) else { return false };
    let mut any = false;
    for call in calls {
        if let Some(arguments) = call.pointer_mut("/function/arguments")
            && let Some(Ok(object @ Json::Object(_))) = arguments.as_str().map(serde_json::from_str::<Json>)
        {
            *arguments = object;
            any = true;
        }
    }
    any
}

fn to_value(json: &Json, defuse: &dyn Fn(&str) -> String) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Value::from(value),
            (None, Some(value)) => Value::from(value),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(defuse(text)),
        Json::Array(items) => items.iter().map(|item| to_value(item, defuse)).collect::<Vec<_>>().into(),
        Json::Object(fields) => {
            Value::from_pairs(fields.iter().map(|(name, value)| (defuse(name), to_value(value, defuse))))
        }
    }
}

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureKind;

    fn render(template: &str, messages: &str, tools: &[&str]) -> Result<String, Failure> {
        ChatTemplate::new(template).unwrap().render_with(messages, tools, "<s>", "</s>", &str::to_owned)
    }

    const CHATML: &str = "{%- for m in messages %}
    {{- '<|im_start|>' + m.role + '\\n' + (m['content'] or '') + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
";

    #[test]
    fn a_conversation_is_written_as_the_template_says() {
        let text = render(CHATML, r#"[{"role":"developer","content":"Be brief."},{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},{"role":"assistant","content":null}]"#, &[]).unwrap();
        assert_eq!(
            text,
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\na\nb<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n<|im_start|>assistant\n"
        );
    }

    #[test]
    fn tools_are_written_like_python_writes_json() {
        let tool = r#"{"type":"function","function":{"z":1,"name":"f","parameters":{"x":1.0,"big":18446744073709551615,"é<&>'":[true,null,[],{}]}}}"#;
        let text = render("{% for t in tools %}{{ t | tojson }}{% endfor %}", r#"[{"role":"user"}]"#, &[tool]).unwrap();
        assert_eq!(
            text,
            r#"{"type": "function", "function": {"z": 1, "name": "f", "parameters": {"x": 1.0, "big": 18446744073709551615, "é<&>'": [true, null, [], {}]}}}"#
        );
        let text =
            render("{{ tools[0] | tojson(indent=2) }}", r#"[{"role":"user"}]"#, &[r#"{"a":[1,{"b":[]}]}"#]).unwrap();
        assert_eq!(text, "{\n  \"a\": [\n    1,\n    {\n      \"b\": []\n    }\n  ]\n}");
    }

    #[test]
    fn without_tools_the_template_sees_none() {
        let template = "{% if tools is none %}no{% endif %}{% if tools %}yes{% endif %}{{ bos_token }}{{ eos_token }}";
        assert_eq!(render(template, r#"[{"role":"user"}]"#, &[]).unwrap(), "no<s></s>");
    }

    #[test]
    fn a_template_that_raises_is_a_refused_request_with_its_words() {
        let template = "{% if messages[0].role != 'user' %}{{ raise_exception('Roles must alternate!') }}{% endif %}";
        let failure = render(template, r#"[{"role":"system","content":"x"}]"#, &[]).unwrap_err();
        assert_eq!(failure.kind, FailureKind::InvalidRequest);
        assert_eq!(failure.param.as_deref(), Some("messages"));
        assert!(failure.message.ends_with("Roles must alternate!"), "{}", failure.message);
    }

    #[test]
    fn a_template_that_hardly_ends_is_stopped() {
        let long = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
        assert!(render(long, r#"[{"role":"user"}]"#, &[]).is_err());
    }

    #[test]
    fn a_turn_without_text_is_empty_and_not_the_word_none() {
        let template = "{% for m in messages %}[{{ m.content }}]{% endfor %}";
        let messages = r#"[{"role":"user","content":null},{"role":"assistant"}]"#;
        assert_eq!(render(template, messages, &[]).unwrap(), "[][]");
    }

    #[test]
    fn marks_for_training_are_passed_over() {
        let template = "{%- generation -%} a{{ bos_token }} {%- endgeneration %}{% if true %}{% endif %}b{% generation %}c{% endgeneration %}";
        assert_eq!(render(template, r#"[{"role":"user"}]"#, &[]).unwrap(), "a<s>bc");
    }

    #[test]
    fn python_methods_and_dates_work() {
        let template = "{{ messages[0].content.strip().split('</think>')[-1].lstrip('\\n') }} {{ strftime_now('%Y')|length }}{% if messages[0].content.startswith(' ') %}!{% endif %}";
        assert_eq!(render(template, r#"[{"role":"user","content":" a</think>\nb "}]"#, &[]).unwrap(), "b 4!");
    }

    #[test]
    fn earlier_calls_come_as_objects_or_as_text_whichever_the_template_takes() {
        let messages = r#"[{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"a\":1.50,\"b\":2}"}}]}]"#;
        let object = "{{ messages[0].tool_calls[0].function.arguments | tojson }}";
        assert_eq!(render(object, messages, &[]).unwrap(), r#"{"a": 1.5, "b": 2}"#);
        let text = "{{ 'x' ~ messages[0].tool_calls[0].function.arguments.strip() }}";
        assert_eq!(render(text, messages, &[]).unwrap(), r#"x{"a":1.50,"b":2}"#);
    }

    #[test]
    fn images_and_messages_out_of_shape_are_refused_by_name() {
        for messages in [
            r#"[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]"#,
            r#"[{"content":"x"}]"#,
            r#"["x"]"#,
            r#"{"role":"user"}"#,
            r#"[{"role":"user","content":1}]"#,
        ] {
            let failure = render(CHATML, messages, &[]).unwrap_err();
            assert_eq!(failure.param.as_deref(), Some("messages"), "{messages}");
        }
    }

    #[test]
    fn a_template_that_is_none_is_told_when_it_is_compiled() {
        assert!(ChatTemplate::new("{% if %}").is_err());
        assert!(!ChatTemplate::new(CHATML).unwrap().takes_tools());
    }
}
