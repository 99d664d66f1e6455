//! The strict layer around the `safetensors` crate.
//!
//! The crate checks that offsets tile the file and match shapes; as of 0.8.0 it also accepts what we refuse: duplicate
//! tensor names (the last one wins), duplicate metadata keys, unknown fields, names with any byte in them, any rank,
//! and a header that does not start with `{`. A header of a hundred megabytes of empty tensors costs it seconds and
//! more than a gigabyte. So a header is read twice. First [`scan`] walks it once, keeps nothing but the names, and
//! refuses whatever breaks a rule or a limit, with the tensor at fault. Then the crate reads it, and has the last word
//! on the offsets. Every number is bounded by the file before anybody computes with it.
//!
//! The container, for the reader who does not know it: 8 bytes, the length N of the header, little-endian; N bytes of
//! JSON, `{"__metadata__": {string: string}, name: {"dtype": .., "shape": [..], "data_offsets": [begin, end]}, ..}`,
//! padded with spaces; then the data, to which the offsets refer, without gaps.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ops::Range;

use safetensors::SafeTensors;
use safetensors::tensor::SafeTensorError;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::json::{self, Object, Text};
use super::map::Map;
use super::tensor::Dtype;
use crate::error::{Error, ErrorKind};

/// The most tensors in a model.
pub const MAX_TENSORS: usize = 65_536;
/// The most dimensions of a tensor.
pub const MAX_RANK: usize = 8;
/// The longest name of a tensor, in bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// The most entries of `__metadata__`.
pub const MAX_METADATA: usize = 1024;

/// The key of the description in `__metadata__`.
pub const DESCRIPTION_KEY: &str = "polyscore";
/// What the names of the tensors that only fill gaps start with.
pub const PADDING_PREFIX: &str = "padding.";
/// Padding brings the next tensor to a multiple of this many bytes, so it is shorter.
pub const ALIGNMENT: usize = 64;

const LENGTH_BYTES: usize = 8;
const METADATA_KEY: &str = "__metadata__";

/// What one file holds.
#[derive(Debug)]
pub struct Header {
    /// The value of `__metadata__["polyscore"]`.
    pub description: Option<String>,
    /// What else is in `__metadata__`.
    pub metadata: BTreeMap<String, String>,
    /// The tensors in file order, padding left out.
    pub entries: Vec<Entry>,
}

/// One tensor of a file.
#[derive(Debug)]
pub struct Entry {
    /// The name.
    pub name: String,
    /// The element type.
    pub dtype: Dtype,
    /// The sizes.
    pub shape: Box<[usize]>,
    /// Where its bytes are in the file; within the file.
    pub range: Range<usize>,
}

impl Header {
    /// Reads and checks the header of a file.
    ///
    /// # Errors
    /// `Format` for damage and broken rules, `Limit` for more than the limits allow, `Tensor` for a type that we do not
    /// read. The subject is the tensor if one is at fault, otherwise the file.
    pub fn read(map: &Map, max_header_bytes: u64) -> Result<Self, Error> {
        let (name, bytes) = (map.name(), map.bytes());
        let refuse = |kind, detail: String| Err(Error::new(kind, name, detail));
        let Some(length) = bytes.first_chunk::<LENGTH_BYTES>() else {
            return refuse(ErrorKind::Format, format!("has {} bytes, too few for a header", bytes.len()));
        };
        let length = u64::from_le_bytes(*length);
        let rest = bytes.len() - LENGTH_BYTES;
        if length > rest as u64 {
            return refuse(ErrorKind::Format, format!("the header of {length} bytes passes the end of the file"));
        }
        if length > max_header_bytes {
            return refuse(ErrorKind::Limit, format!("the header has {length} bytes, the limit is {max_header_bytes}"));
        }
        let data_start = LENGTH_BYTES + length as usize;
        let text = &bytes[LENGTH_BYTES..data_start];
        if text.first() != Some(&b'{') {
            return refuse(ErrorKind::Format, "the header does not start with `{`".into());
        }
        let Ok(text) = std::str::from_utf8(text) else {
            return refuse(ErrorKind::Format, "the header is not UTF-8".into());
        };
        scan(text, name, (rest as u64) - length)?;

        let (_, container) = SafeTensors::read_metadata(bytes).map_err(|error| container_error(error, name))?;
        let mut metadata: BTreeMap<String, String> = container.metadata().clone().into_iter().flatten().collect();
        let description = metadata.remove(DESCRIPTION_KEY);
        let mut entries = Vec::new();
        for name in container.offset_keys() {
            let Some(info) = container.info(&name) else { continue };
            let range = data_start + info.data_offsets.0..data_start + info.data_offsets.1;
            let Some(dtype) = Dtype::from_container(info.dtype) else {
                let detail = format!("has type `{}`, which polyscore does not read", info.dtype);
                return Err(Error::new(ErrorKind::Tensor, name, detail));
            };
            if name.starts_with(PADDING_PREFIX) {
                check_padding(&name, dtype, bytes.get(range))?;
                continue;
            }
            entries.push(Entry { name, dtype, shape: info.shape.as_slice().into(), range });
        }
        Ok(Self { description, metadata, entries })
    }
}

