//! `polyscore_model`: open, ask, close.

use super::POLYSCORE_SCENARIO_UNKNOWN;
use super::error::{polyscore_error, polyscore_status};
use super::guard::{Failure, check_output, check_pointer, entry, read_struct, read_text, write_struct, write_text};
use super::handle::{Pin, Table};
use crate::error::{Error, ErrorKind};
use crate::format::{FeatureKind, Mode, Rate, ValueKind};
use crate::model::{KeptScenarios, Model, OpenOptions};
use crate::plan::{ItemRows, Precision};
use std::ffi::c_char;

static MODELS: Table<Model> = Table::new(1);

/// An open model. Any number of threads may use it at the same time.
pub struct polyscore_model {
    _opaque: (),
}

/// How to open a model. All zero (but for `struct_size`) is the default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct polyscore_open_options {
    /// `sizeof(polyscore_open_options)`
    pub struct_size: u32,
    /// How the file is held. 0: mapped, tables are read in place. 1: a private snapshot. 2: a copy in memory.
    pub mode: u32,
    /// The type in which dense weights are held. 0: as stored. 1: f32. 2: f16. 3: bf16. 4: int12. 5: int8. 6: for each layer
    /// the fastest with which scores stay within `max_error`, or 1e-3, of those in f32, all but one in a million by the errors
    /// of the golden scores; opening takes longer. 7: int16.
    pub precision: u32,
    /// 1 keeps request-constant work in `score`; the scores have the same bits. 0 hoists it into `prepare`.
    pub no_split: u32,
    /// Candidates per tile; 0 chooses; with an item cache at most 256.
    pub tile: u32,
    /// The type of the rows of the item cache. 0: f32, scores have the bits that they have without a cache; there is none where a
    /// measurement at open finds that loading rows takes longer than computing them. 3: f32 without that measurement. 1: f16, 2:
    /// int8: the values of every candidate are rounded, with a key or without, and the golden scores show the error.
    pub item_rows: u32,
    /// The kernel set: "scalar", "portable", "avx2", "avx512", "avx512bf16", "amx" or "neon". NULL: `POLYSCORE_ISA` of the environment, else the best of the CPU.
    pub isa: *const c_char,
    /// The largest difference from the golden scores that is accepted. 0: the tolerance of the file, or for other
    /// types than f32 what these usually need.
    pub max_error: f64,
    /// The largest model in bytes. 0: 1 TiB.
    pub max_bytes: u64,
    /// Bytes for values that depend on the scenario alone. 0: 64 MiB. If those of all scenarios fit, the model keeps them
    /// for all scorers; if not, each scorer keeps, within this budget, those it used last. 1 keeps none.
    pub scenario_bytes: u64,
    /// Bytes for product tables: of single ids of the request with few rows, the share that each row has in the first layers is
    /// computed at open. They save reading the weights of these fields, and change scores by what f32 sums round. 0: 16 MiB.
    /// 1 makes none.
    pub product_bytes: u64,
    /// Bytes for the item cache: what depends on an ad alone, and not on the scenario, is kept across requests under the keys that
    /// calls bring in a column `POLYSCORE_ITEM_KEY`. All scorers of the model share it. 0: there is none.
    pub item_bytes: u64,
}

/// What a model is.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct polyscore_model_info {
    /// `sizeof(polyscore_model_info)`
    pub struct_size: u32,
    /// How many features there are.
    pub features: u32,
    /// How many tasks there are.
    pub tasks: u32,
    /// How many scenarios there are.
    pub scenarios: u32,
    /// Candidates per tile.
    pub tile: u32,
    /// Zero.
    pub reserved: u32,
    /// Bytes of files that are mapped.
    pub mapped_bytes: u64,
    /// Bytes copied: snapshots, copies, and tensors that a file has unaligned.
    pub copied_bytes: u64,
    /// Bytes of packed dense weights, but for those that a file of packed layers holds.
    pub packed_bytes: u64,
    /// Bytes that each scorer owns.
    pub scratch_bytes: u64,
    /// Golden requests replayed at open.
    pub golden_requests: u32,
    /// Golden scores compared at open.
    pub golden_scores: u32,
    /// Their largest difference from the recorded scores.
    pub golden_error: f64,
    /// The kernel set.
    pub isa: [c_char; 16],
    /// The name of the model; empty if it has none.
    pub name: [c_char; 128],
    /// Bytes kept for the model: values that depend on it alone.
    pub model_bytes: u64,
    /// Bytes that the model keeps for its scenarios; 0 where each scorer keeps its own.
    pub scenario_bytes: u64,
    /// How many scenarios' values are kept: all of them by the model, or this many by each scorer.
    pub kept_scenarios: u32,
    /// 1 if each scorer keeps those of the scenarios it used last; 0 if the model keeps all of them.
    pub kept_per_scorer: u32,
    /// Bytes of product tables.
    pub product_bytes: u64,
    /// Bytes of the item cache.
    pub item_bytes: u64,
    /// How many candidates the item cache has room for.
    pub item_room: u64,
}

