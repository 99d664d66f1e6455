package io.polyscore;

import java.lang.annotation.Native;

/**
 * Where the fields of the C structs lie, in bytes. {@code javac -h} writes these numbers to a header, and the shim does not
 * compile unless they are those of {@code polyscore.h}.
 */
final class Layout {
    @Native static final int ERROR_STATUS = 4;
    @Native static final int ERROR_SUBJECT = 8;
    @Native static final int ERROR_MESSAGE = 136;
    @Native static final int ERROR_SIZE = 648;

    @Native static final int OPTIONS_MODE = 4;
    @Native static final int OPTIONS_PRECISION = 8;
    @Native static final int OPTIONS_NO_SPLIT = 12;
    @Native static final int OPTIONS_TILE = 16;
    @Native static final int OPTIONS_ITEM_ROWS = 20;
    @Native static final int OPTIONS_ISA = 24;
    @Native static final int OPTIONS_MAX_ERROR = 32;
    @Native static final int OPTIONS_MAX_BYTES = 40;
    @Native static final int OPTIONS_SCENARIO_BYTES = 48;
    @Native static final int OPTIONS_PRODUCT_BYTES = 56;
    @Native static final int OPTIONS_ITEM_BYTES = 64;
    @Native static final int OPTIONS_SIZE = 72;

    @Native static final int INFO_FEATURES = 4;
    @Native static final int INFO_TASKS = 8;
    @Native static final int INFO_SCENARIOS = 12;
    @Native static final int INFO_TILE = 16;
    @Native static final int INFO_MAPPED_BYTES = 24;
    @Native static final int INFO_COPIED_BYTES = 32;
    @Native static final int INFO_PACKED_BYTES = 40;
    @Native static final int INFO_SCRATCH_BYTES = 48;
    @Native static final int INFO_GOLDEN_REQUESTS = 56;
    @Native static final int INFO_GOLDEN_SCORES = 60;
    @Native static final int INFO_GOLDEN_ERROR = 64;
    @Native static final int INFO_ISA = 72;
    @Native static final int INFO_NAME = 88;
    @Native static final int INFO_MODEL_BYTES = 216;
    @Native static final int INFO_SCENARIO_BYTES = 224;
    @Native static final int INFO_KEPT_SCENARIOS = 232;
    @Native static final int INFO_KEPT_PER_SCORER = 236;
    @Native static final int INFO_PRODUCT_BYTES = 240;
    @Native static final int INFO_ITEM_BYTES = 248;
    @Native static final int INFO_ITEM_ROOM = 256;
    @Native static final int INFO_SIZE = 264;

    @Native static final int FEATURE_RATE = 4;
    @Native static final int FEATURE_KIND = 8;
    @Native static final int FEATURE_VALUE = 12;
    @Native static final int FEATURE_WIDTH = 16;
    @Native static final int FEATURE_OPTIONAL = 20;
    @Native static final int FEATURE_NAME = 24;
    @Native static final int FEATURE_SIZE = 96;

    @Native static final int TASK_COMPOSED = 4;
    @Native static final int TASK_FALLBACK = 8;
    @Native static final int TASK_NAME = 12;
    @Native static final int TASK_SIZE = 84;

    @Native static final int SCENARIO_ROW = 4;
    @Native static final int SCENARIO_ID = 8;
    @Native static final int SCENARIO_NAME = 16;
    @Native static final int SCENARIO_SIZE = 88;

    @Native static final int COLUMN_FEATURE = 4;
    @Native static final int COLUMN_TYPE = 8;
    @Native static final int COLUMN_VALUES = 16;
    @Native static final int COLUMN_VALUES_LEN = 24;
    @Native static final int COLUMN_TEXT_OFFSETS = 32;
    @Native static final int COLUMN_TEXT_OFFSETS_LEN = 40;
    @Native static final int COLUMN_ROW_OFFSETS = 48;
    @Native static final int COLUMN_ROW_OFFSETS_LEN = 56;
    @Native static final int COLUMN_SIZE = 64;

    @Native static final int COUNTERS_REQUESTS = 8;
    @Native static final int COUNTERS_CANDIDATES = 16;
    @Native static final int COUNTERS_UNKNOWN_SCENARIOS = 24;
    @Native static final int COUNTERS_NON_FINITE = 32;
    @Native static final int COUNTERS_SCENARIOS_FOLDED = 40;
    @Native static final int COUNTERS_ITEM_HITS = 48;
    @Native static final int COUNTERS_ITEM_MISSES = 56;
    @Native static final int COUNTERS_SIZE = 64;

    @Native static final int FEATURE_COUNTERS_VALUES = 8;
    @Native static final int FEATURE_COUNTERS_OOV = 16;
    @Native static final int FEATURE_COUNTERS_MISSING = 24;
    @Native static final int FEATURE_COUNTERS_SIZE = 32;

    @Native static final int TYPE_I64 = 1;
    @Native static final int TYPE_I32 = 2;
    @Native static final int TYPE_F32 = 3;
    @Native static final int TYPE_TEXT = 4;

    /** As an int: the largest but one of the unsigned. */
    @Native static final int ITEM_KEY = -2;

    private Layout() {}
}
