package io.polyscore;

import java.util.Objects;
import java.util.concurrent.Executor;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * Threads that parallel scorers share: native ones of its own, or those of an {@link Executor}. Any number of threads, scorers
 * and models may use it at the same time.
 *
 * <p>Close it when no new scorer is needed: its scorers stay usable, and its own threads end when the last of them is closed.
 * A pool that is forgotten is closed by the garbage collector, at no known time.
 */
public final class Pool implements AutoCloseable {
    /** The executor of the scorer that this thread is inside of. */
    private static final ThreadLocal<Executor> CURRENT = new ThreadLocal<>();

    private final Handle handle;
    private final int threads;
    /** Null for threads of its own. */
    private final Executor executor;

    private Pool(int threads, String name, Executor executor) {
        Columns.require(threads >= 0, "threads", "is negative");
        Polyscore.load();
        this.executor = executor;
        try (Memory text = name == null ? null : Memory.text(name);
                Memory out = new Memory(Long.BYTES);
                NativeError error = new NativeError()) {
            error.check(Native.poolNew(
                    threads, text == null ? 0 : text.address, executor != null, out.address, error.address()));
            long pool = out.bytes.getLong(0);
            handle = Handle.of(this, "pool", pool, Native::poolClose);
            error.check(Native.poolThreads(pool, out.address, error.address()));
            this.threads = out.bytes.getInt(0);
        }
    }

    /** A pool of its own threads, as many as the process may use by its affinity and its container's CPU quota. */
    public static Pool own() {
        return own(0, "polyscore");
    }

    /**
     * A pool of its own threads.
     *
     * @param threads how many threads a call uses at most, the caller's among them, up to 256; 0: as many as the process may
     *     use
     * @param name the threads are named name-1, name-2 and so on: 1 to 11 of ASCII letters, digits, {@code -}, {@code _} and
     *     {@code .}
     * @throws PolyscoreInvalidArgumentException for another number or name
     */
    public static Pool own(int threads, String name) {
        return new Pool(threads, Objects.requireNonNull(name), null);
    }

    /**
     * A pool over the threads of an executor. The caller's thread takes the first part of a call, and all that the executor
     * did not begin in the meantime: so a call waits for no thread that is busy otherwise, and may come from one of the
     * executor's own threads. What the executor rejects, the caller does.
     *
     * @param threads how many threads a call uses at most, the caller's among them, up to 256; 0: as many as the process may
     *     use
     * @throws PolyscoreInvalidArgumentException for another number
     */
    public static Pool over(Executor executor, int threads) {
        return new Pool(threads, null, Objects.requireNonNull(executor));
    }

    /** How many threads a call uses at most, the caller's among them. */
    public int threads() {
        handle.value();
        return threads;
    }

    /** Closes the pool. A second time does nothing. */
    @Override
    public void close() {
        handle.run();
    }

    long handle() {
        return handle.value();
    }

    /** What a scorer calls before a call of its own and after it, with what this returned before. */
    Executor swap(Executor next) {
        if (executor == null) {
            return null;
        }
        Executor last = CURRENT.get();
        CURRENT.set(next);
        return last;
    }

    Executor executor() {
        return executor;
    }

    /** Runs the tasks of a call: the shim calls it, on the thread that scores. */
    static void run(int tasks, long task, long context) {
        new Tasks(tasks, task, context).run(CURRENT.get());
    }

    /** The tasks of a call. Who comes takes the next one; who comes late finds none, and touches nothing native. */
    private static final class Tasks implements Runnable {
        private final int count;
        private final long task;
        private final long context;
        private final AtomicInteger next = new AtomicInteger();
        private final Semaphore ended = new Semaphore(0);

        Tasks(int count, long task, long context) {
            this.count = count;
            this.task = task;
            this.context = context;
        }

        @Override
        public void run() {
            int index = next.getAndIncrement();
            if (index < count) {
                try {
                    Native.runTask(task, context, index);
                } finally {
                    ended.release();
                }
            }
        }

        void run(Executor executor) {
            try {
                for (int i = 1; i < count; i++) {
                    executor.execute(this);
                }
            } catch (RejectedExecutionException rejected) {
                // The tasks that are left are the caller's.
            } finally {
                for (int i = 0; i < count; i++) {
                    run();
                }
                ended.acquireUninterruptibly(count);
            }
        }
    }
}
