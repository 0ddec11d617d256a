//! A check of a GGUF file's header before llama.cpp sees the file.
//!
//! llama.cpp trusts much of what it reads: some bad files end the process instead of giving an error. So
//! the header is read here first, every count and offset is held against the file's size, and tensor types
//! that load but cannot be computed with are refused. Nothing of the tensors' data is read.
//! The format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, versions 2 and 3.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// What is wrong with the file. The words follow "the file" in a sentence.
#[derive(Debug, thiserror::Error)]
pub(super) enum GgufError {
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("is no GGUF file: it does not begin with the letters GGUF")]
    NotGguf,
    #[error("is cut off at {size} bytes within its {part}")]
    Truncated { part: &'static str, size: u64 },
    #[error("is damaged or not supported: {0}")]
    Invalid(String),
}

/// Reads and checks the header, and that all tensors lie within the file.
pub(super) fn check(path: &Path) -> Result<(), GgufError> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(GgufError::Invalid("it is not a regular file".into()));
    }
    let mut reader = Reader { inner: BufReader::new(file), position: 0, size: metadata.len(), part: "header" };
    check_header(&mut reader)
}

const MAX_KEYS: u64 = 1 << 16;
const MAX_TENSORS: u64 = 1 << 16;
/// `GGML_MAX_NAME` and the closing NUL.
const MAX_TENSOR_NAME_BYTES: u64 = 63;
const MAX_STRING_BYTES: u64 = 65_535;
const MAX_DIMENSIONS: u32 = 4;

fn check_header(reader: &mut Reader<impl Read>) -> Result<(), GgufError> {
    if reader.size < 4 || &reader.array::<4>()? != b"GGUF" {
        return Err(GgufError::NotGguf);
    }
    match reader.u32()? {
        2 | 3 => {}
        version if version.swap_bytes() <= 3 => {
            return Err(GgufError::Invalid("it is written for big-endian machines".into()));
        }
        version => return Err(GgufError::Invalid(format!("its format version {version} is not known"))),
    }
    let tensors = reader.u64()?;
    let keys = reader.u64()?;
    if tensors == 0 || tensors > MAX_TENSORS {
        return Err(GgufError::Invalid(format!("it announces {tensors} tensors")));
    }
    if keys > MAX_KEYS {
        return Err(GgufError::Invalid(format!("it announces {keys} metadata keys")));
    }

    reader.part = "metadata";
    let mut metadata = Metadata::default();
    let mut seen = HashSet::new();
    for _ in 0..keys {
        let key = reader.string(MAX_STRING_BYTES)?;
        metadata.read(&key, reader)?;
        if !seen.insert(key) {
            return Err(GgufError::Invalid("a metadata key is there twice".into()));
        }
    }
    metadata.check()?;
    let alignment = u64::from(metadata.numbers.get("general.alignment").map_or(32, |(alignment, _)| *alignment));
    if !alignment.is_power_of_two() {
        return Err(GgufError::Invalid(format!("its alignment of {alignment} is no power of two")));
    }

    reader.part = "tensor list";
    let mut names = HashSet::new();
    let mut expected_offset: u64 = 0;
    for _ in 0..tensors {
        let name = reader.string(MAX_TENSOR_NAME_BYTES)?;
        let shown = String::from_utf8_lossy(&name).into_owned();
        let dimensions = reader.u32()?;
        if dimensions == 0 || dimensions > MAX_DIMENSIONS {
            return Err(GgufError::Invalid(format!("tensor {shown} has {dimensions} dimensions")));
        }
        let mut elements: u64 = 1;
        let mut row = 0;
        for dimension in 0..dimensions {
            let length = reader.u64()?;
            if dimension == 0 {
                row = length;
            }
            elements = elements
                .checked_mul(length)
                .filter(|elements| *elements > 0 && *elements <= i64::MAX as u64)
                .ok_or_else(|| GgufError::Invalid(format!("tensor {shown} has an impossible shape")))?;
        }
        let kind = reader.u32()?;
        let Some((block, block_bytes)) = block_layout(kind) else {
            return Err(GgufError::Invalid(format!("tensor {shown} has type {kind}, which cannot be computed with")));
        };
        if row % block != 0 {
            return Err(GgufError::Invalid(format!("rows of tensor {shown} are no whole number of blocks")));
        }
        let offset = reader.u64()?;
        if offset != expected_offset {
            return Err(GgufError::Invalid(format!("tensor {shown} is not where it should be")));
        }
        expected_offset = (elements / block)
            .checked_mul(block_bytes)
            .and_then(|bytes| bytes.checked_next_multiple_of(alignment))
            .and_then(|bytes| bytes.checked_add(offset))
            .ok_or_else(|| GgufError::Invalid(format!("tensor {shown} has an impossible size")))?;
        if !names.insert(name) {
            return Err(GgufError::Invalid(format!("tensor {shown} is there twice")));
        }
    }

    let end = reader
        .position
        .checked_next_multiple_of(alignment)
        .and_then(|data| data.checked_add(expected_offset))
        .ok_or_else(|| GgufError::Invalid("its tensors have an impossible size".into()))?;
    // Writers may leave out the padding after the last tensor.
    if end > reader.size.saturating_add(alignment - 1) {
        return Err(GgufError::Truncated { part: "tensors", size: reader.size });
    }
    Ok(())
}

