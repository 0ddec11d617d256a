//! Answers that the server has compressed, unpacked as they come.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;

/// So much is unpacked in one piece. Hostile data grows a thousandfold, and whoever reads the pieces counts them.
const STEP_BYTES: usize = 1024;

/// What unpacks one body.
#[derive(Debug)]
pub(super) struct Gunzip {
    decoder: MultiGzDecoder<Vec<u8>>,
    packed: Bytes,
    has_begun: bool,
    has_all: bool,
    is_over: bool,
}

impl Default for Gunzip {
    fn default() -> Self {
        Self {
            decoder: MultiGzDecoder::new(Vec::new()),
            packed: Bytes::new(),
            has_begun: false,
            has_all: false,
            is_over: false,
        }
    }
}

impl Gunzip {
    /// Adds what has arrived.
    pub fn push(&mut self, packed: Bytes) {
        self.packed = if self.packed.is_empty() { packed } else { [&*self.packed, &*packed].concat().into() };
    }

    /// No more will arrive.
    pub fn end(&mut self) {
        self.has_all = true;
    }

    /// Whether everything was returned.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// The next piece, as far as there is one without more of the packed.
    ///
    /// # Errors
    ///
    /// When it cannot be unpacked, or breaks off.
    pub fn next(&mut self) -> io::Result<Option<Bytes>> {
        while !self.packed.is_empty() {
            let step = &self.packed[..self.packed.len().min(STEP_BYTES)];
            self.has_begun = true;
            let taken = self.decoder.write(step)?;
            // What is unpacked so far: an event of a stream does not wait for the next one.
            self.decoder.flush()?;
            if taken == 0 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "there is more after its end"));
            }
            drop(self.packed.split_to(taken));
            if let Some(piece) = self.unpacked() {
                return Ok(Some(piece));
            }
        }
        if !self.has_all || self.is_over {
            return Ok(None);
        }
        self.is_over = true;
        if !self.has_begun {
            // An empty body is packed as nothing.
            return Ok(None);
        }
        self.decoder.try_finish()?;
        Ok(self.unpacked())
    }

    fn unpacked(&mut self) -> Option<Bytes> {
        let unpacked = std::mem::take(self.decoder.get_mut());
        (!unpacked.is_empty()).then(|| unpacked.into())
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    /// The pieces of what is unpacked from these.
    fn unpack(packed: &[&[u8]]) -> io::Result<Vec<Bytes>> {
        let mut gunzip = Gunzip::default();
        let mut pieces = Vec::new();
        for part in packed {
            gunzip.push(Bytes::copy_from_slice(part));
            while let Some(piece) = gunzip.next()? {
                pieces.push(piece);
            }
        }
        gunzip.end();
        while let Some(piece) = gunzip.next()? {
            pieces.push(piece);
        }
        assert!(gunzip.is_over());
        Ok(pieces)
    }

    #[test]
    fn what_was_packed_is_unpacked_however_it_is_cut() {
        let text: Vec<u8> = (0..20_000_u32).flat_map(|number| number.to_string().into_bytes()).collect();
        let all = packed(&text);
        for size in [1, 7, 1024, 5000, all.len()] {
            let parts: Vec<&[u8]> = all.chunks(size).collect();
            assert_eq!(unpack(&parts).unwrap().concat(), text, "{size}");
        }
        assert_eq!(unpack(&[&packed(b"one "), &packed(b"two")]).unwrap().concat(), b"one two");
        assert!(unpack(&[&packed(b"")]).unwrap().is_empty());
    }

    #[test]
    fn what_was_sent_as_a_piece_is_unpacked_before_the_next_comes() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let mut gunzip = Gunzip::default();
        for event in ["data: one\n\n", "data: two\n\n", "data: [DONE]\n\n"] {
            encoder.write_all(event.as_bytes()).unwrap();
            encoder.flush().unwrap();
            gunzip.push(std::mem::take(encoder.get_mut()).into());
            let mut text = Vec::new();
            while let Some(piece) = gunzip.next().unwrap() {
                text.extend_from_slice(&piece);
            }
            assert_eq!(text, event.as_bytes());
        }
    }

    #[test]
    fn an_empty_body_is_empty() {
        assert!(unpack(&[]).unwrap().is_empty());
        assert!(unpack(&[b""]).unwrap().is_empty());
    }

    #[test]
    fn what_breaks_off_or_is_nothing_packed_is_an_error() {
        let all = packed(b"some text that goes on");
        assert!(unpack(&[&all[..all.len() - 9]]).is_err());
        assert!(unpack(&[b"{\"choices\":[]}"]).is_err());
    }

    #[test]
    fn what_grows_much_comes_in_pieces() {
        let pieces = unpack(&[&packed(&vec![b'a'; 64 << 20])]).unwrap();
        assert_eq!(pieces.iter().map(Bytes::len).sum::<usize>(), 64 << 20);
        assert!(pieces.iter().all(|piece| piece.len() < 2 << 20));
    }
}
