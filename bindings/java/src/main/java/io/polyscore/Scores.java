package io.polyscore;

import java.nio.ByteOrder;
import java.nio.FloatBuffer;

/**
 * The tasks to compute, and room for their scores, outside the Java heap. Made by {@link Model#scores}; one thread's at a
 * time.
 *
 * <p>The scores lie task by task: that of candidate {@code i} for the {@code t}-th task is at {@code t * candidates + i},
 * where {@code candidates} is the number of the last call, not the capacity.
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

    void written(int count) {
        candidates = count;
    }

    /** Candidates of the last successful {@link Scorer#score} into here; 0 before the first. */
    public int candidates() {
        return candidates;
    }

    /** How many tasks are computed. */
    public int tasks() {
        return tasks;
    }

    /** The index, in the model, of the task at position {@code task}. */
    public int task(int task) {
        return indices.bytes.getInt(checked(task, tasks, "task") * Integer.BYTES);
    }

    /** The probability of a candidate for the task at position {@code task}. */
    public float get(int task, int candidate) {
        checked(task, tasks, "task");
        return values.get(task * candidates + checked(candidate, candidates, "candidate"));
    }

    /** Copies the probabilities of all candidates for the task at position {@code task} to the start of {@code to}. */
    public void copy(int task, float[] to) {
        checked(task, tasks, "task");
        Columns.require(to.length >= candidates, "to", "is shorter than the number of candidates");
        for (int i = 0; i < candidates; i++) {
            to[i] = values.get(task * candidates + i);
        }
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
