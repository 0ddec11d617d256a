//! `.env` files: variables that the real environment does not have.
//!
//! Nothing is substituted: a `$` in a key is a `$`.

/// Why a line cannot be read. Never quotes it, because it may hold a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct EnvFileError {
    /// Counted from 1.
    pub line: usize,
    pub why: &'static str,
}

/// The variables of a `.env` file, in order. A line is `NAME=value`, with `export` before it or not. A value ends at
/// white space followed by `#`; in single quotes it is taken as it is, in double quotes `\n`, `\r`, `\t`, `\"`,
/// `\\` and `\$` are what they usually mean. Quoted values may go over several lines.
///
/// # Errors
///
/// The first line that is none of this.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, EnvFileError> {
    let mut variables = Vec::new();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut line = 1;
    while !rest.is_empty() {
        let refused = |why| EnvFileError { line, why };
        let (first, _) = split_line(rest);
        let statement = first.trim_start();
        if statement.trim_end().is_empty() || statement.starts_with('#') {
            rest = split_line(rest).1;
            line += 1;
            continue;
        }
        let statement = match statement.strip_prefix("export") {
            Some(after) if after.starts_with([' ', '\t']) => after.trim_start(),
            _ => statement,
        };
        let Some((name, value)) = statement.split_once('=') else {
            return Err(refused("is no NAME=value"));
        };
        let name = name.trim_end();
        if !is_name(name) {
            return Err(refused("does not begin with the name of a variable"));
        }
        // The value may go on after the line, so that it is taken from the whole rest.
        let at = first.len() - value.len();
        let (value, after) = read_value(&rest[at..]).map_err(refused)?;
        line += rest[..rest.len() - after.len()].matches('\n').count();
        variables.push((name.to_owned(), value));
        rest = after;
    }
    Ok(variables)
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The first line without its end, and what follows that.
fn split_line(text: &str) -> (&str, &str) {
    let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
    (line.strip_suffix('\r').unwrap_or(line), rest)
}

/// The value at the beginning of `text`, and the lines after it.
fn read_value(text: &str) -> Result<(String, &str), &'static str> {
    let blank = text.len() - text.trim_start_matches([' ', '\t']).len();
    let quoted = &text[blank..];
    let (value, after) = match quoted.chars().next() {
        Some('\'') => {
            let (value, after) = quoted[1..].split_once('\'').ok_or("opens a quote that is never closed")?;
            (value.to_owned(), after)
        }
        Some('"') => double_quoted(&quoted[1..]).ok_or("opens a quote that is never closed")?,
        _ => {
            let (line, rest) = split_line(text);
            return Ok((unquoted(line), rest));
        }
    };
    let (line, rest) = split_line(after);
    let tail = line.trim_start();
    if tail.is_empty() || tail.starts_with('#') {
        return Ok((value, rest));
    }
    Err("goes on after the closing quote")
}

fn unquoted(line: &str) -> String {
    let mut before = ' ';
    let comment = line.char_indices().find(|(_, char)| {
        let found = *char == '#' && before.is_whitespace();
        before = *char;
        found
    });
    comment.map_or(line, |(at, _)| &line[..at]).trim().to_owned()
}

fn double_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                same @ ('"' | '\\' | '$') => value.push(same),
                other => value.extend(['\\', other]),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_people_write_is_read_as_they_mean_it() {
        for (line, name, value) in [
            ("PORT=8001", "PORT", "8001"),
            ("  PORT = 8001  ", "PORT", "8001"),
            ("export KEY=sk-a", "KEY", "sk-a"),
            ("export\tKEY=sk-a", "KEY", "sk-a"),
            ("exported=1", "exported", "1"),
            ("KEY=sk-a # Required for self_consistency", "KEY", "sk-a"),
            ("KEY=sk-a#b", "KEY", "sk-a#b"),
            ("KEY=# nothing yet", "KEY", ""),
            ("KEY=", "KEY", ""),
            ("KEY=a=b==", "KEY", "a=b=="),
            ("KEY='a # $b \\n'  # c", "KEY", "a # $b \\n"),
            ("KEY=\"a # b\\n\\\"c\\\" \\$d \\q\"", "KEY", "a # b\n\"c\" $d \\q"),
            ("KEY=\"\"", "KEY", ""),
            ("KEY=it's", "KEY", "it's"),
            ("KEY=$HOME", "KEY", "$HOME"),
            ("\u{feff}KEY=ü", "KEY", "ü"),
        ] {
            assert_eq!(parse(line).unwrap(), [(name.to_owned(), value.to_owned())], "{line}");
        }
    }

    #[test]
    fn lines_follow_each_other_with_comments_and_any_line_end() {
        let text = "# a\r\n\r\nA=1\r\n  # b\nB=\"two\nlines\"\nC='x\ny' # c\nD=4";
        let pairs = [("A", "1"), ("B", "two\nlines"), ("C", "x\ny"), ("D", "4")];
        assert_eq!(parse(text).unwrap(), pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn a_line_that_cannot_be_read_is_told_by_its_number_and_not_quoted() {
        for (text, line) in [
            ("A=1\nsk-secret\n", 2),
            ("A=1\n\n2A=sk-secret", 3),
            ("=sk-secret", 1),
            ("A B=sk-secret", 1),
            ("A='x\ny'\nB=\"sk-secret\n", 3),
            ("A='sk-secret' x", 1),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.line, line, "{text}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,60}|[A='\"#\\\\\n \r]{0,40}") {
            let _ = parse(&text);
        }

        #[test]
        fn whatever_is_quoted_comes_back(value in "[^\0]{0,40}") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            let variables = parse(&format!("A=\"{quoted}\"\nB=2")).unwrap();
            prop_assert_eq!(&variables[0].1, &value);
            prop_assert_eq!(variables.len(), 2);
        }
    }
}
