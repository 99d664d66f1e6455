package io.polyscore;

/** How to open a model. Unset options keep their default. */
public final class Options {
    /** How the file is held. */
    public enum Mode {
        /** Mapped: tables are read in place. Replace the file by rename only. The default. */
        MAP,
        /** A private snapshot: what happens to the file afterwards does not matter. */
        SNAPSHOT,
        /** A copy in memory. */
        COPY
    }

    /** The type in which dense weights are held. */
    public enum Precision {
        /** As the file has them. The default. */
        AS_STORED,
        /** 32-bit floats. */
        F32,
        /** IEEE 16-bit floats. */
        F16,
        /** bfloat16 weights and inputs of layers. */
        BF16,
        /** Integers of 12 bits, with exact sums. */
        INT12,
        /** Integers of 8 bits, with exact sums. */
        INT8,
        /**
         * For each layer the fastest with which scores stay within the accepted error, or 1e-3, all but one in a million by the
         * errors of the golden scores.
         */
        AUTO,
        /** Integers of 15 bits, with exact sums. */
        INT16
    }

    /** The type of the rows of the item cache. */
    public enum ItemRows {
        /**
         * As computed: the scores have the bits that they have without a cache. There is none where a measurement at open finds that
         * loading rows takes longer than computing them. The default.
         */
        F32,
        /** Halves: the values of every candidate are rounded, with a key or without. */
        F16,
        /** Integers of 8 bits, with a scale for each value of a row. */
        INT8,
        /** As F32, without that measurement. */
        F32_ALWAYS
    }

    private Mode mode = Mode.MAP;
    private Precision precision = Precision.AS_STORED;
    private boolean split = true;
    private int tile;
    private String isa;
    private double maxError;
    private long maxBytes;
    private long scenarioBytes;
    private long productBytes;
    private long itemBytes;
    private ItemRows itemRows = ItemRows.F32;

    /** The defaults. */
    public Options() {}

    /** How the file is held. */
    public Options mode(Mode value) {
        mode = value;
        return this;
    }

    /** The type in which dense weights are held. Opening fails if the golden scores show too large an error. */
    public Options precision(Precision value) {
        precision = value;
        return this;
    }

    /** Whether {@code prepare} does the work that is the same for all candidates (default). The scores have the same bits. */
    public Options split(boolean value) {
        split = value;
        return this;
    }

    /** Candidates per tile; 0 (default) chooses. */
    public Options tile(int value) {
        tile = value;
        return this;
    }

    /** The kernel set: "scalar", "portable" or "avx2". Default: {@code POLYSCORE_ISA} of the environment, else the best. */
    public Options isa(String value) {
        isa = value;
        return this;
    }

    /** The largest difference from the golden scores that is accepted; 0 (default) takes the tolerance of the file. */
    public Options maxError(double value) {
        maxError = value;
        return this;
    }

    /** The largest model in bytes; 0 (default) is 1 TiB. */
    public Options maxBytes(long value) {
        maxBytes = value;
        return this;
    }

    /**
     * Bytes for values that depend on the scenario alone; 0 (default) is 64 MiB. If those of all scenarios fit, the model
     * keeps them for all scorers; if not, each scorer keeps, within this budget, those it used last. 1 keeps none.
     */
    public Options scenarioBytes(long value) {
        scenarioBytes = value;
        return this;
    }

    /**
     * Bytes for product tables; 0 (default) is 16 MiB, 1 makes none. Of single ids of the request with few rows, the share that
     * each row has in the first layers is computed at open. They change scores by what f32 sums round.
     */
    public Options productBytes(long value) {
        productBytes = value;
        return this;
    }

    /**
     * Bytes for the item cache; 0 (default) makes none. What depends on an ad alone, and not on the scenario, is kept across
     * requests, for all scorers of the model, under the keys of {@link Columns#setItemKeys}.
     */
    public Options itemBytes(long value) {
        itemBytes = value;
        return this;
    }

    /** The type of the rows of the item cache. Opening fails if the golden scores show too large an error. */
    public Options itemRows(ItemRows value) {
        itemRows = value;
        return this;
    }

    /** The text of the kernel set, or null; to be kept while {@link #struct} is in use. */
    Memory isaText() {
        return isa == null ? null : Memory.text(isa);
    }

    Memory struct(Memory isaText) {
        Memory memory = Memory.struct(Layout.OPTIONS_SIZE);
        memory.bytes
                .putInt(Layout.OPTIONS_MODE, mode.ordinal())
                .putInt(Layout.OPTIONS_PRECISION, precision.ordinal())
                .putInt(Layout.OPTIONS_NO_SPLIT, split ? 0 : 1)
                .putInt(Layout.OPTIONS_TILE, tile)
                .putLong(Layout.OPTIONS_ISA, isaText == null ? 0 : isaText.address)
                .putDouble(Layout.OPTIONS_MAX_ERROR, maxError)
                .putLong(Layout.OPTIONS_MAX_BYTES, maxBytes)
                .putLong(Layout.OPTIONS_SCENARIO_BYTES, scenarioBytes)
                .putLong(Layout.OPTIONS_PRODUCT_BYTES, productBytes)
                .putLong(Layout.OPTIONS_ITEM_BYTES, itemBytes)
                .putInt(Layout.OPTIONS_ITEM_ROWS, itemRows.ordinal());
        return memory;
    }
}
