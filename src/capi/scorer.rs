//! `polyscore_scorer`: prepare, score, count, close.

use super::POLYSCORE_SCENARIO_UNKNOWN;
use super::column::{bytes_of, polyscore_column, read_columns, refuse};
use super::error::{polyscore_error, polyscore_status};
use super::guard::{Failure, check_length, check_output, check_pointer, entry, read_slice, write_struct};
use super::handle::{Pin, Table};
use super::model::{object, pin as pin_model, polyscore_model};
use super::pool::{pin as pin_pool, polyscore_pool};
use crate::error::{Error, ErrorKind, Fault};
use crate::model::Model;
use crate::request::Column;
use crate::scorer::Scorer;

static SCORERS: Table<Prepared> = Table::new(2);

/// A scorer and room for the columns of a call.
struct Prepared {
    scorer: Scorer,
    /// Empty between calls.
    columns: Vec<Column<'static>>,
    tasks: usize,
}

/// One thread's scratch over a model. A second thread inside a call on the same scorer gets `POLYSCORE_BUSY`.
pub struct polyscore_scorer {
    _opaque: (),
}

/// What a scorer has seen since it was made.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct polyscore_counters {
    /// `sizeof(polyscore_counters)`
    pub struct_size: u32,
    /// Zero.
    pub reserved: u32,
    /// Requests prepared.
    pub requests: u64,
    /// Candidates scored, once per scenario that they were scored for.
    pub candidates: u64,
    /// Requests, and candidates and scenarios of calls that name scenarios themselves, whose scenario was unknown or not
    /// given.
    pub unknown_scenarios: u64,
    /// Scores that were not finite and were replaced by the fallback of their task.
    pub non_finite: u64,
    /// How often the values of a scenario were computed: not at all where the model keeps those of all scenarios.
    pub scenarios_folded: u64,
    /// Candidates with an item key whose row the item cache had.
    pub item_hits: u64,
    /// Candidates with an item key whose row it did not have.
    pub item_misses: u64,
}

/// What came in for one feature since the scorer was made.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct polyscore_feature_counters {
    /// `sizeof(polyscore_feature_counters)`
    pub struct_size: u32,
    /// Zero.
    pub reserved: u32,
    /// Values seen, missing ones included.
    pub values: u64,
    /// Values that no row was trained for.
    pub oov: u64,
    /// Values that were missing.
    pub missing: u64,
}

fn pin(scorer: *mut polyscore_scorer) -> Result<Pin<'static, Prepared>, Failure> {
    if scorer.is_null() {
        return Err(Failure::new(ErrorKind::NullArgument, "scorer", "is null"));
    }
    SCORERS.pin_exclusive(scorer as usize)
}

/// Makes a scorer with `make`, and room for the columns of its calls.
///
/// # Safety
/// As the functions below.
unsafe fn new(
    model: *mut polyscore_model,
    out: *mut *mut polyscore_scorer,
    make: impl FnOnce(&Model) -> Result<Scorer, Error>,
) -> Result<(), Failure> {
    check_pointer(out, "out")?;
    let pin = pin_model(model)?;
    let model = object(pin.get())?;
    let (features, tasks) = (model.description().features.len(), model.description().tasks.len());
    let mut columns = Vec::new();
    let full = |_| Failure::new(ErrorKind::OutOfMemory, "scorer", "room for its columns cannot be reserved");
    columns.try_reserve_exact(features + 1).map_err(full)?;
    let handle = SCORERS.insert(Box::new(Prepared { scorer: make(model)?, columns, tasks }))?;
    // SAFETY: checked above, and the caller's promise.
    unsafe { out.write(handle as *mut polyscore_scorer) };
    Ok(())
}

/// Makes a scorer with its scratch. It keeps the model's file open, also after the model is closed.
///
/// On success `*out` is a handle, to be closed by `polyscore_scorer_close`; on failure it is not written.
///
/// # Safety
/// Pointers are null or good for what they point to; sized structs are as large as they state.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn polyscore_scorer_new(
    model: *mut polyscore_model,
    out: *mut *mut polyscore_scorer,
    error: *mut polyscore_error,
) -> polyscore_status {
    // SAFETY: the caller's promise.
    unsafe { entry(error, || new(model, out, Model::scorer)) }
}

