//! The columns of the table: what each says, how a configuration may say it, and how it is shown.

use serde_json::Value;

use super::overrides::MODELS;
use crate::config::field::{self, SettingsError};
use crate::config::fields::{Field, Kind, Scope};
use crate::config::word::words;

/// Whether a server does something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    Yes,
    No,
    /// It differs by model, or nobody knows.
    Unknown,
}

words! {
    /// How far a model can be made to call a tool by `tool_choice`.
    pub enum ForcedTool {
        /// To call the tool of a name.
        Named = "named",
        /// To call some tool.
        Required = "required",
        /// Not at all: it may call one or say something.
        Never = "never",
        Unknown = "unknown",
    }
}

words! {
    /// What becomes of a conversation whose last message is the assistant's.
    pub enum Prefill {
        /// That message is continued.
        Continued = "continued",
        /// It is where the request says `continue_final_message`.
        ByField = "by_field",
        /// The model answers it with a message of its own.
        NewTurn = "new_turn",
        /// The request is refused.
        Refused = "refused",
        Unknown = "unknown",
    }
}

words! {
    /// The name under which the length limit is taken.
    pub enum LengthLimit {
        MaxTokens = "max_tokens",
        MaxCompletionTokens = "max_completion_tokens",
        /// Both are, or nobody knows which: the client's choice stands.
        Either = "either",
    }
}

/// How far a server can be held to a shape of answer by `response_format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StructuredOutput {
    /// To a JSON Schema.
    JsonSchema,
    /// To any JSON object, by `json_object`.
    JsonObject,
    /// Not at all.
    Unsupported,
    /// It differs by model or nobody knows: a schema is asked for, and a refusal of it is no surprise.
    Unknown,
}

/// A cell of the table.
pub(super) trait Cell: Copy {
    /// What a configuration may say in its place.
    const KIND: Kind;

    fn read(param: &str, value: &Value) -> Result<Self, SettingsError>;

    /// As a configuration would say it.
    fn shown(self) -> Value;
}

macro_rules! columns {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $about:literal,)+) => {
        /// What one model can do where it is served: a row of the table.
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub struct Capabilities {
            $($(#[$doc])* pub $name: $type,)+
            /// Body fields beyond OpenAI's that a server knows which refuses those it does not know.
            pub own_fields: &'static [&'static str],
        }

        /// What is said in place of single cells of a row.
        #[derive(Debug, Clone, Copy, Default, PartialEq)]
        pub(super) struct Cells {
            $($name: Option<$type>,)+
        }

        /// The columns as the members that such an object may have, in the order in which they are shown.
        pub const COLUMNS: &[Field] = &[$(column::<$type>(stringify!($name), $about),)+];

        /// What `extra_args.capabilities` may have: the columns, and those of single models.
        pub const MEMBERS: &[Field] = &[$(column::<$type>(stringify!($name), $about),)+ OF_MODELS];

        impl Capabilities {
            /// The cells by the names of their columns.
            pub fn cells(&self) -> Vec<(&'static str, Value)> {
                vec![$((stringify!($name), self.$name.shown()),)+]
            }
        }

        impl Cells {
            /// Takes in the member of this name, which stands at `place`; whether there is such a column. Null says
            /// nothing of it.
            pub fn take(&mut self, place: &str, name: &str, value: &Value) -> Result<bool, SettingsError> {
                match name {
                    $(stringify!($name) if value.is_null() => {}
                    stringify!($name) => self.$name = Some(Cell::read(place, value)?),)+
                    _ => return Ok(false),
                }
                Ok(true)
            }

            /// A row with these cells in place of its own.
            pub fn over(&self, row: Capabilities) -> Capabilities {
                Capabilities { $($name: self.$name.unwrap_or(row.$name),)+ own_fields: row.own_fields }
            }
        }
    };
}

/// A column as a member of an object of cells.
const fn column<C: Cell>(name: &'static str, about: &'static str) -> Field {
    Field { name, aliases: &[], scope: Scope::Configuration, kind: C::KIND, default: "null", about }
}

