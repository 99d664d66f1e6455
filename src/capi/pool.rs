//! `polyscore_pool`: threads that parallel scorers share, of its own or of the host.
//!
//! What the host's function is given to call with is a handle, not a pointer: a call of it after its time does nothing. And
//! its time is over only when every call of it has returned, also if the host's function returns early.

use super::error::{polyscore_error, polyscore_status};
use super::guard::{Failure, check_pointer, entry, read_struct, read_text};
use super::handle::{Pin, Table};
use super::model::object;
use crate::error::ErrorKind;
use crate::pool::{Executor, Pool};
use std::ffi::{c_char, c_void};
use std::sync::{Arc, Condvar, Mutex};

static POOLS: Table<Pool> = Table::new(3);
static JOBS: Table<Job> = Table::new(4);

/// Threads that parallel scorers share. Any number of threads, scorers and models may use it at the same time.
pub struct polyscore_pool {
    _opaque: (),
}

/// A task of a call: `task(context, index)`. It may be called on any thread.
pub type polyscore_task = Option<unsafe extern "C" fn(context: *mut c_void, index: usize)>;

/// A function of the host that runs tasks on its threads: calls `task(context, index)` once for every index below `tasks`, on
/// any threads, at the same time or not, in any order, and returns when all of these calls have returned. The thread that it
/// is called on may be one of them. It is called on every thread that scores, by several at the same time. It does not throw.
///
/// A task takes as much of the work as it can get: one that is started late finds less of it or nothing, and a host with
/// fewer threads than tasks loses nothing.
pub type polyscore_run =
    Option<unsafe extern "C" fn(executor: *mut c_void, tasks: usize, task: polyscore_task, context: *mut c_void)>;

/// What threads a pool has. All zero (but for `struct_size`) is the default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct polyscore_pool_options {
    /// `sizeof(polyscore_pool_options)`
    pub struct_size: u32,
    /// How many threads a call uses at most, the caller's among them: up to 256. 0: as many as the process may use by its
    /// affinity and its container's CPU quota.
    pub threads: u32,
    /// The threads are named name-1, name-2 and so on: 1 to 11 of ASCII letters, digits, `-`, `_` and `.`. NULL: polyscore.
    /// NULL if there is `run`.
    pub name: *const c_char,
    /// Runs tasks on the host's threads; the pool then makes none. NULL: threads of its own.
    pub run: polyscore_run,
    /// What `run` is given first. It stays good until the pool and all its scorers are closed.
    pub executor: *mut c_void,
}

/// The host's function, with what it is given first.
struct Host {
    run: unsafe extern "C" fn(*mut c_void, usize, polyscore_task, *mut c_void),
    executor: *mut c_void,
}

// SAFETY: the host promised that its function may be called on any thread, by several at the same time.
unsafe impl Send for Host {}
// SAFETY: as above.
unsafe impl Sync for Host {}

/// The tasks of one call.
struct Job {
    task: *const (dyn Fn(usize) + Sync),
    /// Set when no task runs any more and none can begin.
    is_over: Arc<(Mutex<bool>, Condvar)>,
}

// SAFETY: the task is `Sync`, and `Host::run` keeps it until the job is dropped.
unsafe impl Send for Job {}
// SAFETY: as above.
unsafe impl Sync for Job {}

impl Drop for Job {
    fn drop(&mut self) {
        let (is_over, change) = &*self.is_over;
        *is_over.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = true;
        change.notify_all();
    }
}