/// What a feature takes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct polyscore_feature_info {
    /// `sizeof(polyscore_feature_info)`
    pub struct_size: u32,
    /// 1: request, given to `prepare`. 2: item, 3: pair, both given to `score`.
    pub rate: u32,
    /// 1: one id a row. 2: a bag of ids a row, with `row_offsets`. 3: dense. 4: a sequence of ids, with `row_offsets`.
    pub kind: u32,
    /// The column type: 1 integers (`_I64` or `_I32`), 3 `_F32`, 4 `_TEXT`, 5 integers or text.
    pub value: u32,
    /// Values a row: the width of a dense feature, the ids of an id feature, else 1.
    pub width: u32,
    /// 1 if the column may be left out: then all its values are missing.
    pub optional: u32,
    /// The name.
    pub name: [c_char; 72],
}

/// What a task is.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct polyscore_task_info {
    /// `sizeof(polyscore_task_info)`
    pub struct_size: u32,
    /// 1 if its score is the product of other tasks' probabilities.
    pub composed: u32,
    /// The score written where the network gives a value that is not finite.
    pub fallback: f32,
    /// The name.
    pub name: [c_char; 72],
}

/// What a scenario is.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct polyscore_scenario_info {
    /// `sizeof(polyscore_scenario_info)`
    pub struct_size: u32,
    /// The row of the scenario tensors that it uses; that of its fallback, if it has one.
    pub row: u32,
    /// The number by which hosts know it.
    pub id: i64,
    /// The name.
    pub name: [c_char; 72],
}

/// Pins a model for a call.
pub(super) fn pin(model: *mut polyscore_model) -> Result<Pin<'static, Model>, Failure> {
    if model.is_null() {
        return Err(Failure::new(ErrorKind::NullArgument, "model", "is null"));
    }
    MODELS.pin(model as usize)
}

/// The object of a pin: it is there as long as the pin is.
pub(super) fn object<T>(object: Option<T>) -> Result<T, Failure> {
    object.ok_or_else(|| Failure::new(ErrorKind::Internal, "handle", "has no object"))
}

fn options(given: Option<polyscore_open_options>) -> Result<OpenOptions, Failure> {
    let mut options = OpenOptions::default();
    let Some(given) = given else {
        return Ok(options);
    };
    let invalid = |field| Err(Failure::new(ErrorKind::InvalidArgument, field, "has a value that is not known"));
    options.mode = match given.mode {
        0 => Mode::Map,
        1 => Mode::Snapshot,
        2 => Mode::Copy,
        _ => return invalid("mode"),
    };
    options.precision = match given.precision {
        0 => None,
        1 => Some(Precision::F32),
        2 => Some(Precision::F16),
        3 => Some(Precision::Bf16),
        4 => Some(Precision::Int12),
        5 => Some(Precision::Int8),
        6 => {
            options.auto = true;
            None
        }
        7 => Some(Precision::Int16),
        _ => return invalid("precision"),
    };
    options.split = match given.no_split {
        0 => true,
        1 => false,
        _ => return invalid("no_split"),
    };
    options.item_always = given.item_rows == 3;
    options.item_rows = match given.item_rows {
        0 | 3 => ItemRows::F32,
        1 => ItemRows::F16,
        2 => ItemRows::Int8,
        _ => return invalid("item_rows"),
    };
    options.item_bytes = usize::try_from(given.item_bytes).unwrap_or(usize::MAX);
    options.tile = given.tile as usize;
    if !given.isa.is_null() {
        // SAFETY: not null; a NUL-terminated text by the contract of the struct.
        options.isa = Some(unsafe { read_text(given.isa, "isa")? }.to_owned());
    }
    options.max_error = match given.max_error {
        0.0 => None,
        error if error > 0.0 && error.is_finite() => Some(error),
        _ => return invalid("max_error"),
    };
    if given.max_bytes != 0 {
        options.max_bytes = given.max_bytes;
    }
    if given.scenario_bytes != 0 {
        options.scenario_bytes = usize::try_from(given.scenario_bytes).unwrap_or(usize::MAX);
    }
    if given.product_bytes != 0 {
        options.product_bytes = usize::try_from(given.product_bytes).unwrap_or(usize::MAX);
    }
    Ok(options)
}

