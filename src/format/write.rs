//! Writes model files: for tools, and for tests that need a file with one thing wrong.
//!
//! The layout is the one the head of [`super`] describes: each tensor at a multiple of 64 bytes of the file, with
//! `padding.{n}` tensors between. A file is never written in place: a process that maps the old one must keep it.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::header::{ALIGNMENT, DESCRIPTION_KEY, PADDING_PREFIX, is_tensor_name};
use super::map;
use super::tensor::{Dtype, Tensor};
use crate::error::{Error, ErrorKind};

/// The bytes of a model file with these tensors, in this order.
///
/// # Errors
/// `Tensor` for a name that may not be one, that is there twice or that is reserved for padding, and for a shape that
/// does not fit the bytes.
pub fn encode(description: &str, tensors: &[Tensor<'_>]) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let header = header(&Metadata { description, others: &usual() }, tensors)?;
    copy_to(&mut bytes, &header, tensors).map_err(|error| io(&error, ""))?;
    Ok(bytes)
}

/// Writes a model file: under a temporary name in the same folder, synced, then renamed to `path`.
///
/// # Errors
/// As [`encode`], and `Io`. Unless the error comes from syncing the folder, which is last, what was at `path` is still
/// there. The temporary file is not.
pub fn write(path: &Path, description: &str, tensors: &[Tensor<'_>]) -> Result<(), Error> {
    rewrite(path, &Metadata { description, others: &usual() }, tensors, |_| Ok(()))
}

/// What a file holds beside its tensors.
pub struct Metadata<'a> {
    pub description: &'a str,
    /// Texts of other names.
    pub others: &'a BTreeMap<String, String>,
}

/// What a new file says of itself.
fn usual() -> BTreeMap<String, String> {
    BTreeMap::from([("format".to_owned(), "pt".to_owned())])
}

/// As [`write()`], with all metadata; `check` is given the complete file under its temporary name, and has the last word on it.
pub fn rewrite<E: From<Error>>(
    path: &Path,
    metadata: &Metadata<'_>,
    tensors: &[Tensor<'_>],
    check: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let header = header(metadata, tensors)?;
    let name = map::file_name(path);
    let temporary = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    write_new(&temporary, &header, tensors).map_err(|error| {
        if error.kind() != std::io::ErrorKind::AlreadyExists {
            let _ = std::fs::remove_file(&temporary);
        }
        io(&error, &name)
    })?;
    let rename = |()| std::fs::rename(&temporary, path).map_err(|error| io(&error, &name).into());
    check(&temporary).and_then(rename).inspect_err(|_| {
        let _ = std::fs::remove_file(&temporary);
    })?;
    sync_folder(path).map_err(|error| io(&error, &name))?;
    Ok(())
}

fn write_new(path: &Path, header: &str, tensors: &[Tensor<'_>]) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create_new(path)?);
    copy_to(&mut file, header, tensors)?;
    file.into_inner()?.sync_all()
}

#[cfg(unix)]
fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_path: &Path) -> std::io::Result<()> {
    Ok(())
}

fn io(error: &std::io::Error, name: &str) -> Error {
    Error::new(ErrorKind::Io, name, map::describe(error))
}

/// The header with its spaces: 8 bytes of length and the header are a multiple of [`ALIGNMENT`].
fn header(metadata: &Metadata<'_>, tensors: &[Tensor<'_>]) -> Result<String, Error> {
    check(tensors)?;
    let text = |text: &str| serde_json::Value::from(text);
    let mut header = String::from("{\"__metadata__\":{");
    for (key, value) in metadata.others {
        let _ = write!(header, "{}:{},", text(key), text(value));
    }
    let _ = write!(header, "\"{DESCRIPTION_KEY}\":{}}}", text(metadata.description));
    let mut begin = 0;
    for (number, tensor) in tensors.iter().enumerate() {
        let end = begin + tensor.bytes.len();
        push_entry(&mut header, tensor.name, tensor.dtype, tensor.shape, begin, end);
        begin = end + padding(number, tensors);
        if begin > end {
            push_entry(&mut header, &format!("{PADDING_PREFIX}{number}"), Dtype::U8, &[begin - end], end, begin);
        }
    }
    header.push('}');
    let spaces = (size_of::<u64>() + header.len()).next_multiple_of(ALIGNMENT) - size_of::<u64>() - header.len();
    header.extend(std::iter::repeat_n(' ', spaces));
    Ok(header)
}

fn push_entry(header: &mut String, name: &str, dtype: Dtype, shape: &[usize], begin: usize, end: usize) {
    let dtype = dtype.name();
    let _ =
        write!(header, ",\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{begin},{end}]}}");
}

/// The bytes of padding after a tensor: none after the last.
fn padding(number: usize, tensors: &[Tensor<'_>]) -> usize {
    let length = tensors[number].bytes.len();
    if number + 1 == tensors.len() { 0 } else { length.next_multiple_of(ALIGNMENT) - length }
}

fn check(tensors: &[Tensor<'_>]) -> Result<(), Error> {
    let mut names = HashSet::new();
    for tensor in tensors {
        let refuse = |detail: &str| Err(Error::new(ErrorKind::Tensor, tensor.name, detail));
        if !is_tensor_name(tensor.name) {
            return refuse("is not of 1 to 256 letters, digits, `_`, `.`, `:`, `/` and `-`");
        }
        if tensor.name.starts_with(PADDING_PREFIX) {
            return refuse("has a name that is reserved for padding");
        }
        if !names.insert(tensor.name) {
            return refuse("is there twice");
        }
        let bytes = tensor.shape.iter().try_fold(tensor.dtype.size(), |bytes, &size| bytes.checked_mul(size));
        if bytes != Some(tensor.bytes.len()) {
            return refuse("has a shape that does not fit its bytes");
        }
    }
    Ok(())
}

fn copy_to(mut out: impl Write, header: &str, tensors: &[Tensor<'_>]) -> std::io::Result<()> {
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    for (number, tensor) in tensors.iter().enumerate() {
        out.write_all(tensor.bytes)?;
        out.write_all(&[0; ALIGNMENT][..padding(number, tensors)])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::store::{Store, StoreOptions};
    use super::*;

    fn tensor<'a>(name: &'a str, dtype: Dtype, shape: &'a [usize], bytes: &'a [u8]) -> Tensor<'a> {
        Tensor { name, dtype, shape, bytes }
    }

    #[test]
    fn what_is_written_is_read_at_multiples_of_64_without_a_copy() {
        let folder = std::env::temp_dir().join(format!("polyscore-write-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("m.safetensors");
        let painted: Vec<u8> = (0..=255).collect();
        let tensors = [
            tensor("odd", Dtype::U8, &[3], &painted[..3]),
            tensor("table", Dtype::F16, &[5, 7], &painted[..70]),
            tensor("empty", Dtype::F32, &[0, 4], &[]),
            tensor("full", Dtype::I64, &[8], &painted[64..128]),
            tensor("scalar", Dtype::F64, &[], &painted[128..136]),
        ];
        for description in ["{}", "{\"a\":\"\\u0000 \\\" é\"}"] {
            write(&path, description, &tensors).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), encode(description, &tensors).unwrap());
            let store = Store::open(&path, &StoreOptions::default()).unwrap();
            assert_eq!(store.description_json(), description);
            assert_eq!(store.copied_bytes(), 0);
            assert_eq!(store.len(), tensors.len());
            for ((_, read), written) in store.tensors().zip(&tensors) {
                assert_eq!((read.name, read.dtype, read.shape, read.bytes), {
                    (written.name, written.dtype, written.shape, written.bytes)
                });
                assert_eq!(read.bytes.as_ptr() as usize % ALIGNMENT, 0, "{}", read.name);
                assert_eq!(store.tensor(store.find(read.name).unwrap()).bytes, read.bytes);
            }
            assert_eq!(store.find("padding.0"), None);
        }
        let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(files, ["m.safetensors"]);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_crate_reads_it_too() {
        let bytes = encode("{}", &[tensor("a", Dtype::F32, &[3], &[7; 12]), tensor("b", Dtype::Bf16, &[1], &[1, 2])]);
        let bytes = bytes.unwrap();
        let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(read.tensor("b").unwrap().data(), [1, 2]);
        assert_eq!(read.tensor("padding.0").unwrap().data(), [0; 52]);
    }

    #[test]
    fn what_a_reader_would_refuse_is_not_written() {
        let refuse = |tensors: &[Tensor<'_>]| encode("{}", tensors).unwrap_err().to_string();
        let good = tensor("a", Dtype::U8, &[1], &[0]);
        assert_eq!(refuse(&[good, good]), "a: is there twice");
        assert_eq!(
            refuse(&[Tensor { name: "padding.7", ..good }]),
            "padding.7: has a name that is reserved for padding"
        );
        assert_eq!(refuse(&[Tensor { shape: &[2], ..good }]), "a: has a shape that does not fit its bytes");
        assert_eq!(refuse(&[Tensor { shape: &[usize::MAX, 2], ..good }]), "a: has a shape that does not fit its bytes");
        assert!(refuse(&[Tensor { name: "a b", ..good }]).starts_with("a b: is not of 1 to 256"));
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_nothing() {
        let path = std::env::temp_dir().join(format!("polyscore-absent-{}", std::process::id())).join("m.safetensors");
        let error = write(&path, "{}", &[]).unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::Io, "m.safetensors: does not exist".into()));
    }
}
