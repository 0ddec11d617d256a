//! Closed sets of words: an enum, the words that a document says for its variants, and how they are read.

/// Declares an enum whose variants are words of a document, with `WORDS`, `as_str` and `parse`.
///
/// Further words for a variant follow `|`; words after `later` belong to the contract, but to features that this
/// version does not have. `-` and `_` are the same when a word is read.
macro_rules! words {
    (
        $(#[$attribute:meta])*
        pub enum $name:ident {
            $($(#[$variant_attribute:meta])* $variant:ident = $word:literal $(| $alias:literal)*,)+
        }
        $(later $($later:literal),+ $(,)?)?
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_attribute])* $variant,)+
        }

        impl $name {
            const NAMES: &'static [(&'static str, Self)] =
                &[$(($word, Self::$variant), $(($alias, Self::$variant),)*)+];
            /// Every word that is read, first the one that is written.
            pub const WORDS: &'static [&'static str] = &[$($word, $($alias,)*)+];
            /// Words of features that this version does not have.
            pub const LATER: &'static [&'static str] = &[$($($later),+)?];

            /// Reads the word of a field.
            ///
            /// # Errors
            ///
            /// When the value is no such word, with the nearest.
            pub fn parse(
                param: &str,
                value: &serde_json::Value,
            ) -> Result<Self, $crate::config::field::SettingsError> {
                $crate::config::field::choice(param, value, Self::NAMES, Self::LATER)
            }

            /// The word that is written for it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }
    };
}

pub(super) use words;