/// Opens a `.safetensors` file, or a sharded set by its `.safetensors.index.json`: checks it whole, packs its weights and
/// replays its golden requests.
///
/// `path` is NUL-terminated UTF-8; `options` may be NULL. On success `*out` is a handle, to be closed by
/// `polyscore_model_close`; on failure it is not written.
///
/// # Safety
/// Pointers are null or good for what they point to; sized structs are as large as they state.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn polyscore_model_open(
    path: *const c_char,
    options: *const polyscore_open_options,
    out: *mut *mut polyscore_model,
    error: *mut polyscore_error,
) -> polyscore_status {
    let body = || {
        // SAFETY: the caller's promise.
        unsafe {
            let path = read_text(path, "path")?;
            let given = if options.is_null() { None } else { Some(read_struct(options, "options")?) };
            check_pointer(out, "out")?;
            let model = Model::open(path, &self::options(given)?)?;
            out.write(MODELS.insert(Box::new(model))? as *mut polyscore_model);
        }
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { entry(error, body) }
}

/// Closes a model. Its scorers stay usable, and keep the file open until they are closed. NULL is a no-op.
#[unsafe(no_mangle)]
pub extern "C" fn polyscore_model_close(model: *mut polyscore_model) -> polyscore_status {
    let body = || if model.is_null() { Ok(()) } else { MODELS.close(model as usize) };
    // SAFETY: no error struct.
    unsafe { entry(std::ptr::null_mut(), body) }
}

/// Runs `make` on the model and writes what it gives to `out`.
///
/// # Safety
/// As the functions below.
unsafe fn ask<T: super::guard::Sized>(
    model: *mut polyscore_model,
    out: *mut T,
    error: *mut polyscore_error,
    make: impl FnOnce(&Model) -> Result<T, Failure>,
) -> polyscore_status {
    let body = || {
        // SAFETY: the caller's promise.
        unsafe {
            check_output(out, "out", false)?;
            let pin = pin(model)?;
            let value = make(object(pin.get())?)?;
            write_struct(out, value);
        }
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { entry(error, body) }
}

/// Runs `find` on the model with a text, and writes the number that it gives to `out`.
///
/// # Safety
/// As the functions below.
unsafe fn find(
    model: *mut polyscore_model,
    name: *const c_char,
    out: *mut u32,
    error: *mut polyscore_error,
    find: impl FnOnce(&Model, &str) -> Result<u32, Failure>,
) -> polyscore_status {
    let body = || {
        // SAFETY: the caller's promise.
        unsafe {
            check_pointer(out, "out")?;
            let name = read_text(name, "name")?;
            let pin = pin(model)?;
            out.write(find(object(pin.get())?, name)?);
        }
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { entry(error, body) }
}

/// Writes a text with its NUL to `buffer`, and its length without it to `length`.
///
/// # Safety
/// As the functions below.
unsafe fn describe(
    model: *mut polyscore_model,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
    error: *mut polyscore_error,
    make: impl FnOnce(&Model) -> String,
) -> polyscore_status {
    let body = || {
        check_pointer(length, "length")?;
        if capacity > 0 {
            check_pointer(buffer, "buffer")?;
        }
        let pin = pin(model)?;
        let text = make(object(pin.get())?);
        // SAFETY: checked above, and the caller's promise.
        unsafe {
            length.write(text.len());
            if capacity <= text.len() {
                let message = "is smaller than the text and its NUL; `length` says how long the text is";
                return Err(Failure::new(ErrorKind::BufferTooSmall, "buffer", message));
            }
            std::ptr::copy_nonoverlapping(text.as_ptr().cast(), buffer, text.len());
            buffer.add(text.len()).write(0);
        }
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { entry(error, body) }
}

/// Writes what the model is to `out`.
///
/// # Safety
/// Pointers are null or good for what they point to; sized structs are as large as they state.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn polyscore_model_info_get(
    model: *mut polyscore_model,
    out: *mut polyscore_model_info,
    error: *mut polyscore_error,
) -> polyscore_status {
    let make = |model: &Model| {
        let (description, footprint) = (model.description(), model.footprint());
        let (kept_scenarios, kept_per_scorer) = match model.kept_scenarios() {
            KeptScenarios::All(count) => (count as u32, 0),
            KeptScenarios::PerScorer(count) => (count as u32, 1),
        };
        let mut info = polyscore_model_info {
            struct_size: 0,
            features: description.features.len() as u32,
            tasks: description.tasks.len() as u32,
            scenarios: description.scenarios.len() as u32,
            tile: model.plan().tile() as u32,
            reserved: 0,
            mapped_bytes: footprint.mapped_bytes,
            copied_bytes: footprint.copied_bytes,
            packed_bytes: footprint.packed_bytes,
            scratch_bytes: footprint.scratch_bytes,
            golden_requests: model.golden().map_or(0, |golden| golden.requests as u32),
            golden_scores: model.golden().map_or(0, |golden| golden.scores as u32),
            golden_error: model.golden().map_or(0.0, |golden| golden.max_error),
            isa: [0; 16],
            name: [0; 128],
            model_bytes: footprint.model_bytes,
            scenario_bytes: footprint.scenario_bytes,
            kept_scenarios,
            kept_per_scorer,
            product_bytes: footprint.product_bytes,
            item_bytes: footprint.item_bytes,
            item_room: footprint.item_room,
        };
        write_text(&mut info.isa, model.plan().isa());
        write_text(&mut info.name, description.name.as_deref().unwrap_or_default());
        Ok(info)
    };
    // SAFETY: the caller's promise.
    unsafe { ask(model, out, error, make) }
}

/// Writes what the feature of a slot takes to `out`.
///
/// # Safety
/// Pointers are null or good for what they point to; sized structs are as large as they state.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn polyscore_model_feature(
    model: *mut polyscore_model,
    slot: u32,
    out: *mut polyscore_feature_info,
    error: *mut polyscore_error,
) -> polyscore_status {
    let make = |model: &Model| {
        let unknown = || Failure::new(ErrorKind::UnknownFeature, "slot", "is not a slot of the model");
        let feature = model.description().features.get(slot as usize).ok_or_else(unknown)?;
        let mut info = polyscore_feature_info {
            struct_size: 0,
            rate: match feature.rate {
                Rate::Request => 1,
                Rate::Item => 2,
                Rate::Pair => 3,
            },
            kind: match feature.kind {
                FeatureKind::Id { .. } => 1,
                FeatureKind::Ids { .. } => 2,
                FeatureKind::Dense(_) => 3,
                FeatureKind::Sequence { .. } => 4,
            },
            value: match feature.value_kind() {
                ValueKind::Integer => 1,
                ValueKind::Number => 3,
                ValueKind::Text => 4,
                ValueKind::IntegerOrText => 5,
            },
            width: feature.width() as u32,
            optional: u32::from(feature.is_optional()),
            name: [0; 72],
        };
        write_text(&mut info.name, &feature.name);
        Ok(info)
    };
    // SAFETY: the caller's promise.
    unsafe { ask(model, out, error, make) }
}

/// Writes the slot of the feature of that name to `slot`. Do it once per model: slots belong to the model.
///
/// # Safety
/// Pointers are null or good for what they point to; `name` is NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn polyscore_model_find_feature(
    model: *mut polyscore_model,
    name: *const c_char,
    slot: *mut u32,
    error: *mut polyscore_error,
) -> polyscore_status {
    let by_name = |model: &Model, name: &str| {
        model.feature(name).ok_or_else(|| Failure {
            kind: ErrorKind::UnknownFeature,
            subject: format!("feature `{name}`").into(),
            message: "is not a feature of the model".into(),
        })
    };
    // SAFETY: the caller's promise.
    unsafe { find(model, name, slot, error, by_name) }
}

/// Writes what the task of an index is to `out`.
///
/// # Safety
/// Pointers are null or good for what they point to; sized structs are as large as they state.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn polyscore_model_task(
    model: *mut polyscore_model,
    index: u32,
    out: *mut polyscore_task_info,
    error: *mut polyscore_error,
) -> polyscore_status {
    let make = |model: &Model| {
        let unknown = || Failure::new(ErrorKind::UnknownTask, "index", "is not a task of the model");
        let task = model.description().tasks.get(index as usize).ok_or_else(unknown)?;
        let composed = u32::from(task.composition.is_some());
        let mut info = polyscore_task_info { struct_size: 0, composed, fallback: task.fallback, name: [0; 72] };
        write_text(&mut info.name, &task.name);
        Ok(info)
    };
    // SAFETY: the caller's promise.
    unsafe { ask(model, out, error, make) }
}

