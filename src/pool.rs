//! Threads that share the work of one call: a pool's own, made by rayon, or the host's, reached by a callback.
//!
//! A call is divided into pieces, which its threads take one after the other from a counter; so a slow thread takes fewer of
//! them. The caller's thread is one of them.
//!
//! Own threads are lent, not queued for: a call takes as many as are idle now and does the rest itself. So calls that come
//! while the pool is busy run as serial ones do, and none waits for the work of another. It does wait until each thread that it
//! took has run, since what they work on is borrowed; where the machine has no core for a thread, that takes as long as it does.
//!
//! A process that was forked has none of its parent's threads. It is known by its id, and gets threads of its own on the
//! first call in it. Nothing waits on that way: a thread that finds another one making them runs its call alone.

use crate::error::{Error, ErrorKind, Fault, Subject};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// The most threads of one call, the caller's among them.
pub const MAX_THREADS: usize = 256;

/// The longest name, in bytes: with `-` and a number it is as long as Linux lets the name of a thread be.
const MAX_NAME: usize = 11;

/// Threads of the host.
pub trait Executor: Send + Sync {
    /// Calls `task(index)` once for every index below `tasks`, on any threads, at the same time or not, in any order, and
    /// returns when all of these calls have returned. The thread that calls `run` may be one of them.
    ///
    /// A task takes as much of the work as it can get. So one that is started late finds less of it or nothing, and an
    /// executor with fewer threads than tasks loses nothing.
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync));
}

/// Threads that scorers share: see [`crate::Model::parallel_scorer`]. Cloning shares them too, across models and threads.
///
/// A call takes threads that are idle, and waits for those that it took: so a pool is for machines with cores to spare. Its own
/// threads sleep while there is nothing to do. They end when the last clone and the last scorer of the pool are gone.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    threads: usize,
    source: Source,
}

enum Source {
    Own { name: String, first: Option<Helpers> },
    Host(Box<dyn Executor>),
}

/// The threads of one process.
struct Helpers {
    process: u32,
    /// `None` only while this is dropped.
    threads: Option<ThreadPool>,
    idle: AtomicUsize,
    /// The process that makes those of the next one, or made them; 0: none.
    maker: AtomicU32,
    /// Those of a process that was forked from this one.
    next: OnceLock<Box<Helpers>>,
}

