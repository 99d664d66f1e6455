package io.polyscore;

/** What a scorer has seen since it was made. */
public final class Counters {
    private final long requests;
    private final long candidates;
    private final long unknownScenarios;
    private final long nonFinite;
    private final long scenariosFolded;
    private final long itemHits;
    private final long itemMisses;

    Counters(Memory counters) {
        requests = counters.bytes.getLong(Layout.COUNTERS_REQUESTS);
        candidates = counters.bytes.getLong(Layout.COUNTERS_CANDIDATES);
        unknownScenarios = counters.bytes.getLong(Layout.COUNTERS_UNKNOWN_SCENARIOS);
        nonFinite = counters.bytes.getLong(Layout.COUNTERS_NON_FINITE);
        scenariosFolded = counters.bytes.getLong(Layout.COUNTERS_SCENARIOS_FOLDED);
        itemHits = counters.bytes.getLong(Layout.COUNTERS_ITEM_HITS);
        itemMisses = counters.bytes.getLong(Layout.COUNTERS_ITEM_MISSES);
    }

    /** Requests prepared. */
    public long requests() {
        return requests;
    }

    /** Candidates scored, once per scenario that they were scored for. */
    public long candidates() {
        return candidates;
    }

    /**
     * Requests, and candidates and scenarios of calls that name scenarios themselves, whose scenario was unknown or not
     * given.
     */
    public long unknownScenarios() {
        return unknownScenarios;
    }

    /** Scores that were not finite and were replaced by the fallback of their task. */
    public long nonFinite() {
        return nonFinite;
    }

    /** How often the values of a scenario were computed: not at all where the model keeps those of all scenarios. */
    public long scenariosFolded() {
        return scenariosFolded;
    }

    /** Candidates with an item key whose row the item cache had. */
    public long itemHits() {
        return itemHits;
    }

    /** Candidates with an item key whose row it did not have. */
    public long itemMisses() {
        return itemMisses;
    }
}