/// Writes the index of the task of that name to `index`.
///
/// # Safety
/// Pointers are null or good for what they point to; `name` is NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn polyscore_model_find_task(
    model: *mut polyscore_model,
    name: *const c_char,
    index: *mut u32,
    error: *mut polyscore_error,
) -> polyscore_status {
    let by_name = |model: &Model, name: &str| {
        model.task(name).ok_or_else(|| Failure {
            kind: ErrorKind::UnknownTask,
            subject: format!("task `{name}`").into(),
            message: "is not a task of the model".into(),
        })
    };
    // SAFETY: the caller's promise.
    unsafe { find(model, name, index, error, by_name) }
}

/// Writes what the scenario of an index is to `out`.
///
/// # Safety
/// Pointers are null or good for what they point to; sized structs are as large as they state.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn polyscore_model_scenario(
    model: *mut polyscore_model,
    index: u32,
    out: *mut polyscore_scenario_info,
    error: *mut polyscore_error,
) -> polyscore_status {
    let make = |model: &Model| {
        let unknown = || Failure::new(ErrorKind::InvalidArgument, "index", "is not a scenario of the model");
        let scenario = model.description().scenarios.get(index as usize).ok_or_else(unknown)?;
        let mut info = polyscore_scenario_info { struct_size: 0, row: scenario.row, id: scenario.id, name: [0; 72] };
        write_text(&mut info.name, &scenario.name);
        Ok(info)
    };
    // SAFETY: the caller's promise.
    unsafe { ask(model, out, error, make) }
}

