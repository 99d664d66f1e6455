package io.polyscore;

import java.lang.annotation.Native;

/** The codes of {@link PolyscoreException#code}: those of {@code polyscore.h}. Numbers never change. */
public final class Status {
    /** Success; no exception has it. */
    @Native public static final int OK = 0;
    /** An argument has a value that the call does not accept. */
    @Native public static final int INVALID_ARGUMENT = 100;
    /** A pointer that must not be null is null. */
    @Native public static final int NULL_ARGUMENT = 101;
    /** A model or scorer is closed. */
    @Native public static final int INVALID_HANDLE = 102;
    /** Another thread is inside a call on this object. */
    @Native public static final int BUSY = 103;
    /** A struct of the C ABI has another size than the library knows. */
    @Native public static final int STRUCT_SIZE = 104;
    /** The scores have less room than tasks times candidates. */
    @Native public static final int BUFFER_TOO_SMALL = 105;
    /** The buffer of the scores overlaps an input. */
    @Native public static final int OVERLAP = 106;
    /** The executor of a pool did not run every task of a call exactly once. */
    @Native public static final int EXECUTOR = 107;
    /** The operating system refused: no such file, no permission, read error. */
    @Native public static final int IO = 200;
    /** The container is damaged or breaks the rules of the format. */
    @Native public static final int FORMAT = 201;
    /** The description inside the file is wrong; the subject is its JSON path. */
    @Native public static final int DESCRIPTION = 202;
    /** A tensor is missing, unexpected, or has the wrong type, shape or values. */
    @Native public static final int TENSOR = 203;
    /** The file asks for more than the limits allow. */
    @Native public static final int LIMIT = 204;
    /** The golden scores of the model are not reproduced within the bound. */
    @Native public static final int GOLDEN = 205;
    /** This build or machine cannot run what is asked for, or the native library cannot be loaded. */
    @Native public static final int UNSUPPORTED = 206;
    /** Memory could not be reserved. */
    @Native public static final int OUT_OF_MEMORY = 207;
    /** No feature of that name or slot. */
    @Native public static final int UNKNOWN_FEATURE = 300;
    /** A column without which the request cannot be scored was not given. */
    @Native public static final int MISSING_FEATURE = 301;
    /** A column holds values of another type than its feature. */
    @Native public static final int COLUMN_TYPE = 302;
    /** A column has another number of rows than the call. */
    @Native public static final int COLUMN_LENGTH = 303;
    /** Offsets of bags or texts do not start at 0, descend, or pass the end of the values. */
    @Native public static final int COLUMN_OFFSETS = 304;
    /** A request column was given with the candidates, or the other way round. */
    @Native public static final int COLUMN_SIDE = 305;
    /** Two columns name the same feature. */
    @Native public static final int DUPLICATE_COLUMN = 306;
    /** {@code score} was called before {@code prepare}. */
    @Native public static final int NOT_PREPARED = 307;
    /** No task of that name or index. */
    @Native public static final int UNKNOWN_TASK = 308;
    /** A task was asked for twice. */
    @Native public static final int DUPLICATE_TASK = 309;
    /** A defect of polyscore itself: please report it. */
    @Native public static final int INTERNAL = 900;

    private Status() {}
}
