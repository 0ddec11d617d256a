//! An incremental reader of server-sent events: bytes in as the network cuts them, the data of whole
//! events out.
//!
//! Only `data` matters to chat streams, so names, ids and retry times are read past, and so are comments
//! (providers send them to keep a connection alive). Lines may end in LF, CR or CRLF.

/// An event larger than this is taken for a broken or hostile upstream.
const MAX_EVENT_BYTES: usize = 16 << 20;

/// An event that grew past the limit.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is larger than {} MiB", MAX_EVENT_BYTES >> 20)]
pub(super) struct EventTooLarge;

/// The state between two reads: the bytes of the line and of the event that are not complete yet.
#[derive(Debug, Default)]
pub(super) struct Reader {
    buffer: Vec<u8>,
    /// Where in `buffer` the next line starts.
    start: usize,
    /// Up to where in `buffer` no line end was found.
    scanned: usize,
    data: Vec<u8>,
    has_data: bool,
    /// The last line ended in CR: an LF that comes next belongs to it.
    after_cr: bool,
    past_first_line: bool,
}

impl Reader {
    /// Takes in the next piece of the body. [`Reader::next_event`] then yields the events it completed.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The data of the next complete event; `None` when more bytes are needed.
    ///
    /// # Errors
    ///
    /// When an event is larger than 16 MiB.
    pub fn next_event(&mut self) -> Result<Option<Vec<u8>>, EventTooLarge> {
        loop {
            if self.after_cr && self.start < self.buffer.len() {
                self.after_cr = false;
                if self.buffer[self.start] == b'\n' {
                    self.start += 1;
                }
            }
            self.scanned = self.scanned.max(self.start);
            let Some(length) = self.buffer[self.scanned..].iter().position(|&byte| byte == b'\n' || byte == b'\r')
            else {
                self.scanned = self.buffer.len();
                let held = self.buffer.len() - self.start + self.data.len();
                return if held > MAX_EVENT_BYTES { Err(EventTooLarge) } else { Ok(None) };
            };
            let end = self.scanned + length;
            self.after_cr = self.buffer[end] == b'\r';
            let line = self.start..end;
            self.start = end + 1;
            if let Some(event) = self.read_line(line)? {
                return Ok(Some(event));
            }
        }
    }

    /// The event that the end of the body cut short of its blank line, where there is one. The standard
    /// throws it away; servers that forget the last line end are too many for that.
    pub fn finish(&mut self) -> Result<Option<Vec<u8>>, EventTooLarge> {
        let line = self.start..self.buffer.len();
        self.start = self.buffer.len();
        if let Some(event) = self.read_line(line)? {
            return Ok(Some(event));
        }
        Ok(self.take_event())
    }

    fn read_line(&mut self, line: std::ops::Range<usize>) -> Result<Option<Vec<u8>>, EventTooLarge> {
        let mut line = &self.buffer[line];
        if !std::mem::replace(&mut self.past_first_line, true) {
            line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        }
        if line.is_empty() {
            return Ok(self.take_event());
        }
        let Some(value) = line.strip_prefix(b"data") else { return Ok(None) };
        let value = match value.strip_prefix(b":") {
            Some(value) => value.strip_prefix(b" ").unwrap_or(value),
            // A field name alone is the field with an empty value; a longer name is another field.
            None if value.is_empty() => value,
            None => return Ok(None),
        };
        if self.data.len() + value.len() > MAX_EVENT_BYTES {
            return Err(EventTooLarge);
        }
        if self.has_data {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(value);
        self.has_data = true;
        Ok(None)
    }

    fn take_event(&mut self) -> Option<Vec<u8>> {
        std::mem::take(&mut self.has_data).then(|| std::mem::take(&mut self.data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(pieces: &[&[u8]]) -> Vec<String> {
        let mut reader = Reader::default();
        let mut events = Vec::new();
        for piece in pieces {
            reader.push(piece);
            while let Some(event) = reader.next_event().unwrap() {
                events.push(String::from_utf8(event).unwrap());
            }
        }
        events.extend(reader.finish().unwrap().map(|event| String::from_utf8(event).unwrap()));
        events
    }

    #[test]
    fn events_end_at_a_blank_line_whatever_ends_a_line() {
        for body in ["data: a\n\ndata: b\n\n", "data: a\r\n\r\ndata: b\r\n\r\n", "data: a\r\rdata: b\r\r"] {
            assert_eq!(read(&[body.as_bytes()]), ["a", "b"], "{body:?}");
        }
    }

    #[test]
    fn a_carriage_return_and_its_line_feed_may_come_apart() {
        assert_eq!(read(&[b"data: a\r", b"\n\r", b"\ndata: b\r", b"\n\r\n"]), ["a", "b"]);
    }

    #[test]
    fn comments_other_fields_and_events_without_data_are_read_past() {
        let body = b": OPENROUTER PROCESSING\n\nevent: message\nid: 7\nretry: 10\n\ndatabase: no\ndata: yes\n\n\n\n";
        assert_eq!(read(&[body]), ["yes"]);
    }

    #[test]
    fn data_lines_join_with_a_line_feed_and_lose_one_leading_space() {
        assert_eq!(read(&[b"data:  a\ndata:b\ndata\n\n"]), [" a\nb\n"]);
    }

    #[test]
    fn a_byte_order_mark_is_skipped_at_the_start_only() {
        assert_eq!(read(&["\u{feff}data: \u{feff}a\n\n".as_bytes()]), ["\u{feff}a"]);
    }

    #[test]
    fn the_last_event_needs_no_line_end() {
        assert_eq!(read(&[b"data: a\n\ndata: [DONE]"]), ["a", "[DONE]"]);
        assert_eq!(read(&[b"data: [DONE]\n"]), ["[DONE]"]);
        assert_eq!(read(&[]), Vec::<String>::new());
    }

    #[test]
    fn an_event_without_end_is_given_up_rather_than_kept() {
        let mut reader = Reader::default();
        let piece = vec![b'x'; MAX_EVENT_BYTES / 2];
        reader.push(b"data: ");
        reader.push(&piece);
        assert_eq!(reader.next_event(), Ok(None));
        reader.push(&piece);
        assert_eq!(reader.next_event(), Err(EventTooLarge));
    }

    proptest! {
        #[test]
        fn how_the_network_cuts_the_body_does_not_matter(cuts in prop::collection::vec(0usize..200, 0..12)) {
            let body = "\u{feff}data: {\"é\":\"日本\"}\r\n\r\n: hm\ndata: 1\ndata: 2\r\rdata: 🦀\n\ndata: [DONE]".as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (body.len() + 1)).collect();
            cuts.extend([0, body.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &body[pair[0]..pair[1]]).collect();
            prop_assert_eq!(read(&pieces), ["{\"é\":\"日本\"}", "1\n2", "🦀", "[DONE]"]);
        }
    }
}