/// The metadata on which llama.cpp ends the process instead of giving an error.
#[derive(Debug, Default)]
struct Metadata {
    architecture: String,
    /// Whole numbers, the least and the greatest of a list. A negative one is taken for a great one, as llama.cpp does.
    numbers: HashMap<String, (u32, u32)>,
    rope_scaling: Option<String>,
}

impl Metadata {
    /// Reads the type and the value of a key.
    fn read(&mut self, key: &[u8], reader: &mut Reader<impl Read>) -> Result<(), GgufError> {
        let key = String::from_utf8_lossy(key).into_owned();
        let kind = reader.u32()?;
        match kind {
            STRING if key == "general.architecture" => self.architecture = reader.text()?,
            STRING if key.ends_with(".rope.scaling.type") => self.rope_scaling = Some(reader.text()?),
            UINT32 | INT32 => {
                let number = reader.u32()?;
                self.numbers.insert(key, (number, number));
            }
            UINT16 if key == "split.count" => {
                let number = u16::from_le_bytes(reader.array()?).into();
                self.numbers.insert(key, (number, number));
            }
            ARRAY if key == "tokenizer.ggml.tokens" => reader.distinct_tokens()?,
            // What differs from layer to layer.
            ARRAY => {
                if let Some(range) = reader.range_of_numbers()? {
                    self.numbers.insert(key, range);
                }
            }
            _ => reader.skip_value(kind)?,
        }
        Ok(())
    }

    fn check(&self) -> Result<(), GgufError> {
        let wrong = |what: String| Err(GgufError::Invalid(what));
        if self.architecture.is_empty() {
            return wrong("it does not name its architecture".into());
        }
        // llama.cpp would open the other parts by itself, and nothing has checked those.
        if let Some((parts @ 2.., _)) = self.numbers.get("split.count") {
            return wrong(format!("its split.count is {parts}: merge the parts into one file first"));
        }
        // What is absent is none of the architecture's business.
        let range = |name: &str| self.numbers.get(&format!("{}.{name}", self.architecture)).copied();
        let greatest = |name: &str| range(name).map_or(0, |(_, greatest)| greatest);
        let (blocks, experts, groups) =
            (greatest("block_count"), greatest("expert_count"), greatest("expert_group_count"));
        let bounds = [
            ("block_count", 1, 512),
            ("embedding_length", 1, 1 << 24),
            ("feed_forward_length", 0, 1 << 24),
            ("attention.head_count", 0, 1 << 16),
            ("attention.head_count_kv", 0, 1 << 16),
            ("attention.key_length", 0, 1 << 16),
            ("attention.value_length", 0, 1 << 16),
            ("expert_count", 0, 1024),
            ("expert_used_count", 0, experts),
            ("expert_group_count", 0, experts.saturating_sub(1)),
            ("expert_group_used_count", 0, if groups > 1 { groups - 1 } else { u32::MAX }),
            ("nextn_predict_layers", 0, blocks),
            ("posnet.block_count", 0, blocks),
            ("convnext.block_count", 0, blocks),
        ];
        for (name, least, most) in bounds {
            if let Some((lowest, highest)) = range(name) {
                for value in [lowest, highest] {
                    if !(least..=most).contains(&value) {
                        return wrong(format!("its {name} is {value}"));
                    }
                }
            }
        }
        if experts > 0 && greatest("expert_used_count") == 0 {
            return wrong(format!("it has {experts} experts and uses none"));
        }
        if groups > 1 && (experts % groups != 0 || greatest("expert_group_used_count") == 0) {
            return wrong(format!("its {groups} groups of experts do not divide {experts}, or none is used"));
        }
        match self.rope_scaling.as_deref() {
            None | Some("none" | "linear" | "yarn" | "longrope") => Ok(()),
            Some(other) => wrong(format!("its rope scaling {other:?} is not known")),
        }
    }
}

