package io.polyscore;

import java.nio.Buffer;

/**
 * The functions of the shim, {@code src/main/c/polyscore_jni.c}: those of {@code polyscore.h}, with addresses as
 * {@code long}. They check nothing that the C ABI does not check. The caller keeps the memory behind an address reachable
 * until the call is over.
 */
final class Native {
    /** Changes whenever a function here does, so that a shim of another version is refused. */
    static final int VERSION = 3;

    private Native() {}

    /**
     * Loads the {@code libpolyscore.so} that lies beside the shim.
     *
     * @param version {@link #VERSION}
     * @param message where the reason of a failure goes, NUL-terminated
     * @param capacity its bytes
     * @return 0, or -1
     */
    static native int bind(int version, long message, long capacity);

    /** The address of a direct buffer's first element, wherever its position is. */
    static native long address(Buffer buffer);

    static native int abiVersion();

    static native String version();

    static native int modelOpen(long path, long options, long out, long error);

    static native int modelClose(long model);

    static native int modelInfo(long model, long out, long error);

    static native int modelFeature(long model, int slot, long out, long error);

    static native int modelTask(long model, int index, long out, long error);

    static native int modelScenario(long model, int index, long out, long error);

    static native int modelPlan(long model, long buffer, long capacity, long length, long error);

    static native int modelDescription(long model, long buffer, long capacity, long length, long error);

    static native int scorerNew(long model, long out, long error);

    static native int scorerNewParallel(long model, long pool, long out, long error);

    static native int scorerClose(long scorer);

    static native int scorerPrepare(long scorer, int scenario, long columns, long columnsLength, long error);

    static native int scorerScore(
            long scorer,
            long candidates,
            long columns,
            long columnsLength,
            long tasks,
            long tasksLength,
            long out,
            long outLength,
            long error);

    static native int scorerScoreMixed(
            long scorer,
            long candidates,
            long scenarios,
            long columns,
            long columnsLength,
            long tasks,
            long tasksLength,
            long out,
            long outLength,
            long error);

    static native int scorerScoreEach(
            long scorer,
            long candidates,
            long scenarios,
            long scenariosLength,
            long columns,
            long columnsLength,
            long tasks,
            long tasksLength,
            long out,
            long outLength,
            long error);

    static native int scorerCounters(long scorer, long out, long error);

    static native int scorerFeatureCounters(long scorer, int slot, long out, long error);

    /** @param isOver whether its tasks go to {@link Pool#run}, on the thread that scores */
    static native int poolNew(int threads, long name, boolean isOver, long out, long error);

    static native int poolClose(long pool);

    static native int poolThreads(long pool, long out, long error);

    /** A task that {@link Pool#run} was given; one whose call is over does nothing. */
    static native void runTask(long task, long context, int index);
}
