package io.polyscore;

/** What a model is and takes up. */
public final class ModelInfo {
    private final String name;
    private final String isa;
    private final int features;
    private final int tasks;
    private final int scenarios;
    private final int tile;
    private final long mappedBytes;
    private final long copiedBytes;
    private final long packedBytes;
    private final long scratchBytes;
    private final int goldenRequests;
    private final int goldenScores;
    private final double goldenError;
    private final long modelBytes;
    private final long scenarioBytes;
    private final int keptScenarios;
    private final boolean isKeptPerScorer;
    private final long productBytes;
    private final long itemBytes;
    private final long itemRoom;

    ModelInfo(Memory info) {
        name = info.text(Layout.INFO_NAME, Layout.INFO_MODEL_BYTES - Layout.INFO_NAME);
        isa = info.text(Layout.INFO_ISA, Layout.INFO_NAME - Layout.INFO_ISA);
        features = info.bytes.getInt(Layout.INFO_FEATURES);
        tasks = info.bytes.getInt(Layout.INFO_TASKS);
        scenarios = info.bytes.getInt(Layout.INFO_SCENARIOS);
        tile = info.bytes.getInt(Layout.INFO_TILE);
        mappedBytes = info.bytes.getLong(Layout.INFO_MAPPED_BYTES);
        copiedBytes = info.bytes.getLong(Layout.INFO_COPIED_BYTES);
        packedBytes = info.bytes.getLong(Layout.INFO_PACKED_BYTES);
        scratchBytes = info.bytes.getLong(Layout.INFO_SCRATCH_BYTES);
        goldenRequests = info.bytes.getInt(Layout.INFO_GOLDEN_REQUESTS);
        goldenScores = info.bytes.getInt(Layout.INFO_GOLDEN_SCORES);
        goldenError = info.bytes.getDouble(Layout.INFO_GOLDEN_ERROR);
        modelBytes = info.bytes.getLong(Layout.INFO_MODEL_BYTES);
        scenarioBytes = info.bytes.getLong(Layout.INFO_SCENARIO_BYTES);
        keptScenarios = info.bytes.getInt(Layout.INFO_KEPT_SCENARIOS);
        isKeptPerScorer = info.bytes.getInt(Layout.INFO_KEPT_PER_SCORER) != 0;
        productBytes = info.bytes.getLong(Layout.INFO_PRODUCT_BYTES);
        itemBytes = info.bytes.getLong(Layout.INFO_ITEM_BYTES);
        itemRoom = info.bytes.getLong(Layout.INFO_ITEM_ROOM);
    }

    /** The name of the model; empty if it has none. */
    public String name() {
        return name;
    }

    /** The kernel set. */
    public String isa() {
        return isa;
    }

    /** How many features there are. */
    public int features() {
        return features;
    }

    /** How many tasks there are. */
    public int tasks() {
        return tasks;
    }

    /** How many scenarios there are. */
    public int scenarios() {
        return scenarios;
    }

    /** Candidates per tile. */
    public int tile() {
        return tile;
    }

    /** Bytes of files that are mapped. */
    public long mappedBytes() {
        return mappedBytes;
    }

    /** Bytes copied: snapshots, copies, and tensors that a file has unaligned. */
    public long copiedBytes() {
        return copiedBytes;
    }

    /** Bytes of packed dense weights. */
    public long packedBytes() {
        return packedBytes;
    }

    /** Bytes of product tables. */
    public long productBytes() {
        return productBytes;
    }

    /** Bytes of the item cache. */
    public long itemBytes() {
        return itemBytes;
    }

    /** How many candidates the item cache has room for. */
    public long itemRoom() {
        return itemRoom;
    }

    /** Bytes kept for the model: values that depend on it alone. */
    public long modelBytes() {
        return modelBytes;
    }

    /** Bytes that the model keeps for its scenarios; 0 where each scorer keeps its own. */
    public long scenarioBytes() {
        return scenarioBytes;
    }

    /** How many scenarios' values are kept: all of them by the model, or this many by each scorer. */
    public int keptScenarios() {
        return keptScenarios;
    }

    /** Whether each scorer keeps those of the scenarios it used last, as the model's would pass the budget. */
    public boolean isKeptPerScorer() {
        return isKeptPerScorer;
    }

    /** Bytes that each scorer owns. */
    public long scratchBytes() {
        return scratchBytes;
    }

    /** Golden requests replayed at open. */
    public int goldenRequests() {
        return goldenRequests;
    }

    /** Golden scores compared at open. */
    public int goldenScores() {
        return goldenScores;
    }

    /** Their largest difference from the recorded scores. */
    public double goldenError() {
        return goldenError;
    }
}