/// Whether a name may be a tensor's: `[A-Za-z0-9_.:/-]{1,256}`.
pub fn is_tensor_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'/' | b'-'))
}

fn check_padding(name: &str, dtype: Dtype, bytes: Option<&[u8]>) -> Result<(), Error> {
    let short = bytes.filter(|bytes| dtype == Dtype::U8 && bytes.len() < ALIGNMENT);
    if short.is_some_and(|bytes| bytes.iter().all(|&byte| byte == 0)) {
        return Ok(());
    }
    let detail = format!("padding must be U8, zero, and shorter than {ALIGNMENT} bytes");
    Err(Error::new(ErrorKind::Format, name, detail))
}

fn container_error(error: SafeTensorError, file: &str) -> Error {
    let (subject, detail) = match error {
        SafeTensorError::InvalidOffset(tensor) => {
            return Error::new(ErrorKind::Format, tensor, "does not begin where the tensor before it ends");
        }
        SafeTensorError::MetadataIncompleteBuffer => (file, "the tensors do not cover the file to its end".into()),
        SafeTensorError::HeaderTooLarge => {
            return Error::new(ErrorKind::Limit, file, "the header is longer than the container allows");
        }
        other => (file, other.to_string()),
    };
    Error::new(ErrorKind::Format, subject, detail)
}

/// Walks the header once and refuses what breaks a rule. `data_bytes` is what follows the header.
fn scan(text: &str, file: &str, data_bytes: u64) -> Result<(), Error> {
    let mut scan = Scan { data_bytes, names: HashSet::new(), places: Vec::new(), subject: None, failure: None };
    let mut reader = serde_json::Deserializer::from_str(text);
    let result = Entries(&mut scan).deserialize(&mut reader).and_then(|()| reader.end());
    if let Err(error) = result {
        return Err(match scan.failure {
            Some(failure) if failure.subject().is_empty() => Error::new(failure.kind(), file, failure.detail()),
            Some(failure) => failure,
            None => {
                let subject = scan.subject.filter(|_| error.is_data()).unwrap_or_else(|| file.into());
                Error::new(ErrorKind::Format, subject, json::detail(&error))
            }
        });
    }
    check_places(&mut scan.places, file, data_bytes)
}

/// Refuses gaps, overlaps and a rest: both ends of every tensor are known to lie within the data.
fn check_places(places: &mut [Place], file: &str, data_bytes: u64) -> Result<(), Error> {
    places.sort_unstable_by(|a, b| (a.begin, a.end, &a.name).cmp(&(b.begin, b.end, &b.name)));
    let mut end = 0;
    for place in &*places {
        if place.begin != end {
            let what = if place.begin > end { "leaves a gap after" } else { "overlaps" };
            let detail = format!("its data begins at {}, which {what} the tensor that ends at {end}", place.begin);
            return Err(Error::new(ErrorKind::Format, &*place.name, detail));
        }
        end = place.end;
    }
    if end != data_bytes {
        let detail = format!("the tensors end at {end}, the file holds {data_bytes} bytes of data");
        return Err(Error::new(ErrorKind::Format, file, detail));
    }
    Ok(())
}

struct Scan<'a> {
    data_bytes: u64,
    names: HashSet<Cow<'a, str>>,
    places: Vec<Place>,
    /// The entry that is being read.
    subject: Option<String>,
    /// The first broken rule. An empty subject stands for the file.
    failure: Option<Error>,
}

/// Where a tensor's data lies, counted from the end of the header.
struct Place {
    begin: u64,
    end: u64,
    name: String,
}

impl<'a> Scan<'a> {
    /// Records a broken rule and gives the error that ends the walk.
    fn refuse<E: serde::de::Error>(&mut self, kind: ErrorKind, subject: &str, detail: impl Into<String>) -> E {
        let detail = detail.into();
        let error = E::custom(&detail);
        self.failure = Some(Error::new(kind, subject, detail));
        error
    }

