package io.polyscore;

/** What a feature of a model takes. */
public final class Feature {
    /** Where the column of a feature goes. */
    public enum Rate {
        /** One row, to {@link Scorer#prepare}. */
        REQUEST,
        /** A row for each candidate, to {@link Scorer#score}: a fact of the ad alone. */
        ITEM,
        /** A row for each candidate, to {@link Scorer#score}: known only for this user and this ad. */
        PAIR
    }

    /** What a row of a feature is. */
    public enum Kind {
        /** One id. */
        ID,
        /** A bag of ids, of any number. */
        IDS,
        /** {@link Feature#width} floats. */
        DENSE,
        /** A sequence of ids, of any number up to its length, in an order that matters; set as a bag is. */
        SEQUENCE
    }

    /** What the values of a column are. */
    public enum Value {
        /** {@code long} or {@code int}. */
        INTEGER,
        /** {@code float}. */
        FLOAT,
        /** UTF-8 text. */
        TEXT,
        /** {@code long}, {@code int} or text. */
        INTEGER_OR_TEXT
    }

    private final int slot;
    private final String name;
    private final Rate rate;
    private final Kind kind;
    private final Value value;
    private final int width;
    private final boolean isOptional;

    Feature(int slot, Memory info) {
        this.slot = slot;
        name = info.text(Layout.FEATURE_NAME, Layout.FEATURE_SIZE - Layout.FEATURE_NAME);
        rate = Rate.values()[info.bytes.getInt(Layout.FEATURE_RATE) - 1];
        kind = Kind.values()[info.bytes.getInt(Layout.FEATURE_KIND) - 1];
        width = info.bytes.getInt(Layout.FEATURE_WIDTH);
        isOptional = info.bytes.getInt(Layout.FEATURE_OPTIONAL) != 0;
        switch (info.bytes.getInt(Layout.FEATURE_VALUE)) {
            case Layout.TYPE_F32:
                value = Value.FLOAT;
                break;
            case Layout.TYPE_TEXT:
                value = Value.TEXT;
                break;
            case Layout.TYPE_I64:
                value = Value.INTEGER;
                break;
            default:
                value = Value.INTEGER_OR_TEXT;
        }
    }

    /** The number by which {@link Columns} knows it. */
    public int slot() {
        return slot;
    }

    /** The name. */
    public String name() {
        return name;
    }

    /** Where its column goes. */
    public Rate rate() {
        return rate;
    }

    /** What a row is. */
    public Kind kind() {
        return kind;
    }

    /** What the values are. */
    public Value value() {
        return value;
    }

    /** Values a row: the width of a dense feature, the ids of an id feature, else 1. */
    public int width() {
        return width;
    }

    /** Whether the column may be left out: then all its values are missing. */
    public boolean isOptional() {
        return isOptional;
    }
}
