package io.polyscore;

/** A task of a model. */
public final class Task {
    private final String name;
    private final boolean isComposed;
    private final float fallback;

    Task(Memory info) {
        name = info.text(Layout.TASK_NAME, Layout.TASK_SIZE - Layout.TASK_NAME);
        isComposed = info.bytes.getInt(Layout.TASK_COMPOSED) != 0;
        fallback = info.bytes.getFloat(Layout.TASK_FALLBACK);
    }

    /** The name. */
    public String name() {
        return name;
    }

    /** Whether its score is the product of other tasks' probabilities. */
    public boolean isComposed() {
        return isComposed;
    }

    /** The score written where the network gives a value that is not finite. */
    public float fallback() {
        return fallback;
    }
}