    fn add_name<E: serde::de::Error>(&mut self, key: Cow<'a, str>) -> Result<(), E> {
        if key == METADATA_KEY {
            self.subject = Some(METADATA_KEY.into());
        } else if is_tensor_name(&key) {
            self.subject = Some(key.clone().into_owned());
        } else {
            let detail = format!(
                "tensor name {} is not of 1 to 256 letters, digits, `_`, `.`, `:`, `/` and `-`",
                json::quoted(&key)
            );
            return Err(self.refuse(ErrorKind::Format, "", detail));
        }
        if let Some(key) = self.names.replace(key) {
            return Err(self.refuse(ErrorKind::Format, &key, "is there twice"));
        }
        if self.places.len() == MAX_TENSORS && self.subject.as_deref() != Some(METADATA_KEY) {
            return Err(self.refuse(ErrorKind::Limit, "", format!("has more than {MAX_TENSORS} tensors")));
        }
        Ok(())
    }

    /// Bounds what the crate computes with, and compares the shape with the data.
    fn add_tensor<E: serde::de::Error>(&mut self, info: &Info<'_>) -> Result<(), E> {
        let name = self.subject.clone().unwrap_or_default();
        let Some(dtype) = Dtype::from_name(&info.dtype.0) else {
            let detail = format!("has type {}, which polyscore does not read", json::quoted(&info.dtype.0));
            return Err(self.refuse(ErrorKind::Tensor, &name, detail));
        };
        let (begin, end) = info.data_offsets;
        if begin > end {
            return Err(self.refuse(ErrorKind::Format, &name, format!("its data begins at {begin} and ends at {end}")));
        }
        if end > self.data_bytes {
            let detail = format!("its data ends at {end}, the file holds {} bytes of data", self.data_bytes);
            return Err(self.refuse(ErrorKind::Format, &name, detail));
        }
        let shape = info.shape.as_slice();
        let bytes = shape.iter().try_fold(dtype.size() as u64, |bytes, &size| bytes.checked_mul(size));
        if bytes != Some(end - begin) {
            let detail = format!("shape {shape:?} of {} does not fit its {} bytes of data", dtype.name(), end - begin);
            return Err(self.refuse(ErrorKind::Format, &name, detail));
        }
        self.places.push(Place { begin, end, name });
        Ok(())
    }
}

/// The header: an object of tensors, and `__metadata__`.
struct Entries<'s, 'a>(&'s mut Scan<'a>);

impl<'a> DeserializeSeed<'a> for Entries<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Entries<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let scan = self.0;
        while let Some(Text(key)) = map.next_key::<Text<'a>>()? {
            let is_metadata = key == METADATA_KEY;
            scan.add_name(key)?;
            if is_metadata {
                map.next_value_seed(Strings(scan))?;
            } else {
                let Object(info) = map.next_value::<Object<Info<'a>>>()?;
                scan.add_tensor(&info)?;
            }
            scan.subject = None;
        }
        Ok(())
    }
}

/// The entry of one tensor.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Info<'a> {
    #[serde(borrow)]
    dtype: Text<'a>,
    shape: Shape,
    data_offsets: (u64, u64),
}

/// The sizes of a tensor, no more than [`MAX_RANK`] of them.
struct Shape {
    sizes: [u64; MAX_RANK],
    rank: usize,
}

impl Shape {
    fn as_slice(&self) -> &[u64] {
        &self.sizes[..self.rank]
    }
}

impl<'a> Deserialize<'a> for Shape {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sizes;
        impl<'a> Visitor<'a> for Sizes {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of sizes")
            }

            fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<Shape, A::Error> {
                let mut shape = Shape { sizes: [0; MAX_RANK], rank: 0 };
                while let Some(size) = seq.next_element()? {
                    let Some(place) = shape.sizes.get_mut(shape.rank) else {
                        return Err(A::Error::custom(format_args!("has more than {MAX_RANK} dimensions")));
                    };
                    *place = size;
                    shape.rank += 1;
                }
                Ok(shape)
            }
        }
        deserializer.deserialize_seq(Sizes)
    }
}

/// `__metadata__`: an object of strings.
struct Strings<'s, 'a>(&'s mut Scan<'a>);

impl<'a> DeserializeSeed<'a> for Strings<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Strings<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = map.next_key::<Text<'a>>()? {
            let shown = json::quoted(&key.0);
            if !keys.insert(key) {
                return Err(self.0.refuse(ErrorKind::Format, METADATA_KEY, format!("the key {shown} is there twice")));
            }
            if keys.len() > MAX_METADATA {
                let detail = format!("has more than {MAX_METADATA} entries");
                return Err(self.0.refuse(ErrorKind::Limit, METADATA_KEY, detail));
            }
            map.next_value::<Text<'a>>()?;
        }
        Ok(())
    }
}