/// Makes a scorer whose calls are shared among the threads of `pool`; everything else is as for `polyscore_scorer_new`. It
/// keeps the pool's threads, also after the pool is closed.
///
/// A call of few candidates, or one that finds the pool busy, runs on its caller's thread; so does
/// `polyscore_scorer_prepare`. The scores have the same bits. It has scratch of its own and for each thread. A call allocates
/// a few words per thread, and room for its scores if there are more than in any call before; it fails with
/// `POLYSCORE_EXECUTOR`, and writes nothing, if the host's `run` does not run every task exactly once.
///
/// # Safety
/// Pointers are null or good for what they point to; sized structs are as large as they state.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn polyscore_scorer_new_parallel(
    model: *mut polyscore_model,
    pool: *mut polyscore_pool,
    out: *mut *mut polyscore_scorer,
    error: *mut polyscore_error,
) -> polyscore_status {
    let body = || {
        let pin = pin_pool(pool)?;
        let pool = object(pin.get())?;
        // SAFETY: the caller's promise.
        unsafe { new(model, out, |model| model.parallel_scorer(pool)) }
    };
    // SAFETY: the caller's promise.
    unsafe { entry(error, body) }
}

/// Closes a scorer. A call that another thread is inside of finishes first; later ones are `POLYSCORE_INVALID_HANDLE`.
/// NULL is a no-op.
#[unsafe(no_mangle)]
pub extern "C" fn polyscore_scorer_close(scorer: *mut polyscore_scorer) -> polyscore_status {
    let body = || if scorer.is_null() { Ok(()) } else { SCORERS.close(scorer as usize) };
    // SAFETY: no error struct.
    unsafe { entry(std::ptr::null_mut(), body) }
}

/// Takes a request: the index of its scenario, or `POLYSCORE_SCENARIO_UNKNOWN`, and its request columns of one row each.
///
/// On failure the scorer is unprepared: no request is scored with another's values. Does not allocate, lock or print.
///
/// # Safety
/// Pointers are null or good for what they point to; sized structs are as large as they state.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn polyscore_scorer_prepare(
    scorer: *mut polyscore_scorer,
    scenario: u32,
    columns: *const polyscore_column,
    columns_len: usize,
    error: *mut polyscore_error,
) -> polyscore_status {
    let body = || {
        let mut pin = pin(scorer)?;
        let Prepared { scorer, columns: views, .. } = object(pin.get_mut())?;
        scorer.forget();
        // SAFETY: the caller's promise; the views are cleared below.
        unsafe { read_columns(columns, columns_len, &(0..0), views)? };
        let scenario = (scenario != POLYSCORE_SCENARIO_UNKNOWN).then_some(scenario);
        let prepared = scorer.prepare(scenario, views);
        views.clear();
        prepared.map_err(|fault| explain(scorer, fault))
    };
    // SAFETY: the caller's promise.
    unsafe { entry(error, body) }
}

/// The scenarios of a call, and where they are.
#[derive(Clone, Copy)]
enum Scenarios {
    /// That of the request.
    Prepared,
    /// One per candidate.
    Mixed(*const u32),
    /// Each of so many, for every candidate.
    Each(*const u32, usize),
}

/// What the functions that score are given.
struct Given {
    candidates: usize,
    scenarios: Scenarios,
    columns: *const polyscore_column,
    columns_len: usize,
    tasks: *const u32,
    tasks_len: usize,
    out: *mut f32,
    out_len: usize,
}

