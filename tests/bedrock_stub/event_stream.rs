//! The framing of AWS's event streams (`application/vnd.amazon.eventstream`), the writing side.
//!
//! A message is a prelude (its whole length and that of its headers, 4 bytes each, big-endian), the CRC-32 of the
//! prelude, the headers, the payload, and the CRC-32 of everything before. A header is the length of its name in one
//! byte, the name, a type (7 is a string), the length of the value in two bytes, and the value.

/// A message whose headers are all strings, as those of Bedrock are.
pub fn message(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    for (name, value) in headers {
        encoded.push(u8::try_from(name.len()).expect("names of headers are short"));
        encoded.extend_from_slice(name.as_bytes());
        encoded.push(7);
        encoded.extend_from_slice(&u16::try_from(value.len()).expect("values of headers are short").to_be_bytes());
        encoded.extend_from_slice(value.as_bytes());
    }
    let length = |bytes: usize| u32::try_from(bytes).expect("a message is no larger than 16 MiB").to_be_bytes();
    let mut message = Vec::new();
    message.extend_from_slice(&length(16 + encoded.len() + payload.len()));
    message.extend_from_slice(&length(encoded.len()));
    message.extend_from_slice(&crc32fast::hash(&message).to_be_bytes());
    message.extend_from_slice(&encoded);
    message.extend_from_slice(payload);
    message.extend_from_slice(&crc32fast::hash(&message).to_be_bytes());
    message
}

/// An event with a JSON payload.
pub fn event(kind: &str, payload: &str) -> Vec<u8> {
    let headers = [(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")];
    message(&headers, payload.as_bytes())
}

/// An exception that the service model knows, under the name that it has as a member of the stream.
pub fn exception(kind: &str, payload: &str) -> Vec<u8> {
    let headers = [(":exception-type", kind), (":content-type", "application/json"), (":message-type", "exception")];
    message(&headers, payload.as_bytes())
}

/// An error that the service model does not know: it has no payload.
pub fn error(code: &str, text: &str) -> Vec<u8> {
    message(&[(":error-code", code), (":error-message", text), (":message-type", "error")], b"")
}

/// Makes the checksum of a message wrong and leaves its length right.
pub fn spoil_checksum(message: &mut [u8]) {
    if let Some(last) = message.last_mut() {
        *last ^= 0x01;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages that are published with the specification of the format, byte for byte.
    #[test]
    fn messages_are_the_published_bytes() {
        assert_eq!(message(&[], b""), [0, 0, 0, 0x10, 0, 0, 0, 0, 0x05, 0xc2, 0x48, 0xeb, 0x7d, 0x98, 0xc8, 0xff]);
        let mut payload = vec![0, 0, 0, 0x1d, 0, 0, 0, 0, 0xfd, 0x52, 0x8c, 0x5a];
        payload.extend_from_slice(b"{'foo':'bar'}");
        payload.extend_from_slice(&[0xc3, 0x65, 0x39, 0x36]);
        assert_eq!(message(&[], b"{'foo':'bar'}"), payload);
        let mut with_header = vec![0, 0, 0, 0x3d, 0, 0, 0, 0x20, 0x07, 0xfd, 0x83, 0x96, 12];
        with_header.extend_from_slice(b"content-type");
        with_header.extend_from_slice(&[7, 0, 16]);
        with_header.extend_from_slice(b"application/json{'foo':'bar'}");
        with_header.extend_from_slice(&[0x8d, 0x9c, 0x08, 0xb1]);
        assert_eq!(message(&[("content-type", "application/json")], b"{'foo':'bar'}"), with_header);
    }

    /// The lengths are counted by hand; the checksums by the bitwise definition of CRC-32.
    #[test]
    fn an_event_is_framed_as_counted_by_hand() {
        let framed = event("messageStop", r#"{"stopReason":"end_turn"}"#);
        // Names and values: 11 + 11, 13 + 16, 13 + 5 bytes; 4 bytes beside each pair.
        let headers = 11 + 11 + 13 + 16 + 13 + 5 + 3 * 4;
        assert_eq!(framed.len(), 12 + headers + 25 + 4);
        assert_eq!(framed[..4], [0, 0, 0, 122]);
        assert_eq!(framed[4..8], [0, 0, 0, 81]);
        assert_eq!(framed[8..12], bitwise_crc(&framed[..8]).to_be_bytes());
        assert_eq!(framed[12..24], *b"\x0b:event-type");
        assert_eq!(framed[24..38], *b"\x07\x00\x0bmessageStop");
        assert_eq!(framed[93..118], *br#"{"stopReason":"end_turn"}"#);
        assert_eq!(framed[118..], bitwise_crc(&framed[..118]).to_be_bytes());
    }

    #[test]
    fn a_spoiled_message_differs_in_its_checksum_alone() {
        let whole = exception("throttlingException", r#"{"message":"slow down"}"#);
        let mut spoiled = whole.clone();
        spoil_checksum(&mut spoiled);
        assert_eq!(spoiled[..whole.len() - 1], whole[..whole.len() - 1]);
        assert_ne!(spoiled, whole);
    }

    fn bitwise_crc(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0_u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
        })
    }
}