const OF_MODELS: Field = Field {
    name: MODELS,
    aliases: &[],
    scope: Scope::Configuration,
    kind: Kind::ObjectMap(COLUMNS),
    default: "{}",
    about: "The same of single models alone, by the names that the provider knows them by.",
};

impl Cells {
    /// Reads the object of this place.
    ///
    /// # Errors
    ///
    /// What is no object, a column that there is not, and what cannot stand in one.
    pub fn parse(param: &str, value: &Value) -> Result<Self, SettingsError> {
        let mut cells = Self::default();
        for (name, value) in field::object(param, value)? {
            if !cells.take(&format!("{param}.{name}"), name, value)? {
                return Err(SettingsError::unknown_member(param, name, COLUMNS.iter().map(|column| column.name)));
            }
        }
        Ok(cells)
    }
}

columns! {
    n: Support = "Whether `n` yields that many choices.",
    /// `None` where there is no limit, or none that is known.
    max_n: Option<u16> = "The most that `n` may be.",
    sampling: Support = "Whether `temperature`, `top_p` and the penalties are taken other than at their defaults.",
    temperature_with_top_p: Support = "Whether `temperature` and `top_p` are taken together.",
    top_k: Support = "Whether `top_k` and `min_p` are taken.",
    logit_bias: Support = "Whether `logit_bias` is taken.",
    seed: Support = "Whether `seed` is taken.",
    /// `None` where there is no limit, or none that is known.
    max_stop: Option<u16> = "How many texts `stop` may hold; 0 where it is not taken at all.",
    length_limit: LengthLimit = "The name under which the length limit is taken.",
    explicit_sampling: Support =
        "Whether sampling settings must be sent, since the server's own defaults are not those of OpenAI.",
    logprobs: Support = "Whether log-probabilities are told.",
    /// 0 to 20; of no meaning where there are no log-probabilities.
    max_top_logprobs: u8 = "The most alternatives of a token that they tell.",
    tools: Support = "Whether `tools` are taken.",
    parallel_tools: Support = "Whether `parallel_tool_calls` is taken.",
    forced_tool: ForcedTool = "How far `tool_choice` can make the model call a tool.",
    json_object: Support = "Whether `response_format` takes `json_object`.",
    json_schema: Support = "Whether `response_format` takes `json_schema`.",
    developer_role: Support = "Whether messages may have the role `developer`.",
    prefill: Prefill = "What becomes of a last message that is the assistant's.",
    refuses_unknown_fields: Support = "Whether a request with a field that the server does not know is refused.",
    stream_usage: Support = "Whether a stream tells its usage on `stream_options.include_usage`.",
    stops_billing: Support = "Whether closing the connection ends the generation and with it the bill.",
    prompt_caching: Support = "Whether prompts that begin alike are read from a cache.",
}

impl Capabilities {
    /// The most alternatives of a token; `None` where no log-probabilities are told.
    pub fn top_logprobs(&self) -> Option<u8> {
        (self.logprobs != Support::No).then_some(self.max_top_logprobs)
    }

    pub fn structured_output(&self) -> StructuredOutput {
        match (self.json_schema, self.json_object) {
            (Support::Yes, _) => StructuredOutput::JsonSchema,
            (Support::Unknown, _) => StructuredOutput::Unknown,
            (Support::No, Support::No) => StructuredOutput::Unsupported,
            (Support::No, Support::Yes | Support::Unknown) => StructuredOutput::JsonObject,
        }
    }
}

impl Cell for Support {
    const KIND: Kind = Kind::BooleanOrWord(&["unknown"]);

    fn read(param: &str, value: &Value) -> Result<Self, SettingsError> {
        match value {
            Value::Bool(true) => Ok(Self::Yes),
            Value::Bool(false) => Ok(Self::No),
            Value::String(word) if word == "unknown" => Ok(Self::Unknown),
            other => Err(field::wrong_type(param, "true, false or \"unknown\"", other)),
        }
    }

    fn shown(self) -> Value {
        match self {
            Self::Yes => Value::Bool(true),
            Self::No => Value::Bool(false),
            Self::Unknown => "unknown".into(),
        }
    }
}

/// How many alternatives of a token OpenAI's API tells at most.
const MOST_TOP: i64 = crate::completion::Logprobs::MOST as i64;