/// Writes the index of the scenario of that name to `index`; for a name that the model does not know, succeeds with
/// `POLYSCORE_SCENARIO_UNKNOWN`, which `prepare` sends to the fallback scenario and counts.
///
/// # Safety
/// Pointers are null or good for what they point to; `name` is NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn polyscore_model_find_scenario(
    model: *mut polyscore_model,
    name: *const c_char,
    index: *mut u32,
    error: *mut polyscore_error,
) -> polyscore_status {
    let by_name = |model: &Model, name: &str| Ok(model.scenario(name).unwrap_or(POLYSCORE_SCENARIO_UNKNOWN));
    // SAFETY: the caller's promise.
    unsafe { find(model, name, index, error, by_name) }
}

/// Writes the index of the scenario that hosts know by `id`, as `polyscore_model_find_scenario` does.
///
/// # Safety
/// Pointers are null or good for what they point to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn polyscore_model_find_scenario_id(
    model: *mut polyscore_model,
    id: i64,
    index: *mut u32,
    error: *mut polyscore_error,
) -> polyscore_status {
    let body = || {
        check_pointer(index, "index")?;
        let pin = pin(model)?;
        let found = object(pin.get())?.scenario_by_id(id).unwrap_or(POLYSCORE_SCENARIO_UNKNOWN);
        // SAFETY: checked above, and the caller's promise.
        unsafe { index.write(found) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { entry(error, body) }
}

/// Writes the model as the file `path`, with every dense layer as this model reads it: who opens that file with the same options
/// maps these layers and packs nothing at open. The file gets its name once it is complete. Scores are the same.
///
/// # Safety
/// Pointers are null or good for what they point to; `path` is NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn polyscore_model_write_packed(
    model: *mut polyscore_model,
    path: *const c_char,
    error: *mut polyscore_error,
) -> polyscore_status {
    let body = || {
        // SAFETY: the caller's promise.
        let path = unsafe { read_text(path, "path") }?;
        let pin = pin(model)?;
        object(pin.get())?.write_packed(path, |_| Ok::<(), Error>(()))?;
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { entry(error, body) }
}

/// Writes the plan as a table to `buffer`, with its NUL, and its length without it to `length`. If `capacity` is too small,
/// `POLYSCORE_BUFFER_TOO_SMALL` writes `length` only.
///
/// # Safety
/// Pointers are null or good for what they point to; `buffer` for `capacity` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn polyscore_model_plan(
    model: *mut polyscore_model,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
    error: *mut polyscore_error,
) -> polyscore_status {
    // SAFETY: the caller's promise.
    unsafe { describe(model, buffer, capacity, length, error, |model| model.plan().to_string()) }
}

/// Writes the description of the model, a JSON text, as `polyscore_model_plan` writes the plan.
///
/// # Safety
/// Pointers are null or good for what they point to; `buffer` for `capacity` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn polyscore_model_description(
    model: *mut polyscore_model,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
    error: *mut polyscore_error,
) -> polyscore_status {
    // SAFETY: the caller's promise.
    unsafe { describe(model, buffer, capacity, length, error, |model| model.description_json().to_owned()) }
}