impl Executor for Host {
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let is_over = Arc::new((Mutex::new(false), Condvar::new()));
        let erased: *const (dyn Fn(usize) + Sync + '_) = task;
        // SAFETY: only the lifetime changes. The job is gone, and with it all that reaches the task, before this returns.
        let erased: *const (dyn Fn(usize) + Sync + 'static) = unsafe { std::mem::transmute(erased) };
        let Ok(handle) = JOBS.insert(Box::new(Job { task: erased, is_over: Arc::clone(&is_over) })) else {
            return (0..tasks).for_each(task);
        };
        // SAFETY: the host promised that its function may be called so, and does not unwind.
        unsafe { (self.run)(self.executor, tasks, Some(run_task), handle as *mut c_void) };
        // Nobody else closes the handle, so this drops the job, or leaves that to the last task that still runs.
        let _ = JOBS.close(handle);
        let (is_over, change) = &*is_over;
        let mut over = is_over.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        while !*over {
            over = change.wait(over).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }
}

/// # Safety
/// None: a context that is no job, or one that is over, does nothing.
unsafe extern "C" fn run_task(context: *mut c_void, index: usize) {
    if let Ok(pin) = JOBS.pin(context as usize)
        && let Some(job) = pin.get()
    {
        // SAFETY: pinned, so `Host::run` waits for this; the task does not panic.
        unsafe { (*job.task)(index) };
    }
}

/// Pins a pool for a call.
pub(super) fn pin(pool: *mut polyscore_pool) -> Result<Pin<'static, Pool>, Failure> {
    if pool.is_null() {
        return Err(Failure::new(ErrorKind::NullArgument, "pool", "is null"));
    }
    POOLS.pin(pool as usize)
}

/// # Safety
/// `options.name` is null or NUL-terminated.
unsafe fn make(options: &polyscore_pool_options) -> Result<Pool, Failure> {
    let threads = (options.threads != 0).then_some(options.threads as usize);
    let invalid = |field, message| Err(Failure::new(ErrorKind::InvalidArgument, field, message));
    Ok(match options.run {
        Some(_) if !options.name.is_null() => {
            return invalid("name", "is given, but the host's threads have their names");
        }
        Some(run) => Pool::over(Host { run, executor: options.executor }, threads)?,
        None if !options.executor.is_null() => return invalid("executor", "is given, but no `run`"),
        None if options.name.is_null() => Pool::new(threads, "polyscore")?,
        // SAFETY: not null, and the caller's promise.
        None => Pool::new(threads, unsafe { read_text(options.name, "name")? })?,
    })
}

/// Makes a pool; `options` may be NULL. Threads of its own sleep while there is nothing to do, and inherit the affinity of the
/// thread that makes them. A process that is forked gets threads of its own on its first parallel call.
///
/// On success `*out` is a handle, to be closed by `polyscore_pool_close`; on failure it is not written.
///
/// # Safety
/// Pointers are null or good for what they point to; sized structs are as large as they state.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn polyscore_pool_new(
    options: *const polyscore_pool_options,
    out: *mut *mut polyscore_pool,
    error: *mut polyscore_error,
) -> polyscore_status {
    let body = || {
        check_pointer(out, "out")?;
        // SAFETY: the caller's promise.
        let pool = unsafe {
            if options.is_null() { Pool::new(None, "polyscore")? } else { make(&read_struct(options, "options")?)? }
        };
        let handle = POOLS.insert(Box::new(pool))?;
        // SAFETY: checked above, and the caller's promise.
        unsafe { out.write(handle as *mut polyscore_pool) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { entry(error, body) }
}

/// Closes a pool. Its scorers stay usable; its threads end when the last of them is closed. NULL is a no-op.
#[unsafe(no_mangle)]
pub extern "C" fn polyscore_pool_close(pool: *mut polyscore_pool) -> polyscore_status {
    let body = || if pool.is_null() { Ok(()) } else { POOLS.close(pool as usize) };
    // SAFETY: no error struct.
    unsafe { entry(std::ptr::null_mut(), body) }
}

/// Writes how many threads a call uses at most, the caller's among them, to `threads`.
///
/// # Safety
/// Pointers are null or good for what they point to; sized structs are as large as they state.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn polyscore_pool_threads(
    pool: *mut polyscore_pool,
    threads: *mut u32,
    error: *mut polyscore_error,
) -> polyscore_status {
    let body = || {
        check_pointer(threads, "threads")?;
        let pin = pin(pool)?;
        let count = object(pin.get())?.threads() as u32;
        // SAFETY: checked above, and the caller's promise.
        unsafe { threads.write(count) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { entry(error, body) }
}
