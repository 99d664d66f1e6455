//! The tensors of a model, by name, wherever they lie: one file or several.
//!
//! A set of files has an index, `<name>.safetensors.index.json`, as `transformers` writes it:
//! `{"metadata": {"polyscore": description, ..}, "weight_map": {tensor: file, ..}}`. The index decides: every tensor of
//! every file must be listed under that file and every listed tensor must be there, so no tensor is in two files. File
//! names are plain names in the folder of the index; no path comes from a file. Only the index has a description.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::header::{self, Entry, Header};
use super::json::{self, Object, Tree};
use super::map::{self, AlignedBytes, Map, Mode};
use super::replace::Replacement;
use super::tensor::{Dtype, Tensor, TensorId};
use crate::error::{Error, ErrorKind};

/// The most files in a set.
const MAX_SHARDS: usize = 256;
/// The most entries in the metadata of an index.
const MAX_INDEX_METADATA: usize = 1024;
/// The index that a folder is opened by.
const INDEX_NAME: &str = "model.safetensors.index.json";
const INDEX_SUFFIX: &str = ".safetensors.index.json";
const SHARD_SUFFIX: &str = ".safetensors";
/// Buffers of batch norms that scoring never reads.
const UNREAD_SUFFIX: &str = ".num_batches_tracked";

/// What the names of tensors begin with that hold a dense layer as kernels read it; 16 hexadecimal digits follow.
const PACKED_PREFIX: &str = "packed.";

/// The name of the tensor that holds what `hash` was made of, as kernels read it.
pub fn packed_name(hash: u64) -> String {
    format!("{PACKED_PREFIX}{hash:016x}")
}

/// Whether a tensor is no weight of training, but what [`packed_name`] names.
pub fn is_packed(name: &str) -> bool {
    name.strip_prefix(PACKED_PREFIX)
        .is_some_and(|rest| rest.len() == 16 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The bytes of a tensor, and what holds them.
struct Shared {
    owner: Owner,
    range: Range<usize>,
}

enum Owner {
    Map(Arc<Map>),
    Copy(Arc<AlignedBytes>),
    Replacement(Arc<Replacement>),
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        let all = match &self.owner {
            Owner::Map(map) => map.bytes(),
            Owner::Copy(copy) => copy.as_slice(),
            Owner::Replacement(replacement) => &replacement.bytes,
        };
        &all[self.range.clone()]
    }
}

/// How to open a [`Store`].
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// How the bytes are held.
    pub mode: Mode,
    /// The largest size of the file, or of all files of a set together, in bytes.
    pub max_bytes: u64,
    /// The largest header of a file, or the largest index, in bytes. The container allows no more than 100,000,000.
    pub max_header_bytes: u64,
}

impl Default for StoreOptions {
    /// Map files of up to 1 TiB with headers of up to 16 MiB.
    fn default() -> Self {
        Self { mode: Mode::Map, max_bytes: 1 << 40, max_header_bytes: 16 << 20 }
    }
}

/// The tensors of a model and its description. Immutable, and shared between threads without a lock. Clones share the bytes.
#[derive(Clone, Debug)]
pub struct Store {
    maps: Vec<Arc<Map>>,
    copies: Vec<Arc<AlignedBytes>>,
    pub(super) replacements: Vec<Arc<Replacement>>,
    pub(super) tensors: Vec<Stored>,
    /// The tensors by ascending name.
    pub(super) by_name: Vec<u32>,
    description: String,
    metadata: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Box<[usize]>,
    pub place: Place,
}

#[derive(Clone, Debug)]
pub(super) enum Place {
    Map(usize, Range<usize>),
    Copy(usize),
    Replacement(usize),
}

impl Store {
    /// Opens a file, a set of files by its index, or a folder that holds `model.safetensors.index.json`.
    ///
    /// # Errors
    /// `Io`, `Format`, `Limit`, `OutOfMemory` and `Tensor` (a type that is not read), with the file or the tensor.
    pub fn open(path: impl AsRef<Path>, options: &StoreOptions) -> Result<Self, Error> {
        let path = path.as_ref();
        let index = index_path(path);
        let mut store = match &index {
            Some(index) => Self::open_set(index, options)?,
            None => Self::open_file(path, options)?,
        };
        store.sort();
        Ok(store)
    }