/// Elements and bytes of a block of the tensor types that the engine computes with, by ggml's number.
/// Left out on purpose: Q8_1 and Q8_K, which only exist between two operations, integers, and F64, which
/// loads and then ends the process.
fn block_layout(kind: u32) -> Option<(u64, u64)> {
    Some(match kind {
        0 => (1, 4),      // F32
        1 | 30 => (1, 2), // F16, BF16
        2 => (32, 18),    // Q4_0
        3 => (32, 20),    // Q4_1
        6 => (32, 22),    // Q5_0
        7 => (32, 24),    // Q5_1
        8 => (32, 34),    // Q8_0
        10 => (256, 84),  // Q2_K
        11 => (256, 110), // Q3_K
        12 => (256, 144), // Q4_K
        13 => (256, 176), // Q5_K
        14 => (256, 210), // Q6_K
        16 => (256, 66),  // IQ2_XXS
        17 => (256, 74),  // IQ2_XS
        18 => (256, 98),  // IQ3_XXS
        19 => (256, 50),  // IQ1_S
        20 => (32, 18),   // IQ4_NL
        21 => (256, 110), // IQ3_S
        22 => (256, 82),  // IQ2_S
        23 => (256, 136), // IQ4_XS
        29 => (256, 56),  // IQ1_M
        34 => (256, 54),  // TQ1_0
        35 => (256, 66),  // TQ2_0
        39 => (32, 17),   // MXFP4
        40 => (64, 36),   // NVFP4
        41 => (128, 18),  // Q1_0
        42 => (64, 18),   // Q2_0
        _ => return None,
    })
}

const UINT16: u32 = 2;
const UINT32: u32 = 4;
const INT32: u32 = 5;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// Bytes of a metadata value of fixed size.
fn scalar_bytes(kind: u32) -> Option<u64> {
    Some(match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        _ => return None,
    })
}

/// A reader that knows where it is and never asks for more than the file has.
struct Reader<R> {
    inner: R,
    position: u64,
    size: u64,
    /// What is being read, for the message when the file ends.
    part: &'static str,
}

