package io.polyscore;

import java.nio.ByteOrder;
import java.nio.FloatBuffer;

/**
 * The tasks to compute, and room for their scores, outside the Java heap. Made by {@link Model#scores}; one thread's at a
 * time.
 *
 * <p>The scores lie task by task: that of candidate {@code i} for the {@code t}-th task is at {@code t * candidates + i},
 * where {@code candidates} is the number of the last call, not the capacity. Those of {@link Scorer#scoreEach} lie scenario
 * by scenario, each as above.
 */
public final class Scores {
    final Model model;
    final long address;
    final long length;
    final long tasksAddress;
    final int tasks;
    private final Memory indices;
    private final FloatBuffer values;
    private final FloatBuffer view;
    private int candidates;
    private int scenarios;

    Scores(Model model, FloatBuffer buffer, int[] tasks) {
        Columns.require(buffer.isDirect(), "scores", "need a direct buffer");
        Columns.require(buffer.order() == ByteOrder.nativeOrder(), "scores", "need a buffer of native byte order");
        Columns.require(!buffer.isReadOnly(), "scores", "need a buffer that can be written");
        this.model = model;
        this.tasks = tasks.length;
        values = buffer.slice();
        view = values.asReadOnlyBuffer();
        length = values.capacity();
        address = Native.address(values);
        indices = new Memory(Math.max(tasks.length, 1) * Integer.BYTES);
        indices.bytes.asIntBuffer().put(tasks);
        tasksAddress = indices.address;
    }

    void written(int count, int perCandidate) {
        candidates = count;
        scenarios = perCandidate;
    }

    /** Candidates of the last successful call of a {@link Scorer} into here; 0 before the first. */
    public int candidates() {
        return candidates;
    }

    /** Scenarios that each candidate was scored for: as many as {@link Scorer#scoreEach} was given, else 1; 0 at first. */
    public int scenarios() {
        return scenarios;
    }

    /** How many tasks are computed. */
    public int tasks() {
        return tasks;
    }

    /** The index, in the model, of the task at position {@code task}. */
    public int task(int task) {
        return indices.bytes.getInt(checked(task, tasks, "task") * Integer.BYTES);
    }

    /** The probability of a candidate for the task at position {@code task}, in the first scenario if there are more. */
    public float get(int task, int candidate) {
        return get(0, task, candidate);
    }

    /** The probability of a candidate for the task at position {@code task} in the scenario at position {@code scenario}. */
    public float get(int scenario, int task, int candidate) {
        return values.get(start(scenario, task) + checked(candidate, candidates, "candidate"));
    }

    /**
     * Copies the probabilities of all candidates for the task at position {@code task}, in the first scenario if there are
     * more, to the start of {@code to}.
     */
    public void copy(int task, float[] to) {
        copy(0, task, to);
    }

    /**
     * Copies the probabilities of all candidates for the task at position {@code task} in the scenario at position
     * {@code scenario} to the start of {@code to}.
     */
    public void copy(int scenario, int task, float[] to) {
        int start = start(scenario, task);
        Columns.require(to.length >= candidates, "to", "is shorter than the number of candidates");
        for (int i = 0; i < candidates; i++) {
            to[i] = values.get(start + i);
        }
    }

    private int start(int scenario, int task) {
        checked(task, tasks, "task");
        return (checked(scenario, scenarios, "scenario") * tasks + task) * candidates;
    }

    /** All scores, task by task, read-only: the same buffer each time, with the next call's scores after the next call. */
    public FloatBuffer buffer() {
        return view;
    }

    private static int checked(int index, int length, String subject) {
        if (index < 0 || index >= length) {
            throw new PolyscoreInvalidArgumentException(
                    Status.INVALID_ARGUMENT, subject, "has no position " + index + " of " + length);
        }
        return index;
    }
}