impl Cell for u8 {
    const KIND: Kind = Kind::Integer(0, MOST_TOP);

    fn read(param: &str, value: &Value) -> Result<Self, SettingsError> {
        field::integer(param, value, 0..=MOST_TOP).map(|top| top as Self)
    }

    fn shown(self) -> Value {
        self.into()
    }
}

const UNLIMITED: &str = "unlimited";
const MOST_STOP: i64 = 1000;

impl Cell for Option<u16> {
    const KIND: Kind = Kind::WordOrInteger(&[UNLIMITED], 0, MOST_STOP);

    fn read(param: &str, value: &Value) -> Result<Self, SettingsError> {
        match value.as_str() {
            Some(UNLIMITED) => Ok(None),
            Some(_) => {
                let message = format!("`{param}` must be a whole number from 0 to {MOST_STOP}, or \"{UNLIMITED}\"");
                Err(SettingsError::invalid(param, message))
            }
            None => field::integer(param, value, 0..=MOST_STOP).map(|most| Some(most as u16)),
        }
    }

    fn shown(self) -> Value {
        self.map_or(UNLIMITED.into(), Value::from)
    }
}

macro_rules! word_cells {
    ($($name:ident),+) => {
        $(impl Cell for $name {
            const KIND: Kind = Kind::Word { known: Self::WORDS, later: Self::LATER };

            fn read(param: &str, value: &Value) -> Result<Self, SettingsError> {
                Self::parse(param, value)
            }

            fn shown(self) -> Value {
                self.as_str().into()
            }
        })+
    };
}

word_cells!(ForcedTool, Prefill, LengthLimit);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::capabilities::rows::ROWS;
    use crate::config::field::SettingsCode;

    #[test]
    fn every_row_is_read_back_as_it_is_shown() {
        for row in ROWS {
            let shown = Value::from_iter(row.capabilities.cells());
            let overrides = Cells::parse("capabilities", &shown).unwrap();
            // Whatever it is put over, only what it says is left.
            let own_fields = ROWS[0].capabilities.own_fields;
            assert_eq!(overrides.over(ROWS[0].capabilities), Capabilities { own_fields, ..row.capabilities });
        }
    }

    #[test]
    fn what_cannot_stand_in_a_cell_is_refused_by_its_place() {
        for (object, code, param, words) in [
            (json!({"n": "yes"}), SettingsCode::InvalidValue, "e.capabilities.n", "true, false"),
            (json!({"n": 1}), SettingsCode::InvalidValue, "e.capabilities.n", "true, false"),
            (json!({"max_top_logprobs": 21}), SettingsCode::InvalidValue, "e.capabilities.max_top_logprobs", "20"),
            (
                json!({"max_top_logprobs": false}),
                SettingsCode::InvalidValue,
                "e.capabilities.max_top_logprobs",
                "number",
            ),
            (json!({"max_stop": -1}), SettingsCode::InvalidValue, "e.capabilities.max_stop", "0"),
            (json!({"max_stop": "many"}), SettingsCode::InvalidValue, "e.capabilities.max_stop", "unlimited"),
            (json!({"forced_tool": "name"}), SettingsCode::InvalidValue, "e.capabilities.forced_tool", "named"),
            (json!({"forced_tool": true}), SettingsCode::InvalidValue, "e.capabilities.forced_tool", "forced_tool"),
            (json!({"json_shema": true}), SettingsCode::UnknownField, "e.capabilities.json_shema", "json_schema"),
            (json!({"own_fields": []}), SettingsCode::UnknownField, "e.capabilities.own_fields", "unknown field"),
            (json!([]), SettingsCode::InvalidValue, "e.capabilities", "object"),
        ] {
            let error = Cells::parse("e.capabilities", &object).unwrap_err();
            assert_eq!((error.code, error.param.as_str()), (code, param), "{object}");
            assert!(error.message.contains(words), "{}", error.message);
        }
        let nothing: Value = COLUMNS.iter().map(|column| (column.name, Value::Null)).collect();
        assert_eq!(Cells::parse("c", &nothing).unwrap(), Cells::default(), "null is as the row has it");
    }
}