/// Checks what was given, scores, and writes `out`.
///
/// # Safety
/// As the functions below.
unsafe fn score(scorer: *mut polyscore_scorer, given: &Given, error: *mut polyscore_error) -> polyscore_status {
    let Given { candidates, scenarios, columns, columns_len, tasks, tasks_len, out, out_len } = *given;
    let body = || {
        let mut pin = pin(scorer)?;
        let Prepared { scorer, columns: views, tasks: known } = object(pin.get_mut())?;
        // SAFETY: the caller's promise.
        let tasks = unsafe { read_slice(tasks, tasks_len, "tasks")? };
        let tasks = if tasks.is_empty() { None } else { Some(tasks) };
        let asked = tasks.map_or(*known, <[u32]>::len);
        let repeats = if let Scenarios::Each(_, length) = scenarios { length } else { 1 };
        let too_small = || {
            let message = match scenarios {
                Scenarios::Each(..) => "is smaller than scenarios x tasks x candidates",
                _ => "is smaller than tasks x candidates",
            };
            Failure::new(ErrorKind::BufferTooSmall, "out", message)
        };
        let needed = candidates.checked_mul(asked).and_then(|needed| needed.checked_mul(repeats));
        let needed = needed.filter(|needed| *needed <= out_len).ok_or_else(too_small)?;
        check_length::<f32>(needed, "out")?;
        if needed > 0 {
            check_pointer(out, "out")?;
        }
        // SAFETY: the caller's promise.
        let rows = unsafe {
            match scenarios {
                Scenarios::Prepared => &[],
                Scenarios::Mixed(scenarios) => read_slice(scenarios, candidates, "scenarios")?,
                Scenarios::Each(scenarios, length) => read_slice(scenarios, length, "scenarios")?,
            }
        };
        let output = if needed > 0 { bytes_of(out, needed) } else { 0..0 };
        for input in [tasks.unwrap_or_default(), rows] {
            refuse(&bytes_of(input.as_ptr(), input.len()), &output)?;
        }
        // SAFETY: the caller's promise; the views are cleared below.
        unsafe { read_columns(columns, columns_len, &output, views)? };
        let out = match needed {
            0 => &mut [][..],
            // SAFETY: not null, aligned, of a possible length, and no input overlaps it: checked above.
            needed => unsafe { std::slice::from_raw_parts_mut(out, needed) },
        };
        let scored = match scenarios {
            Scenarios::Prepared => scorer.score(candidates, views, tasks, out),
            Scenarios::Mixed(_) => scorer.score_mixed(candidates, rows, views, tasks, out),
            Scenarios::Each(..) => scorer.score_each(candidates, rows, views, tasks, out),
        };
        views.clear();
        scored.map_err(|fault| explain(scorer, fault))
    };
    // SAFETY: the caller's promise.
    unsafe { entry(error, body) }
}

/// Scores `candidates` candidates, whose columns have that many rows, for the tasks asked for: by index, all if `tasks_len`
/// is 0.
///
/// Writes `out[t * candidates + i]`, the probability of candidate `i` for the `t`-th task asked for; `out_len` is at least
/// that many floats. `out` may overlap no input. On failure nothing is written. Does not allocate, lock or print, but for what
/// `polyscore_scorer_new_parallel` says.
///
/// # Safety
/// Pointers are null or good for what they point to; sized structs are as large as they state.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn polyscore_scorer_score(
    scorer: *mut polyscore_scorer,
    candidates: usize,
    columns: *const polyscore_column,
    columns_len: usize,
    tasks: *const u32,
    tasks_len: usize,
    out: *mut f32,
    out_len: usize,
    error: *mut polyscore_error,
) -> polyscore_status {
    let scenarios = Scenarios::Prepared;
    let given = Given { candidates, scenarios, columns, columns_len, tasks, tasks_len, out, out_len };
    // SAFETY: the caller's promise.
    unsafe { score(scorer, &given, error) }
}

