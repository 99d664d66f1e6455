package io.polyscore;

import java.lang.ref.Reference;
import java.util.concurrent.Executor;
import java.util.concurrent.atomic.AtomicBoolean;

/**
 * Scores with one model. Each thread has its own: a second thread that enters gets {@link PolyscoreBusyException}.
 *
 * <p>{@link #prepare}, {@link #score} and their kind run on the caller's thread, and allocate neither on the Java heap nor
 * natively, once warm, unless they fail. Those of a scorer of {@link Model#scorer(Pool)} let the threads of its pool help, and
 * allocate a little.
 *
 * <p>{@link #close} may be called by any thread at any time: a call that another thread is inside of finishes first, later
 * ones throw {@link PolyscoreClosedException}. A scorer that is forgotten is closed by the garbage collector, at no known
 * time.
 */
public final class Scorer implements AutoCloseable {
    /** Whose scenario candidates are scored for: that of the request, one of their own, or each of several. */
    private enum Scenarios {
        PREPARED,
        MIXED,
        EACH
    }

    private static final int[] NONE = {};

    private final Model model;
    /** Null unless it is a parallel scorer. */
    private final Pool pool;
    private final Handle handle;
    private final NativeError error = new NativeError();
    /** Whether a thread is inside; it also owns {@link #error}. */
    private final AtomicBoolean isBusy = new AtomicBoolean();
    /** The scenarios of a call, copied. */
    private Memory scenarioIndices = new Memory(64);

    Scorer(Model model, long modelHandle, Pool pool) {
        this.model = model;
        this.pool = pool;
        try (Memory out = new Memory(Long.BYTES)) {
            error.check(pool == null
                    ? Native.scorerNew(modelHandle, out.address, error.address())
                    : Native.scorerNewParallel(modelHandle, pool.handle(), out.address, error.address()));
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
        score(Scenarios.PREPARED, candidates, NONE, columns, scores);
    }

    /**
     * Scores as {@link #score}, but each candidate for a scenario of its own. The scenario that {@link #prepare} took stays
     * that of the request.
     *
     * @param candidates how many there are
     * @param scenarios an index of {@link Model#scenario} for each candidate, in the first places; {@link Scenario#UNKNOWN},
     *     as any that is none, goes to the model's fallback and is counted
     * @param columns those of rates {@link Feature.Rate#ITEM} and {@link Feature.Rate#PAIR}, of a row for each candidate
     * @param scores where the scores go
     * @throws PolyscoreInvalidArgumentException as {@link #score}, or if there are fewer scenarios than candidates
     */
    public void scoreMixed(int candidates, int[] scenarios, Columns columns, Scores scores) {
        if (scenarios.length < candidates) {
            throw new PolyscoreInvalidArgumentException(
                    Status.COLUMN_LENGTH, "scenarios", "are fewer than there are candidates");
        }
        score(Scenarios.MIXED, candidates, scenarios, columns, scores);
    }

    /**
     * Scores as {@link #score}, but every candidate for every one of {@code scenarios}. What does not depend on the scenario
     * is computed once per candidate.
     *
     * @param candidates how many there are
     * @param scenarios indices, as for {@link #scoreMixed}
     * @param columns those of rates {@link Feature.Rate#ITEM} and {@link Feature.Rate#PAIR}, of a row for each candidate
     * @param scores where the scores go, with a capacity of candidates times scenarios; read by
     *     {@link Scores#get(int, int, int)}
     * @throws PolyscoreInvalidArgumentException as {@link #score}
     */
    public void scoreEach(int candidates, int[] scenarios, Columns columns, Scores scores) {
        score(Scenarios.EACH, candidates, scenarios, columns, scores);
    }

    private void score(Scenarios which, int candidates, int[] scenarios, Columns columns, Scores scores) {
        require(columns.model);
        require(scores.model);
        Columns.require(candidates >= 0, "candidates", "is negative");
        enter();
        try {
            columns.enter();
            Executor outer = pool == null ? null : pool.swap(pool.executor());
            try {
                error.check(call(which, candidates, scenarios, columns, scores));
                scores.written(candidates, which == Scenarios.EACH ? scenarios.length : 1);
            } finally {
                if (pool != null) {
                    pool.swap(outer);
                }
                columns.leave();
            }
        } finally {
            leave();
            Reference.reachabilityFence(columns);
            Reference.reachabilityFence(scores);
        }
    }

    private int call(Scenarios which, int candidates, int[] scenarios, Columns columns, Scores scores) {
        switch (which) {
            case MIXED:
                return Native.scorerScoreMixed(handle.value(), candidates, copied(scenarios, candidates),
                        columns.address(), columns.count(), scores.tasksAddress, scores.tasks, scores.address,
                        scores.length, error.address());
            case EACH:
                return Native.scorerScoreEach(handle.value(), candidates, copied(scenarios, scenarios.length),
                        scenarios.length, columns.address(), columns.count(), scores.tasksAddress, scores.tasks,
                        scores.address, scores.length, error.address());
            default:
                return Native.scorerScore(handle.value(), candidates, columns.address(), columns.count(),
                        scores.tasksAddress, scores.tasks, scores.address, scores.length, error.address());
        }
    }

    /** The address of the first {@code length} scenarios, in memory that is kept for the next time. */
    private long copied(int[] scenarios, int length) {
        Columns.require(length <= 1 << 28, "scenarios", "are more than 1 GiB to copy");
        int bytes = length * Integer.BYTES;
        if (scenarioIndices.bytes.capacity() < bytes) {
            scenarioIndices = new Memory(Integer.highestOneBit(bytes - 1) << 1);
        }
        for (int i = 0; i < length; i++) {
            scenarioIndices.bytes.putInt(i * Integer.BYTES, scenarios[i]);
        }
        return scenarioIndices.address;
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