impl Pool {
    /// A pool of its own threads, for calls on up to `threads` threads: the caller's, and one fewer that are made here.
    /// `None`: as many as the process may use by its affinity and its container's CPU quota, at most [`MAX_THREADS`].
    ///
    /// The threads are named `name-1`, `name-2` and so on. They inherit the affinity of the thread that makes the pool: make
    /// it before that is pinned to a core.
    ///
    /// # Errors
    /// `InvalidArgument` for no threads or more than [`MAX_THREADS`], and for a name that is empty, longer than 11 bytes, or
    /// has other characters than ASCII letters, digits, `-`, `_` and `.`; `Io` if the system refuses a thread.
    pub fn new(threads: Option<usize>, name: &str) -> Result<Pool, Error> {
        let threads = count(threads)?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_plain) {
            let detail = format!("`{name}` is not 1 to {MAX_NAME} of ASCII letters, digits, `-`, `_` and `.`");
            return Err(Error::new(ErrorKind::InvalidArgument, "name", detail));
        }
        let first = if threads > 1 { Some(Helpers::new(threads - 1, name)?) } else { None };
        Ok(Self { shared: Arc::new(Shared { threads, source: Source::Own { name: name.to_owned(), first } }) })
    }

    /// A pool of the host's threads, for calls of up to `threads` tasks; `None` as for [`Pool::new`]. No thread is made.
    ///
    /// A call fails, without writing scores, unless `executor` runs every task exactly once.
    ///
    /// # Errors
    /// `InvalidArgument` for no threads or more than [`MAX_THREADS`].
    pub fn over(executor: impl Executor + 'static, threads: Option<usize>) -> Result<Pool, Error> {
        let threads = count(threads)?;
        Ok(Self { shared: Arc::new(Shared { threads, source: Source::Host(Box::new(executor)) }) })
    }

    /// How many threads a call uses at most, the caller's among them.
    pub fn threads(&self) -> usize {
        self.shared.threads
    }

    /// Calls `work(worker, piece)` once for every piece below `pieces`, in ascending order on each worker; a worker, below
    /// [`Pool::threads`], is on one thread at a time.
    ///
    /// # Errors
    /// `Internal` if `work` panicked, `Executor` if the host's executor broke its contract: some pieces were not worked on
    /// then.
    pub(crate) fn divide(&self, pieces: usize, work: &(dyn Fn(usize, usize) + Sync)) -> Result<(), Fault> {
        let workers = self.threads().min(pieces);
        let next = AtomicUsize::new(0);
        let has_panicked = AtomicBool::new(false);
        let one = |worker: usize| {
            let all = || {
                while let piece = next.fetch_add(1, Ordering::Relaxed)
                    && piece < pieces
                {
                    work(worker, piece);
                }
            };
            // What a panic leaves half done is `work`'s to mend: `exec/crew.rs` makes its scratch anew.
            if catch_unwind(AssertUnwindSafe(all)).is_err() {
                next.store(pieces, Ordering::Relaxed);
                has_panicked.store(true, Ordering::Relaxed);
            }
        };
        match &self.shared.source {
            Source::Own { name, first } => match first.as_ref().and_then(|first| first.of_this_process(name)) {
                Some(helpers) => helpers.run(workers - 1, &one),
                None => one(0),
            },
            Source::Host(executor) => run_on_host(executor.as_ref(), workers, &one)?,
        }
        if has_panicked.load(Ordering::Relaxed) {
            return Err(Fault::new(ErrorKind::Internal, Subject::Call));
        }
        Ok(())
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish_non_exhaustive()
    }
}

fn count(threads: Option<usize>) -> Result<usize, Error> {
    match threads {
        None => Ok(std::thread::available_parallelism().map_or(1, |count| count.get().min(MAX_THREADS))),
        Some(threads @ 1..=MAX_THREADS) => Ok(threads),
        Some(threads) => {
            let detail = format!("is {threads}, not 1 to {MAX_THREADS}");
            Err(Error::new(ErrorKind::InvalidArgument, "threads", detail))
        }
    }
}

/// Runs every worker once on the host's threads, and checks that it was so.
fn run_on_host(executor: &dyn Executor, workers: usize, one: &(dyn Fn(usize) + Sync)) -> Result<(), Fault> {
    let started = [const { AtomicU64::new(0) }; MAX_THREADS / 64];
    let ended = AtomicUsize::new(0);
    let is_broken = AtomicBool::new(false);
    let task = |worker: usize| {
        let bit = 1u64 << (worker % 64);
        if worker >= workers || started[worker / 64].fetch_or(bit, Ordering::Relaxed) & bit != 0 {
            is_broken.store(true, Ordering::Relaxed);
            return;
        }
        one(worker);
        // The scores of the worker are seen by whoever sees this.
        ended.fetch_add(1, Ordering::Release);
    };
    executor.run(workers, &task);
    if ended.load(Ordering::Acquire) != workers || is_broken.load(Ordering::Relaxed) {
        return Err(Fault::new(ErrorKind::Executor, Subject::Call));
    }
    Ok(())
}

impl Helpers {
    fn new(count: usize, name: &str) -> Result<Self, Error> {
        let name = name.to_owned();
        let builder =
            ThreadPoolBuilder::new().num_threads(count).thread_name(move |number| format!("{name}-{}", number + 1));
        let threads = builder.build().map_err(|error| {
            let detail = format!("{count} threads cannot be made: {error}");
            Error::new(ErrorKind::Io, "threads", detail)
        })?;
        Ok(Self {
            process: process::id(),
            threads: Some(threads),
            idle: AtomicUsize::new(count),
            maker: AtomicU32::new(0),
            next: OnceLock::new(),
        })
    }

