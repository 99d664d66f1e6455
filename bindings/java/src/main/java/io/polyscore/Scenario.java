package io.polyscore;

/** A scenario of a model. */
public final class Scenario {
    /** The index of a scenario that the model does not know, or that is not given. */
    public static final int UNKNOWN = -1;

    private final String name;
    private final long id;
    private final int row;

    Scenario(Memory info) {
        name = info.text(Layout.SCENARIO_NAME, Layout.SCENARIO_SIZE - Layout.SCENARIO_NAME);
        id = info.bytes.getLong(Layout.SCENARIO_ID);
        row = info.bytes.getInt(Layout.SCENARIO_ROW);
    }

    /** The name. */
    public String name() {
        return name;
    }

    /** The number by which hosts know it. */
    public long id() {
        return id;
    }

    /** The row of the scenario tensors that it uses; that of its fallback, if it has one. */
    public int row() {
        return row;
    }
}
