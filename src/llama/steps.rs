//! Where the steps of a path end, told from its text as it comes.

use std::sync::Arc;

use super::reasoning::ThoughtMarks;
use crate::completion::StepRule;

/// What the text says after a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Boundary {
    /// The step goes on.
    Within,
    /// The step is over.
    Step,
    /// The step is over, and with it the path.
    Path,
}

/// Follows one path.
#[derive(Debug, Clone)]
pub(super) struct StepCutter {
    rule: Arc<StepRule>,
    /// The text of the step so far, in which its markers are looked for.
    text: String,
    tokens: u32,
    boxes: BoxReader,
    /// Between the markers of the temperature switch.
    switch: Option<MarkReader>,
    /// Within a thought, where a box is no answer yet.
    thought: Option<MarkReader>,
}

impl StepCutter {
    /// `thought` are the model's marks of a thought, and whether the prompt has opened one.
    pub(super) fn new(rule: &Arc<StepRule>, thought: Option<(ThoughtMarks, bool)>) -> Self {
        Self {
            rule: Arc::clone(rule),
            text: String::new(),
            tokens: 0,
            boxes: BoxReader::default(),
            switch: rule.temperature_switch.as_ref().map(|rule| MarkReader::new(&rule.open, &rule.close, false)),
            thought: thought.map(|(marks, is_open)| MarkReader::new(marks.open(), marks.close(), is_open)),
        }
    }

    /// Takes what a token adds to the text, which may be nothing. A step that is over is forgotten: what comes next is the
    /// next one's.
    pub(super) fn push(&mut self, text: &str) -> Boundary {
        self.tokens += 1;
        let before = self.text.len();
        self.text.push_str(text);
        if let Some(switch) = &mut self.switch {
            switch.push(text);
        }
        let was_thinking = self.thought.as_ref().is_some_and(|thought| thought.is_between);
        if let Some(thought) = &mut self.thought {
            thought.push(text);
        }
        let is_thinking = was_thinking || self.thought.as_ref().is_some_and(|thought| thought.is_between);
        let has_closed_a_box = !is_thinking && self.boxes.push(text);
        let has_come = |marker: &Option<Arc<str>>| {
            let marker = marker.as_ref()?;
            let mut from = before.saturating_sub(marker.len());
            while !self.text.is_char_boundary(from) {
                from -= 1;
            }
            self.text[from..].contains(&**marker).then_some(())
        };
        let boundary = if (self.rule.ends_when_boxed && has_closed_a_box) || has_come(&self.rule.stop_token).is_some() {
            Boundary::Path
        } else if has_come(&self.rule.step_token).is_some()
            || self.rule.tokens_per_step.is_some_and(|most| self.tokens >= most)
        {
            Boundary::Step
        } else {
            return Boundary::Within;
        };
        self.text.clear();
        self.tokens = 0;
        boundary
    }

    /// The temperature at which the next token is drawn, where it is not that of the request.
    pub(super) fn temperature(&self) -> Option<f64> {
        let is_between = self.switch.as_ref().is_some_and(|switch| switch.is_between);
        self.rule.temperature_switch.as_ref().filter(|_| is_between).map(|switch| switch.temperature)
    }
}

/// Tells when a balanced `\boxed{}` closes. Braces that are escaped do not count.
#[derive(Debug, Clone, Default)]
struct BoxReader {
    /// Characters of the opening that have come, white space before its brace aside.
    begun: usize,
    /// Braces that are open, the box's own included.
    depth: u32,
    is_escaped: bool,
}

impl BoxReader {
    const OPENING: &[u8] = b"\\boxed{";

    fn push(&mut self, text: &str) -> bool {
        // All of the notation is ASCII, and no byte of another character is.
        let mut has_closed = false;
        for byte in text.bytes() {
            has_closed |= self.step(byte);
        }
        has_closed
    }

    fn step(&mut self, byte: u8) -> bool {
        if self.depth > 0 {
            let was_escaped = self.is_escaped;
            self.is_escaped = byte == b'\\' && !was_escaped;
            match byte {
                b'{' if !was_escaped => self.depth += 1,
                b'}' if !was_escaped => self.depth -= 1,
                _ => {}
            }
            return self.depth == 0;
        }
        let brace = Self::OPENING.len() - 1;
        if self.begun == brace && byte.is_ascii_whitespace() {
            return false;
        }
        self.begun = match byte {
            byte if byte == Self::OPENING[self.begun] => self.begun + 1,
            b'\\' => 1,
            _ => 0,
        };
        if self.begun == Self::OPENING.len() {
            (self.begun, self.depth, self.is_escaped) = (0, 1, false);
        }
        false
    }
}

/// Tells whether a path is between two markers.
#[derive(Debug, Clone)]
struct MarkReader {
    open: Arc<str>,
    close: Arc<str>,
    /// The end of the text, as long as a marker may still be completed.
    recent: String,
    is_between: bool,
}