    /// The threads of this process, which are made if need be; `None` if another thread is making them, or they cannot be
    /// made.
    fn of_this_process(&self, name: &str) -> Option<&Helpers> {
        let mut last = self;
        while let Some(next) = last.next.get() {
            last = next;
        }
        let process = process::id();
        if last.process == process {
            return Some(last);
        }
        // A fork that catches its parent while it makes threads leaves `maker` set for good: the calls of that child stay on
        // their own threads.
        last.maker.compare_exchange(0, process, Ordering::Acquire, Ordering::Relaxed).ok()?;
        let count = last.threads.as_ref().map_or(0, ThreadPool::current_num_threads);
        match Helpers::new(count, name) {
            Ok(made) => Some(last.next.get_or_init(|| Box::new(made))),
            Err(_) => {
                last.maker.store(0, Ordering::Relaxed);
                None
            }
        }
    }

    /// Takes up to `wanted` idle threads.
    fn take(&self, wanted: usize) -> usize {
        let mut idle = self.idle.load(Ordering::Relaxed);
        loop {
            let taken = wanted.min(idle);
            match self.idle.compare_exchange_weak(idle, idle - taken, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return taken,
                Err(now) => idle = now,
            }
        }
    }

    /// Runs `one(0)` here and `one(1)`, `one(2)` and so on, up to `wanted`, on threads that are idle. `one` does not panic.
    fn run(&self, wanted: usize, one: &(dyn Fn(usize) + Sync)) {
        let Some(threads) = &self.threads else { return one(0) };
        let taken = self.take(wanted);
        if taken == 0 {
            return one(0);
        }
        threads.in_place_scope(|scope| {
            for worker in 1..=taken {
                scope.spawn(move |_| {
                    one(worker);
                    self.idle.fetch_add(1, Ordering::Relaxed);
                });
            }
            one(0);
        });
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        // Ending the threads of another process would wait for locks that they hold.
        if self.process != process::id() {
            std::mem::forget(self.threads.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Runs the tasks that it says, on the caller's thread.
    struct Tasks(Vec<usize>);

    impl Executor for Tasks {
        fn run(&self, _: usize, task: &(dyn Fn(usize) + Sync)) {
            self.0.iter().for_each(|index| task(*index));
        }
    }

    /// One thread per task.
    struct Spawning;

    impl Executor for Spawning {
        fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
            std::thread::scope(|scope| (0..tasks).for_each(|index| drop(scope.spawn(move || task(index)))));
        }
    }

    fn pools() -> Vec<Pool> {
        let own = [1, 2, 3, 8].map(|threads| Pool::new(Some(threads), "own").expect("threads"));
        own.into_iter().chain([Pool::over(Spawning, Some(3)).expect("an executor")]).collect()
    }

    #[test]
    fn every_piece_is_worked_on_once_and_no_worker_is_on_two_threads() {
        for pool in pools() {
            for pieces in [1, 2, 3, 100] {
                let worked: Vec<AtomicUsize> = (0..pieces).map(|_| AtomicUsize::new(0)).collect();
                let workers: Vec<Mutex<()>> = (0..pool.threads()).map(|_| Mutex::new(())).collect();
                let work = |worker: usize, piece: usize| {
                    let _alone = workers[worker].try_lock().expect("the worker is on one thread");
                    worked[piece].fetch_add(1, Ordering::Relaxed);
                };
                assert_eq!(pool.divide(pieces, &work), Ok(()));
                assert!(worked.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{pool:?} {pieces}");
            }
        }
    }

    #[test]
    fn threads_of_a_call_work_at_the_same_time() {
        for pool in pools().into_iter().filter(|pool| pool.threads() > 1) {
            let both = std::sync::Barrier::new(2);
            let work = |_, _| {
                both.wait();
            };
            assert_eq!(pool.divide(2, &work), Ok(()), "each waits for the other");
        }
    }

    #[test]
    fn a_panic_is_a_fault_and_the_pool_goes_on() {
        for pool in pools() {
            for bad in [0, 7, 49] {
                let work = |_, piece| assert_ne!(piece, bad, "a panic of the test");
                assert_eq!(pool.divide(50, &work), Err(Fault::new(ErrorKind::Internal, Subject::Call)));
            }
            let count = AtomicUsize::new(0);
            let work = |_, _| {
                count.fetch_add(1, Ordering::Relaxed);
            };
            assert_eq!(pool.divide(50, &work), Ok(()));
            assert_eq!(count.into_inner(), 50);
        }
    }

    #[test]
    fn an_executor_that_skips_or_repeats_a_task_is_a_fault() {
        let outcome = |tasks: &[usize]| {
            let pool = Pool::over(Tasks(tasks.to_vec()), Some(3)).expect("an executor");
            pool.divide(10, &|_, _| {})
        };
        let broken = Err(Fault::new(ErrorKind::Executor, Subject::Call));
        assert_eq!(outcome(&[2, 0, 1]), Ok(()));
        for tasks in [&[][..], &[0, 1], &[1, 2, 2], &[0, 1, 2, 0], &[0, 1, 2, 3], &[0, 1, 2, usize::MAX]] {
            assert_eq!(outcome(tasks), broken, "{tasks:?}");
        }
    }

    #[test]
    fn a_busy_pool_leaves_a_call_on_its_own_thread() {
        let pool = Pool::new(Some(2), "busy").expect("threads");
        let (here, there) = (std::sync::Barrier::new(3), std::sync::Barrier::new(3));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let work = |_, _| {
                    here.wait();
                    there.wait();
                };
                assert_eq!(pool.divide(2, &work), Ok(()));
            });
            here.wait();
            let me = std::thread::current().id();
            assert_eq!(
                pool.divide(20, &|worker, _| assert_eq!((worker, std::thread::current().id()), (0, me))),
                Ok(())
            );
            there.wait();
        });
    }

    #[test]
    fn counts_and_names_are_checked() {
        let kind = |result: Result<Pool, Error>| result.err().map(|error| error.kind());
        for threads in [0, MAX_THREADS + 1, usize::MAX] {
            assert_eq!(kind(Pool::new(Some(threads), "name")), Some(ErrorKind::InvalidArgument));
            assert_eq!(kind(Pool::over(Spawning, Some(threads))), Some(ErrorKind::InvalidArgument));
        }
        for name in ["", "twelve-bytes", "a b", "a\0", "ä"] {
            assert_eq!(kind(Pool::new(Some(1), name)), Some(ErrorKind::InvalidArgument), "{name:?}");
        }
        let usable = std::thread::available_parallelism().expect("a count").get();
        assert_eq!(Pool::new(None, "usable").expect("threads").threads(), usable.min(MAX_THREADS));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn threads_have_the_name_and_end_with_the_last_clone() {
        let named = || {
            let tasks = std::fs::read_dir("/proc/self/task").expect("procfs");
            let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
            let mut names: Vec<String> = names.filter(|name| name.starts_with("named")).collect();
            names.sort();
            names
        };
        let pool = Pool::new(Some(4), "named-pool.").expect("threads");
        let clone = pool.clone();
        assert_eq!(pool.divide(100, &|_, _| {}), Ok(()));
        let until = |wanted: &[&str]| {
            while named() != wanted {
                std::thread::yield_now();
            }
        };
        let all = ["named-pool.-1\n", "named-pool.-2\n", "named-pool.-3\n"];
        until(&all);
        drop(pool);
        assert_eq!(named(), all);
        drop(clone);
        until(&[]);
    }
}
