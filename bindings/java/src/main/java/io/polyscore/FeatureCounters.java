package io.polyscore;

/** What came in for one feature since the scorer was made. */
public final class FeatureCounters {
    private final long values;
    private final long outOfVocabulary;
    private final long missing;

    FeatureCounters(Memory counters) {
        values = counters.bytes.getLong(Layout.FEATURE_COUNTERS_VALUES);
        outOfVocabulary = counters.bytes.getLong(Layout.FEATURE_COUNTERS_OOV);
        missing = counters.bytes.getLong(Layout.FEATURE_COUNTERS_MISSING);
    }

    /** Values seen, missing ones included. */
    public long values() {
        return values;
    }

    /** Values that no row was trained for. */
    public long outOfVocabulary() {
        return outOfVocabulary;
    }

    /** Values that were missing. */
    public long missing() {
        return missing;
    }
}