impl MarkReader {
    fn new(open: &str, close: &str, is_between: bool) -> Self {
        Self { open: open.into(), close: close.into(), recent: String::new(), is_between }
    }

    fn push(&mut self, text: &str) {
        self.recent.push_str(text);
        loop {
            let marker = if self.is_between { &self.close } else { &self.open };
            if let Some(at) = self.recent.find(&**marker) {
                self.recent.drain(..at + marker.len());
                self.is_between = !self.is_between;
                continue;
            }
            let mut surplus = self.recent.len().saturating_sub(marker.len());
            while !self.recent.is_char_boundary(surplus) {
                surplus -= 1;
            }
            self.recent.drain(..surplus);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Boundary::{Path, Step, Within};
    use super::*;
    use crate::completion::TemperatureSwitch;

    fn rule() -> StepRule {
        StepRule {
            step_token: Some("\n\n".into()),
            tokens_per_step: None,
            stop_token: None,
            ends_when_boxed: false,
            temperature_switch: None,
        }
    }

    fn cut(rule: StepRule, tokens: &[&str]) -> Vec<Boundary> {
        let mut cutter = StepCutter::new(&Arc::new(rule), None);
        tokens.iter().map(|token| cutter.push(token)).collect()
    }

    #[test]
    fn a_step_ends_at_the_token_that_completes_its_marker() {
        assert_eq!(cut(rule(), &["a", "\n", "b\n", "\nc", "d"]), [Within, Within, Within, Step, Within]);
        assert_eq!(cut(rule(), &["a\n\nb", "\n", "", "\n"]), [Step, Within, Within, Step]);
    }

    #[test]
    fn the_end_of_one_step_is_not_the_beginning_of_the_next_marker() {
        assert_eq!(cut(rule(), &["a\n\n", "\n", "\n"]), [Step, Within, Step]);
    }

    #[test]
    fn a_step_ends_by_its_length_and_counts_tokens_without_text() {
        let rule = StepRule { tokens_per_step: Some(2), step_token: None, ..rule() };
        assert_eq!(cut(rule, &["a\n\n", "", "ü", "b"]), [Within, Step, Within, Step]);
    }

    #[test]
    fn a_stop_marker_ends_the_path_also_where_a_step_would_end() {
        let rule = StepRule { stop_token: Some("END".into()), ..rule() };
        assert_eq!(cut(rule, &["üE", "N", "D\n\n"]), [Within, Within, Path]);
    }

    #[test]
    fn a_path_ends_when_a_balanced_box_closes() {
        let rule = StepRule { ends_when_boxed: true, ..rule() };
        let boxed = |text: &str| {
            let tokens: Vec<String> = text.chars().map(String::from).collect();
            let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
            cut(rule.clone(), &tokens).iter().position(|boundary| *boundary == Path)
        };
        assert_eq!(boxed(r"\boxed{1}"), Some(8));
        assert_eq!(boxed(r"\\boxed {\frac{1}{2}}."), Some(20));
        assert_eq!(boxed(r"\boxed{\}\{}"), Some(11));
        assert_eq!(boxed(r"\boxed{\\}"), Some(9));
        assert_eq!(boxed(r"\box{1} \boxedx{1} boxed{2}"), None);
        assert_eq!(boxed(r"\boxed{{1}"), None);
        assert_eq!(boxed(r"\boxed{1} \boxed{2}"), Some(8), "what follows is another matter");
    }

    #[test]
    fn a_box_in_a_thought_is_no_answer_yet() {
        let rule = Arc::new(StepRule { ends_when_boxed: true, ..rule() });
        let marks = ThoughtMarks::of("");
        let mut opened = StepCutter::new(&rule, Some((marks, true)));
        let mut unopened = StepCutter::new(&rule, Some((marks, false)));
        assert_eq!(unopened.push("<think>"), Within);
        for cutter in [&mut opened, &mut unopened] {
            assert_eq!(cutter.push(r"\boxed{1}"), Within);
            assert_eq!(cutter.push("</think>\n\n"), Step);
            assert_eq!(cutter.push(r"\boxed{2}"), Path);
        }
    }

    #[test]
    fn between_its_markers_a_path_has_another_temperature() {
        let switch = TemperatureSwitch { temperature: 1.5, open: "<t>".into(), close: "</t>".into() };
        let mut cutter = StepCutter::new(&Arc::new(StepRule { temperature_switch: Some(switch), ..rule() }), None);
        let mut temperatures = Vec::new();
        for token in ["a<", "t>", "b\n\n", "c</t", ">", "<t></t>", "</t><t>"] {
            cutter.push(token);
            temperatures.push(cutter.temperature().is_some());
        }
        assert_eq!(temperatures, [false, true, true, true, false, false, true]);
    }
}