impl<R: Read> Reader<R> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        let mut bytes = [0; N];
        self.claim(N as u64)?;
        self.inner.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn string(&mut self, longest: u64) -> Result<Vec<u8>, GgufError> {
        let length = self.u64()?;
        if length > longest {
            return Err(GgufError::Invalid(format!("a name in its {} has {length} bytes", self.part)));
        }
        self.claim(length)?;
        let mut bytes = vec![0; usize::try_from(length).expect("bounded above")];
        self.inner.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn text(&mut self) -> Result<String, GgufError> {
        Ok(String::from_utf8_lossy(&self.string(MAX_STRING_BYTES)?).into_owned())
    }

    /// Reads the array of the vocabulary's tokens, no two of which may be the same.
    fn distinct_tokens(&mut self) -> Result<(), GgufError> {
        if self.u32()? != STRING {
            return Err(GgufError::Invalid("its vocabulary is no list of strings".into()));
        }
        let mut seen = HashSet::new();
        for _ in 0..self.u64()? {
            let mut token = self.string(MAX_STRING_BYTES)?;
            // llama.cpp reads up to the first NUL, and gives empty tokens a name of their own.
            if let Some(end) = token.iter().position(|byte| *byte == 0) {
                token.truncate(end);
            }
            if !token.is_empty() && !seen.insert(token) {
                return Err(GgufError::Invalid("its vocabulary has a token twice".into()));
            }
        }
        Ok(())
    }

    /// Reads an array, and gives the least and the greatest of its elements where these are whole numbers of 32 bits.
    fn range_of_numbers(&mut self) -> Result<Option<(u32, u32)>, GgufError> {
        let element = self.u32()?;
        let length = self.u64()?;
        if !matches!(element, UINT32 | INT32) {
            self.skip_elements(element, length)?;
            return Ok(None);
        }
        let mut range = None;
        for _ in 0..length {
            let number = self.u32()?;
            let (least, greatest) = range.unwrap_or((number, number));
            range = Some((number.min(least), number.max(greatest)));
        }
        Ok(range)
    }

    fn skip(&mut self, length: u64) -> Result<(), GgufError> {
        self.claim(length)?;
        io::copy(&mut (&mut self.inner).take(length), &mut io::sink())?;
        Ok(())
    }

    fn skip_elements(&mut self, element: u32, length: u64) -> Result<(), GgufError> {
        if element == STRING {
            // Each string has eight bytes of length, so a count beyond the file ends the loop early.
            for _ in 0..length {
                self.skip_value(STRING)?;
            }
            return Ok(());
        }
        let bytes = scalar_bytes(element)
            .ok_or_else(|| GgufError::Invalid(format!("an array in its metadata has type {element}")))?;
        let total = length.checked_mul(bytes).ok_or(GgufError::Truncated { part: self.part, size: self.size })?;
        self.skip(total)
    }

    fn skip_value(&mut self, kind: u32) -> Result<(), GgufError> {
        match kind {
            STRING => {
                let length = self.u64()?;
                self.skip(length)
            }
            scalar => {
                let bytes = scalar_bytes(scalar)
                    .ok_or_else(|| GgufError::Invalid(format!("a metadata value has type {scalar}")))?;
                self.skip(bytes)
            }
        }
    }

    fn claim(&mut self, length: u64) -> Result<(), GgufError> {
        let end = self.position.checked_add(length).filter(|end| *end <= self.size);
        self.position = end.ok_or(GgufError::Truncated { part: self.part, size: self.size })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_bytes(bytes: &[u8]) -> Result<(), GgufError> {
        check_header(&mut Reader { inner: bytes, position: 0, size: bytes.len() as u64, part: "header" })
    }

    fn put_string(out: &mut Vec<u8>, text: &str) {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    }

    /// One tensor of the given type, row length and count of rows, with its data.
    fn small(kind: u32, row: u64, rows: u64, data_bytes: usize) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3_u32.to_le_bytes());
        out.extend(1_u64.to_le_bytes());
        out.extend(1_u64.to_le_bytes());
        put_string(&mut out, "general.architecture");
        out.extend(STRING.to_le_bytes());
        put_string(&mut out, "llama");
        put_string(&mut out, "token_embd.weight");
        out.extend(2_u32.to_le_bytes());
        out.extend(row.to_le_bytes());
        out.extend(rows.to_le_bytes());
        out.extend(kind.to_le_bytes());
        out.extend(0_u64.to_le_bytes());
        out.resize(out.len().next_multiple_of(32) + data_bytes, 0);
        out
    }

    #[test]
    fn a_small_file_passes_and_no_beginning_of_it_does() {
        let whole = small(0, 8, 4, 128);
        check_bytes(&whole).unwrap();
        for length in 0..whole.len() - 31 {
            assert!(check_bytes(&whole[..length]).is_err(), "cut at {length} of {}", whole.len());
        }
    }

    #[test]
    fn tensor_types_that_cannot_be_computed_with_are_refused() {
        for kind in [9, 15, 24, 25, 26, 27, 28, 31, 4, 5, 99, u32::MAX] {
            let error = check_bytes(&small(kind, 256, 1, 4096)).unwrap_err().to_string();
            assert!(error.contains(&format!("type {kind}")), "{error}");
        }
    }

    #[test]
    fn shapes_that_overflow_or_do_not_fill_blocks_are_refused() {
        assert!(check_bytes(&small(0, u64::MAX, 2, 64)).is_err());
        assert!(check_bytes(&small(0, 1 << 40, 1 << 22, 64)).is_err());
        assert!(check_bytes(&small(0, 0, 4, 64)).is_err());
        assert!(check_bytes(&small(8, 33, 1, 64)).is_err());
    }

    #[test]
    fn counts_without_measure_are_refused_at_once() {
        let mut tensors = small(0, 8, 4, 128);
        tensors[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(check_bytes(&tensors).is_err());
        let mut keys = small(0, 8, 4, 128);
        keys[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(check_bytes(&keys).is_err());
        let mut name = small(0, 8, 4, 128);
        name[24..32].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(check_bytes(&name).is_err());
    }

    /// A file of nothing but metadata, as far as its check.
    fn metadata(entries: &[(&str, u32, &[u8])]) -> String {
        let mut out = b"GGUF".to_vec();
        out.extend(3_u32.to_le_bytes());
        out.extend(1_u64.to_le_bytes());
        out.extend((entries.len() as u64 + 1).to_le_bytes());
        put_string(&mut out, "general.architecture");
        out.extend(STRING.to_le_bytes());
        put_string(&mut out, "llama");
        for (key, kind, value) in entries {
            put_string(&mut out, key);
            out.extend(kind.to_le_bytes());
            out.extend(*value);
        }
        check_bytes(&out).unwrap_err().to_string()
    }

    #[test]
    fn sizes_on_which_llama_cpp_would_end_the_process_are_refused() {
        for (key, value) in [
            ("llama.block_count", 0_u32),
            ("llama.block_count", 513),
            ("llama.attention.head_count_kv", 0x2000_0004),
            ("llama.expert_used_count", 2),
        ] {
            let error = metadata(&[(key, UINT32, &value.to_le_bytes())]);
            assert!(error.contains(&format!("is {value}")), "{error}");
        }
        let list = |numbers: &[i32]| {
            let mut value = INT32.to_le_bytes().to_vec();
            value.extend((numbers.len() as u64).to_le_bytes());
            value.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            value
        };
        let layers = metadata(&[("llama.attention.head_count_kv", ARRAY, &list(&[4, -1, 4]))]);
        assert!(layers.contains("head_count_kv is 4294967295"), "{layers}");
        assert!(metadata(&[("llama.expert_used_count", ARRAY, &list(&[0, 2]))]).contains("expert_used_count is 2"));
        assert!(metadata(&[("llama.attention.head_count_kv", ARRAY, &list(&[4, 0, 8]))]).contains("tensor list"));
        let experts = |others: &[(&str, u32)]| {
            let numbers: Vec<_> = others.iter().map(|(key, number)| (*key, number.to_le_bytes())).collect();
            let count = 8_u32.to_le_bytes();
            let mut all = vec![("llama.expert_count", UINT32, &count[..])];
            all.extend(numbers.iter().map(|(key, number)| (*key, UINT32, &number[..])));
            metadata(&all)
        };
        let (used, groups, groups_used) =
            ("llama.expert_used_count", "llama.expert_group_count", "llama.expert_group_used_count");
        assert!(experts(&[]).contains("uses none"));
        assert!(experts(&[(used, 9)]).contains("expert_used_count is 9"));
        assert!(experts(&[(used, 2), (groups, 8)]).contains("expert_group_count is 8"));
        assert!(experts(&[(used, 2), (groups, 3), (groups_used, 1)]).contains("do not divide"));
        assert!(experts(&[(used, 2), (groups, 4)]).contains("none is used"));
        assert!(experts(&[(used, 2), (groups, 4), (groups_used, 4)]).contains("expert_group_used_count is 4"));
        assert!(experts(&[(used, 2), (groups, 4), (groups_used, 2)]).contains("tensor list"));
        assert!(metadata(&[(groups, UINT32, &1_u32.to_le_bytes())]).contains("expert_group_count is 1"));
        let fine = metadata(&[("llama.block_count", UINT32, &32_u32.to_le_bytes())]);
        assert!(fine.contains("tensor list"), "only the tensors are missing: {fine}");
        let mut scaling = Vec::new();
        put_string(&mut scaling, "dynamo");
        assert!(metadata(&[("llama.rope.scaling.type", STRING, &scaling)]).contains("dynamo"));
    }

    #[test]
    fn a_model_in_several_files_is_refused_by_name() {
        assert!(metadata(&[("split.count", UINT16, &2_u16.to_le_bytes())]).contains("split.count is 2"));
        assert!(metadata(&[("split.count", UINT16, &1_u16.to_le_bytes())]).contains("tensor list"));
    }

    #[test]
    fn a_vocabulary_with_a_token_twice_is_refused() {
        let vocabulary = |tokens: &[&str]| {
            let mut value = STRING.to_le_bytes().to_vec();
            value.extend((tokens.len() as u64).to_le_bytes());
            for token in tokens {
                put_string(&mut value, token);
            }
            metadata(&[("tokenizer.ggml.tokens", ARRAY, &value)])
        };
        assert!(vocabulary(&["a", "b", "a"]).contains("token twice"));
        assert!(vocabulary(&["a\0b", "a"]).contains("token twice"));
        assert!(vocabulary(&["a", "", ""]).contains("tensor list"));
    }

    #[test]
    fn other_files_are_told_apart() {
        assert!(matches!(check_bytes(b""), Err(GgufError::NotGguf)));
        assert!(matches!(check_bytes(b"PK\x03\x04 zip"), Err(GgufError::NotGguf)));
        let error = check_bytes(b"GGUF\0\0\0\x03").unwrap_err().to_string();
        assert!(error.contains("big-endian"), "{error}");
    }

    #[test]
    fn any_byte_may_be_wrong_without_a_panic() {
        let whole = small(8, 64, 4, 272);
        for position in 0..whole.len() {
            for value in [0, 1, 0x7F, 0x80, 0xFF, whole[position] ^ 0x10] {
                let mut bytes = whole.clone();
                bytes[position] = value;
                let _ = check_bytes(&bytes);
            }
        }
    }
}