    pub(super) fn sort(&mut self) {
        let mut by_name: Vec<u32> = (0..self.tensors.len() as u32).collect();
        by_name.sort_unstable_by(|&a, &b| self.tensors[a as usize].name.cmp(&self.tensors[b as usize].name));
        self.by_name = by_name;
    }

    fn open_file(path: &Path, options: &StoreOptions) -> Result<Self, Error> {
        let map = Map::open(path, options.mode, options.max_bytes)?;
        let header = Header::read(&map, options.max_header_bytes)?;
        let Some(description) = header.description else {
            let detail = "has no description: `__metadata__` lacks the key `polyscore`";
            return Err(Error::new(ErrorKind::Format, map.name(), detail));
        };
        let mut store = Self::empty(description, header.metadata);
        store.add(map, header.entries)?;
        Ok(store)
    }

    fn open_set(path: &Path, options: &StoreOptions) -> Result<Self, Error> {
        let Index { description, metadata, shards } = Index::read(path, options.max_header_bytes)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut store = Self::empty(description, metadata);
        let mut rest = options.max_bytes;
        for (shard, tensors) in &shards {
            let map = Map::open(&folder.join(shard), options.mode, rest)?;
            rest -= map.bytes().len() as u64;
            let header = Header::read(&map, options.max_header_bytes)?;
            if header.description.is_some() {
                let detail = "has a description of its own; a set has it in its index";
                return Err(Error::new(ErrorKind::Format, map.name(), detail));
            }
            for entry in &header.entries {
                if tensors.contains(&entry.name) {
                    continue;
                }
                let listed = shards.iter().find(|(_, tensors)| tensors.contains(&entry.name));
                let detail = match listed {
                    Some((other, _)) => format!("is in {shard}, but the index lists it in {other}"),
                    None => format!("is in {shard}, but not in the index"),
                };
                return Err(Error::new(ErrorKind::Format, &*entry.name, detail));
            }
            if header.entries.len() != tensors.len() {
                let mut found: Vec<&str> = header.entries.iter().map(|entry| &*entry.name).collect();
                found.sort_unstable();
                let missing = tensors.iter().find(|name| found.binary_search(&&***name).is_err());
                let detail = format!("is not in {shard}, where the index lists it");
                return Err(Error::new(ErrorKind::Format, missing.map_or("", |name| name), detail));
            }
            store.add(map, header.entries)?;
        }
        Ok(store)
    }

    fn empty(description: String, metadata: BTreeMap<String, String>) -> Self {
        let (maps, copies, replacements, tensors) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { maps, copies, replacements, tensors, by_name: Vec::new(), description, metadata }
    }

    /// Adds the tensors of a file, with a copy of those that are not aligned to their elements.
    fn add(&mut self, map: Map, entries: Vec<Entry>) -> Result<(), Error> {
        for Entry { name, dtype, shape, range } in entries {
            let Some(bytes) = map.bytes().get(range.clone()) else {
                return Err(Error::new(ErrorKind::Format, name, "passes the end of the file"));
            };
            let place = if (bytes.as_ptr() as usize).is_multiple_of(dtype.size()) {
                Place::Map(self.maps.len(), range)
            } else {
                self.copy(bytes, &name)?
            };
            self.tensors.push(Stored { name, dtype, shape, place });
        }
        self.maps.push(Arc::new(map));
        Ok(())
    }

    /// A place for a copy of `bytes`.
    pub(super) fn copy(&mut self, bytes: &[u8], name: &str) -> Result<Place, Error> {
        self.copies.push(Arc::new(AlignedBytes::copy(bytes, name)?));
        Ok(Place::Copy(self.copies.len() - 1))
    }

