package io.polyscore;

import java.lang.ref.Reference;
import java.util.concurrent.atomic.AtomicBoolean;

/**
 * Scores with one model. Each thread has its own: a second thread that enters gets {@link PolyscoreBusyException}.
 *
 * <p>{@link #prepare} and {@link #score} run on the caller's thread, and allocate neither on the Java heap nor natively
 * unless they fail.
 *
 * <p>{@link #close} may be called by any thread at any time: a call that another thread is inside of finishes first, later
 * ones throw {@link PolyscoreClosedException}. A scorer that is forgotten is closed by the garbage collector, at no known
 * time.
 */
public final class Scorer implements AutoCloseable {
    private final Model model;
    private final Handle handle;
    private final NativeError error = new NativeError();
    /** Whether a thread is inside; it also owns {@link #error}. */
    private final AtomicBoolean isBusy = new AtomicBoolean();

    Scorer(Model model, long modelHandle) {
        this.model = model;
        try (Memory out = new Memory(Long.BYTES)) {
            error.check(Native.scorerNew(modelHandle, out.address, error.address()));
            handle = Handle.of(this, "scorer", out.bytes.getLong(0), Native::scorerClose);
        }
    }

    /**
     * Takes a request: does the work that is the same for all its candidates. If it fails, the scorer is unprepared.
     *
     * @param scenario an index of {@link Model#scenario}; {@link Scenario#UNKNOWN}, as any that is none, goes to the model's
     *     fallback and is counted
     * @param columns those of rate {@link Feature.Rate#REQUEST}, of one row each
     * @throws PolyscoreInvalidArgumentException if a column is missing, or wrong in type, length or side
     */
    public void prepare(int scenario, Columns columns) {
        require(columns.model);
        enter();
        try {
            columns.enter();
            try {
                error.check(Native.scorerPrepare(
                        handle.value(), scenario, columns.address(), columns.count(), error.address()));
            } finally {
                columns.leave();
            }
        } finally {
            leave();
            Reference.reachabilityFence(columns);
        }
    }

    /**
     * Scores candidates of the request that {@link #prepare} took, for the tasks of {@code scores}. May be called any
     * number of times for a request. If it fails, {@code scores} is as it was.
     *
     * @param candidates how many there are
     * @param columns those of rates {@link Feature.Rate#ITEM} and {@link Feature.Rate#PAIR}, of a row for each candidate
     * @param scores where the scores go
     * @throws PolyscoreInvalidArgumentException if {@code scores} is too small, a column is missing, or wrong in type,
     *     length or side, or nothing is prepared
     */
    public void score(int candidates, Columns columns, Scores scores) {
        require(columns.model);
        require(scores.model);
        Columns.require(candidates >= 0, "candidates", "is negative");
        enter();
        try {
            columns.enter();
            try {
                error.check(Native.scorerScore(handle.value(), candidates, columns.address(), columns.count(),
                        scores.tasksAddress, scores.tasks, scores.address, scores.length, error.address()));
                scores.written(candidates);
            } finally {
                columns.leave();
            }
        } finally {
            leave();
            Reference.reachabilityFence(columns);
            Reference.reachabilityFence(scores);
        }
    }

    /** What the scorer has seen since it was made. */
    public Counters counters() {
        enter();
        try {
            return new Counters(
                    Memory.read(Layout.COUNTERS_SIZE, (out, error) -> Native.scorerCounters(handle.value(), out, error)));
        } finally {
            leave();
        }
    }

    /** What came in for the feature of a slot since the scorer was made. */
    public FeatureCounters counters(int slot) {
        enter();
        try {
            return new FeatureCounters(Memory.read(Layout.FEATURE_COUNTERS_SIZE,
                    (out, error) -> Native.scorerFeatureCounters(handle.value(), slot, out, error)));
        } finally {
            leave();
        }
    }

    /** Closes the scorer and frees its scratch. A second time does nothing. */
    @Override
    public void close() {
        handle.run();
    }

    private void require(Model of) {
        Columns.require(of == model, "model", "of the columns or scores is not the scorer's");
    }

    private void enter() {
        if (!isBusy.compareAndSet(false, true)) {
            throw new PolyscoreBusyException("scorer", "is in use by another thread");
        }
    }

    private void leave() {
        isBusy.set(false);
        Reference.reachabilityFence(this);
    }
}