/// Scores as `polyscore_scorer_score`, but each candidate for a scenario of its own: that of index `scenarios[i]`, of which
/// there are as many as candidates. `POLYSCORE_SCENARIO_UNKNOWN`, as any index that is none, uses the fallback scenario and
/// is counted. The scenario that `polyscore_scorer_prepare` took stays that of the request.
///
/// # Safety
/// Pointers are null or good for what they point to; sized structs are as large as they state.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn polyscore_scorer_score_mixed(
    scorer: *mut polyscore_scorer,
    candidates: usize,
    scenarios: *const u32,
    columns: *const polyscore_column,
    columns_len: usize,
    tasks: *const u32,
    tasks_len: usize,
    out: *mut f32,
    out_len: usize,
    error: *mut polyscore_error,
) -> polyscore_status {
    let scenarios = Scenarios::Mixed(scenarios);
    let given = Given { candidates, scenarios, columns, columns_len, tasks, tasks_len, out, out_len };
    // SAFETY: the caller's promise.
    unsafe { score(scorer, &given, error) }
}

/// Scores as `polyscore_scorer_score`, but every candidate for every one of `scenarios_len` scenarios, by index. What does
/// not depend on the scenario is computed once per candidate.
///
/// Writes `out[(s * tasks + t) * candidates + i]`, the probability of candidate `i` for the `t`-th task asked for in the
/// `s`-th scenario, where `tasks` is how many tasks are asked for. Unknown scenarios are as for
/// `polyscore_scorer_score_mixed`.
///
/// # Safety
/// Pointers are null or good for what they point to; sized structs are as large as they state.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn polyscore_scorer_score_each(
    scorer: *mut polyscore_scorer,
    candidates: usize,
    scenarios: *const u32,
    scenarios_len: usize,
    columns: *const polyscore_column,
    columns_len: usize,
    tasks: *const u32,
    tasks_len: usize,
    out: *mut f32,
    out_len: usize,
    error: *mut polyscore_error,
) -> polyscore_status {
    let scenarios = Scenarios::Each(scenarios, scenarios_len);
    let given = Given { candidates, scenarios, columns, columns_len, tasks, tasks_len, out, out_len };
    // SAFETY: the caller's promise.
    unsafe { score(scorer, &given, error) }
}

/// Writes the counters of a scorer to `out`.
///
/// # Safety
/// Pointers are null or good for what they point to; sized structs are as large as they state.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn polyscore_scorer_counters(
    scorer: *mut polyscore_scorer,
    out: *mut polyscore_counters,
    error: *mut polyscore_error,
) -> polyscore_status {
    let body = || {
        // SAFETY: the caller's promise.
        unsafe { check_output(out, "out", false)? };
        let pin = pin(scorer)?;
        let counters = object(pin.get())?.scorer.counters();
        let value = polyscore_counters {
            struct_size: 0,
            reserved: 0,
            requests: counters.requests,
            candidates: counters.candidates,
            unknown_scenarios: counters.unknown_scenarios,
            non_finite: counters.non_finite,
            scenarios_folded: counters.scenarios_folded,
            item_hits: counters.item_hits,
            item_misses: counters.item_misses,
        };
        // SAFETY: checked above.
        unsafe { write_struct(out, value) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { entry(error, body) }
}

/// Writes the counters of the feature of a slot to `out`.
///
/// # Safety
/// Pointers are null or good for what they point to; sized structs are as large as they state.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn polyscore_scorer_feature_counters(
    scorer: *mut polyscore_scorer,
    slot: u32,
    out: *mut polyscore_feature_counters,
    error: *mut polyscore_error,
) -> polyscore_status {
    let body = || {
        // SAFETY: the caller's promise.
        unsafe { check_output(out, "out", false)? };
        let pin = pin(scorer)?;
        let unknown = || Failure::new(ErrorKind::UnknownFeature, "slot", "is not a slot of the model");
        let feature = *object(pin.get())?.scorer.counters().features.get(slot as usize).ok_or_else(unknown)?;
        let (values, oov, missing) = (feature.values, feature.oov, feature.missing);
        let value = polyscore_feature_counters { struct_size: 0, reserved: 0, values, oov, missing };
        // SAFETY: checked above.
        unsafe { write_struct(out, value) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { entry(error, body) }
}

fn explain(scorer: &Scorer, fault: Fault) -> Failure {
    scorer.explain(fault).into()
}