    /// The description, as JSON.
    pub fn description_json(&self) -> &str {
        &self.description
    }

    /// The other texts beside the description.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The tensor of that name.
    pub fn find(&self, name: &str) -> Option<TensorId> {
        let position = self.by_name.binary_search_by(|&number| (*self.tensors[number as usize].name).cmp(name)).ok()?;
        Some(TensorId(self.by_name[position]))
    }

    /// A tensor, borrowed from the store.
    ///
    /// # Panics
    /// If the id comes from another store.
    pub fn tensor(&self, id: TensorId) -> Tensor<'_> {
        let stored = &self.tensors[id.index()];
        let bytes = match &stored.place {
            Place::Map(map, range) => &self.maps[*map].bytes()[range.clone()],
            Place::Copy(copy) => self.copies[*copy].as_slice(),
            Place::Replacement(replacement) => &self.replacements[*replacement].bytes,
        };
        Tensor { name: &stored.name, dtype: stored.dtype, shape: &stored.shape, bytes }
    }

    /// The bytes of the tensor with that [`TensorId::index`].
    ///
    /// # Panics
    /// If the store has no such tensor.
    pub fn bytes(&self, number: usize) -> &[u8] {
        self.tensor(TensorId(number as u32)).bytes
    }

    /// The bytes of a tensor; the file stays as long as they do.
    ///
    /// # Panics
    /// If the id comes from another store.
    pub fn shared(&self, id: TensorId) -> Arc<dyn AsRef<[u8]> + Send + Sync> {
        let whole = 0..self.tensor(id).bytes.len();
        let (owner, range) = match &self.tensors[id.index()].place {
            Place::Map(map, range) => (Owner::Map(Arc::clone(&self.maps[*map])), range.clone()),
            Place::Copy(copy) => (Owner::Copy(Arc::clone(&self.copies[*copy])), whole),
            Place::Replacement(replacement) => {
                (Owner::Replacement(Arc::clone(&self.replacements[*replacement])), whole)
            }
        };
        Arc::new(Shared { owner, range })
    }

    /// All tensors in file order, padding left out.
    pub fn tensors(&self) -> impl Iterator<Item = (TensorId, Tensor<'_>)> {
        (0..self.tensors.len() as u32).map(|number| (TensorId(number), self.tensor(TensorId(number))))
    }

    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// The tensor of that name, which must be there.
    ///
    /// # Errors
    /// `Tensor`.
    pub fn require(&self, name: &str) -> Result<TensorId, Error> {
        self.find(name).ok_or_else(|| Error::new(ErrorKind::Tensor, name, "is missing"))
    }

    /// A weight: the tensor of that name, which must be F32, F16 or BF16 and have exactly that shape. Its values are
    /// not looked at; [`Tensor::check_finite`] does that.
    ///
    /// # Errors
    /// `Tensor`.
    pub fn weight(&self, name: &str, shape: &[usize]) -> Result<TensorId, Error> {
        let id = self.require(name)?;
        let tensor = self.tensor(id);
        if !tensor.dtype.is_weight() {
            return Err(tensor.wrong_type("F32, F16 or BF16"));
        }
        tensor.check_shape(shape)?;
        Ok(id)
    }

    /// Refuses a tensor that is not among the `claimed` ones. Names that end in `.num_batches_tracked` may stay, and so may packed
    /// layers: which of them are read depends on how the model is opened.
    ///
    /// # Errors
    /// `Tensor`, for the first in file order.
    pub fn check_claimed(&self, claimed: impl IntoIterator<Item = TensorId>) -> Result<(), Error> {
        let mut known = vec![false; self.tensors.len()];
        for id in claimed {
            known[id.index()] = true;
        }
        let may_stay = |name: &str| name.ends_with(UNREAD_SUFFIX) || is_packed(name);
        let strange = self.tensors.iter().zip(known).find(|(stored, known)| !known && !may_stay(&stored.name));
        match strange {
            None => Ok(()),
            Some((stored, _)) => {
                Err(Error::new(ErrorKind::Tensor, &*stored.name, "is not used by the features or the network"))
            }
        }
    }

    /// Refuses files that were written in place since they were opened. To be called after the last read of a load.
    ///
    /// # Errors
    /// `Io`.
    pub fn check_unchanged(&self) -> Result<(), Error> {
        self.maps.iter().try_for_each(|map| map.check_unchanged())
    }

    /// The bytes of the files that are mapped, and thus shared with the page cache.
    pub fn mapped_bytes(&self) -> u64 {
        self.maps.iter().filter(|map| map.is_mapped()).map(|map| map.bytes().len() as u64).sum()
    }

    /// The bytes held in memory of our own: copies of files and of tensors that were not aligned, and replacements.
    pub fn copied_bytes(&self) -> u64 {
        let files = self.maps.iter().filter(|map| !map.is_mapped()).map(|map| map.bytes().len() as u64);
        let copies = self.copies.iter().map(|copy| copy.as_slice().len() as u64);
        let replacements = self.replacements.iter().map(|replacement| replacement.bytes.len() as u64);
        files.chain(copies).chain(replacements).sum()
    }
}

/// The index that opens a path, if the path is not a file of tensors itself.
fn index_path(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        return Some(path.join(INDEX_NAME));
    }
    map::file_name(path).ends_with(INDEX_SUFFIX).then(|| path.into())
}

/// The index of a set.
struct Index {
    description: String,
    metadata: BTreeMap<String, String>,
    /// The files in the order of their names, each with its tensors.
    shards: BTreeMap<String, std::collections::BTreeSet<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IndexJson {
    metadata: Tree<MAX_INDEX_METADATA>,
    weight_map: Tree<{ header::MAX_TENSORS }>,
}

impl Index {
    fn read(path: &Path, max_bytes: u64) -> Result<Self, Error> {
        let map = Map::open(path, Mode::Copy, max_bytes)?;
        let refuse = |kind, detail: Cow<'_, str>| Error::new(kind, map.name(), detail);
        let text = std::str::from_utf8(map.bytes()).map_err(|_| refuse(ErrorKind::Format, "is not UTF-8".into()))?;
        let Object(mut index) = json::read::<Object<IndexJson>>(text).map_err(|fault| {
            let colon = if fault.path.is_empty() { "" } else { ": " };
            refuse(ErrorKind::Format, format!("{}{colon}{}", fault.path, fault.detail).into())
        })?;
        let Some(Value::String(description)) = index.metadata.0.remove(header::DESCRIPTION_KEY) else {
            return Err(refuse(
                ErrorKind::Format,
                "has no description: `metadata` lacks the string `polyscore`".into(),
            ));
        };

        let mut shards = BTreeMap::<String, std::collections::BTreeSet<String>>::new();
        for (tensor, shard) in index.weight_map.0 {
            if !header::is_tensor_name(&tensor) || tensor.starts_with(header::PADDING_PREFIX) {
                let detail = format!("weight_map: {} is not a tensor name", json::quoted(&tensor));
                return Err(refuse(ErrorKind::Format, detail.into()));
            }
            let Value::String(shard) = shard else {
                return Err(refuse(ErrorKind::Format, format!("weight_map.{tensor}: is not a string").into()));
            };
            if !is_shard_name(&shard) {
                let detail =
                    format!("weight_map.{tensor}: {} is not a plain `.safetensors` name", json::quoted(&shard));
                return Err(refuse(ErrorKind::Format, detail.into()));
            }
            shards.entry(shard).or_default().insert(tensor);
            if shards.len() > MAX_SHARDS {
                return Err(refuse(ErrorKind::Limit, format!("lists more than {MAX_SHARDS} files").into()));
            }
        }
        let texts = index.metadata.0.into_iter().filter_map(|(key, value)| Some((key, value.as_str()?.to_owned())));
        Ok(Self { description, metadata: texts.collect(), shards })
    }
}

/// Whether a name leads to a file in the folder of the index and nowhere else.
fn is_shard_name(name: &str) -> bool {
    header::is_tensor_name(name) && !name.contains(['/', ':']) && !name.starts_with('.') && name.ends_with(SHARD_SUFFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opens a file of these tensors, side by side without padding, behind a header of `8 * k + skew - 8` bytes.
    fn open(test: &str, skew: usize, mode: Mode, tensors: &[(&str, &str, usize, &[u8])]) -> Store {
        let mut header = String::from("{\"__metadata__\":{\"polyscore\":\"{}\"}");
        let mut data = Vec::new();
        for (name, dtype, count, bytes) in tensors {
            let (begin, end) = (data.len(), data.len() + bytes.len());
            header +=
                &format!(",\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":[{count}],\"data_offsets\":[{begin},{end}]}}");
            data.extend_from_slice(bytes);
        }
        header.push('}');
        while header.len() % 8 != skew {
            header.push(' ');
        }
        let file = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat();
        let name = format!("polyscore-store-{test}-{}.safetensors", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, file).unwrap();
        let store = Store::open(&path, &StoreOptions { mode, ..StoreOptions::default() });
        std::fs::remove_file(&path).unwrap();
        store.unwrap()
    }

    #[test]
    fn what_is_not_aligned_to_its_elements_is_copied_once_and_counted() {
        let tensors: [(&str, &str, usize, &[u8]); 3] =
            [("wide", "I64", 1, &[1; 8]), ("half", "F16", 3, &[2; 6]), ("byte", "U8", 1, &[3])];
        for (skew, copied) in [(0, 0), (1, 14), (2, 8), (4, 8)] {
            for mode in [Mode::Map, Mode::Copy] {
                let store = open("aligned", skew, mode, &tensors);
                let files: usize = store.maps.iter().map(|map| map.bytes().len()).sum();
                let (mapped, owned) = if mode == Mode::Map { (files, 0) } else { (0, files) };
                assert_eq!(store.mapped_bytes(), mapped as u64);
                assert_eq!(store.copied_bytes(), (owned + copied) as u64, "{skew} {mode:?}");
                for (name, _, _, bytes) in tensors {
                    let tensor = store.tensor(store.find(name).unwrap());
                    assert_eq!(tensor.bytes, bytes);
                    assert_eq!(tensor.bytes.as_ptr() as usize % tensor.dtype.size(), 0);
                }
            }
        }
    }

    #[test]
    fn a_tensor_must_be_there_and_be_a_weight_of_that_shape() {
        let store = open("weight", 0, Mode::Copy, &[("w", "F32", 2, &[0; 8]), ("i", "I64", 1, &[0; 8])]);
        assert_eq!(store.weight("w", &[2]).unwrap(), store.find("w").unwrap());
        let error = |name, shape: &[usize]| store.weight(name, shape).unwrap_err().to_string();
        assert_eq!(error("v", &[2]), "v: is missing");
        assert_eq!(error("i", &[1]), "i: has type I64, expected F32, F16 or BF16");
        assert_eq!(error("w", &[2, 1]), "w: has shape [2], expected [2, 1]");
    }

    #[test]
    fn what_nobody_claims_is_refused_but_for_batch_counters() {
        let store =
            open("claimed", 0, Mode::Copy, &[("n.num_batches_tracked", "I64", 1, &[0; 8]), ("w", "U8", 1, &[0])]);
        store.check_claimed([store.find("w").unwrap()]).unwrap();
        let error = store.check_claimed([]).unwrap_err();
        assert_eq!(error.to_string(), "w: is not used by the features or the network");
    }

    #[test]
    fn a_shard_is_a_plain_name() {
        for name in ["model.safetensors", "model-00001-of-00002.safetensors"] {
            assert!(is_shard_name(name), "{name}");
        }
        for name in
            ["", ".safetensors", "a", "../a.safetensors", "a/b.safetensors", "C:a.safetensors", "a.safetensors "]
        {
            assert!(!is_shard_name(name), "{name}");
        }
    }
}
