package io.polyscore;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.Buffer;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.nio.LongBuffer;
import java.util.Arrays;

/**
 * The columns of a request or of candidates: for each feature, by its slot, the values of all rows. Made by
 * {@link Model#columns}, used again for every request, one thread's at a time: a second one gets
 * {@link PolyscoreBusyException}.
 *
 * <p>Direct buffers are borrowed: what lies between position and limit at the time of {@code set} is read, in place, by
 * every later call until the feature is set again or {@link #clear} is called. They must be of native byte order
 * ({@code buffer.order(ByteOrder.nativeOrder())}; Java's default is big-endian), and nothing may write them during a call.
 * Java values are copied, into memory that is kept for the next time.
 *
 * <p>A missing value is {@link #MISSING_LONG}, {@link #MISSING_INT}, {@link #MISSING_FLOAT}, an empty text or a null text.
 * Text offsets are one more than there are texts: text {@code i} is the bytes from {@code offsets[i]} to
 * {@code offsets[i + 1]}. Row offsets of bags are the same for values: one more than there are rows. A sequence is set as a
 * bag is.
 *
 * <p>Whether a column fits its feature is checked by {@link Scorer#prepare} and {@link Scorer#score}.
 */
public final class Columns {
    /** A missing {@code long}. */
    public static final long MISSING_LONG = Long.MIN_VALUE;

    /** A missing {@code int}. */
    public static final int MISSING_INT = Integer.MIN_VALUE;

    /** A missing {@code float}: as any that is not finite. */
    public static final float MISSING_FLOAT = Float.NaN;

    private static final int VALUES = 0;
    private static final int TEXT_OFFSETS = 1;
    private static final int ROW_OFFSETS = 2;
    private static final int PARTS = 3;

    private static final VarHandle IS_BUSY;

    static {
        try {
            IS_BUSY = MethodHandles.lookup().findVarHandle(Columns.class, "isBusy", boolean.class);
        } catch (ReflectiveOperationException impossible) {
            throw new ExceptionInInitializerError(impossible);
        }
    }

    final Model model;
    /** A {@code polyscore_column} for each feature that is set, in the order of setting. */
    private final Memory structs;
    /** Where the struct of a slot is in {@link #structs}; -1 if it is not set. The last is that of the item keys. */
    private final int[] places;
    /** The borrowed buffers, three a slot, kept reachable; their addresses are asked for once. */
    private final Buffer[] borrowed;
    private final long[] addresses;
    /** Memory for copied values, three a slot. */
    private final Memory[] copied;
    private int count;
    private boolean isBusy;

    Columns(Model model, int features) {
        this.model = model;
        int slots = features + 1;
        structs = new Memory(slots * Layout.COLUMN_SIZE);
        places = new int[slots];
        Arrays.fill(places, -1);
        borrowed = new Buffer[slots * PARTS];
        addresses = new long[slots * PARTS];
        copied = new Memory[slots * PARTS];
    }

    /** Unsets all features. Memory and borrowed buffers are kept for the next time. */
    public Columns clear() {
        enter();
        Arrays.fill(places, -1);
        count = 0;
        leave();
        return this;
    }

    /**
     * Borrows the item keys of candidates, {@link #MISSING_LONG} for one without, for a model opened with
     * {@link Options#itemBytes}. Candidates with the same key have the same item features, also in later calls: a key that tells
     * the version of an ad apart keeps that so.
     */
    public Columns setItemKeys(LongBuffer keys) {
        return borrow(itemKeys(), Layout.TYPE_I64, keys, keys.order(), Long.BYTES, null, null);
    }

    /** Copies the item keys of candidates. */
    public Columns setItemKeys(long[] keys) {
        int slot = itemKeys();
        begin(slot);
        try {
            put(slot, keys);
            return copy(slot, Layout.TYPE_I64, keys.length, 0, 0);
        } finally {
            leave();
        }
    }

    /** How many features are set, item keys among them. */
    public int count() {
        return count;
    }

    /** Borrows ids, {@link Feature#width} a row. */
    public Columns set(int slot, LongBuffer values) {
        return borrow(known(slot), Layout.TYPE_I64, values, values.order(), Long.BYTES, null, null);
    }

    /** Borrows ids, {@link Feature#width} a row. */
    public Columns set(int slot, IntBuffer values) {
        return borrow(known(slot), Layout.TYPE_I32, values, values.order(), Integer.BYTES, null, null);
    }

    /** Borrows floats, {@link Feature#width} a row. */
    public Columns set(int slot, FloatBuffer values) {
        return borrow(known(slot), Layout.TYPE_F32, values, values.order(), Float.BYTES, null, null);
    }

    /** Borrows texts in UTF-8, {@link Feature#width} a row. */
    public Columns setText(int slot, ByteBuffer text, LongBuffer textOffsets) {
        return borrow(known(slot), Layout.TYPE_TEXT, text, ByteOrder.nativeOrder(), 1, textOffsets, null);
    }

    /** Borrows bags of ids. */
    public Columns setBags(int slot, LongBuffer values, LongBuffer rowOffsets) {
        return borrow(known(slot), Layout.TYPE_I64, values, values.order(), Long.BYTES, null, rowOffsets);
    }

    /** Borrows bags of ids. */
    public Columns setBags(int slot, IntBuffer values, LongBuffer rowOffsets) {
        return borrow(known(slot), Layout.TYPE_I32, values, values.order(), Integer.BYTES, null, rowOffsets);
    }

    /** Borrows bags of floats, for features that cut them into ranges. */
    public Columns setBags(int slot, FloatBuffer values, LongBuffer rowOffsets) {
        return borrow(known(slot), Layout.TYPE_F32, values, values.order(), Float.BYTES, null, rowOffsets);
    }

    /** Borrows bags of texts in UTF-8. */
    public Columns setTextBags(int slot, ByteBuffer text, LongBuffer textOffsets, LongBuffer rowOffsets) {
        return borrow(known(slot), Layout.TYPE_TEXT, text, ByteOrder.nativeOrder(), 1, textOffsets, rowOffsets);
    }

    /** Copies one id, for one row. */
    public Columns set(int slot, long value) {
        enter(slot);
        try {
            room(slot, VALUES, Long.BYTES).putLong(0, value);
            return copy(slot, Layout.TYPE_I64, 1, 0, 0);
        } finally {
            leave();
        }
    }

    /** Copies one float, for one row. */
    public Columns set(int slot, float value) {
        enter(slot);
        try {
            room(slot, VALUES, Float.BYTES).putFloat(0, value);
            return copy(slot, Layout.TYPE_F32, 1, 0, 0);
        } finally {
            leave();
        }
    }

    /** Copies one text, for one row. */
    public Columns set(int slot, String value) {
        enter(slot);
        try {
            int length = encode(value, room(slot, VALUES, mostBytes(value)), 0);
            room(slot, TEXT_OFFSETS, 2 * Long.BYTES).putLong(0, 0).putLong(Long.BYTES, length);
            return copy(slot, Layout.TYPE_TEXT, length, 2, 0);
        } finally {
            leave();
        }
    }

    /** Copies ids, {@link Feature#width} a row. */
    public Columns set(int slot, long[] values) {
        enter(slot);
        try {
            put(slot, values);
            return copy(slot, Layout.TYPE_I64, values.length, 0, 0);
        } finally {
            leave();
        }
    }

    /** Copies floats, {@link Feature#width} a row. */
    public Columns set(int slot, float[] values) {
        enter(slot);
        try {
            ByteBuffer to = room(slot, VALUES, values.length * (long) Float.BYTES);
            for (int i = 0; i < values.length; i++) {
                to.putFloat(i * Float.BYTES, values[i]);
            }
            return copy(slot, Layout.TYPE_F32, values.length, 0, 0);
        } finally {
            leave();
        }
    }

    /** Copies texts, {@link Feature#width} a row. */
    public Columns set(int slot, String[] values) {
        enter(slot);
        try {
            return copy(slot, Layout.TYPE_TEXT, put(slot, values), values.length + 1, 0);
        } finally {
            leave();
        }
    }

    /** Copies one bag of ids, for one row. */
    public Columns setBag(int slot, long... values) {
        enter(slot);
        try {
            put(slot, values);
            putBag(slot, values.length);
            return copy(slot, Layout.TYPE_I64, values.length, 0, 2);
        } finally {
            leave();
        }
    }

    /** Copies one bag of texts, for one row. */
    public Columns setTextBag(int slot, String... values) {
        enter(slot);
        try {
            putBag(slot, values.length);
            return copy(slot, Layout.TYPE_TEXT, put(slot, values), values.length + 1, 2);
        } finally {
            leave();
        }
    }

    /** Takes the columns for one call. */
    void enter() {
        if (!IS_BUSY.compareAndSet(this, false, true)) {
            throw new PolyscoreBusyException("columns", "are in use by another thread");
        }
    }

    void leave() {
        IS_BUSY.setRelease(this, false);
    }

    long address() {
        return structs.address;
    }

    static void require(boolean isSo, String subject, String detail) {
        if (!isSo) {
            throw new PolyscoreInvalidArgumentException(Status.INVALID_ARGUMENT, subject, detail);
        }
    }

    /** Begins to set a slot. Should that fail, no address is left of memory that may be given back. */
    private void enter(int slot) {
        begin(known(slot));
    }

    private int known(int slot) {
        if (slot < 0 || slot >= itemKeys()) {
            throw new PolyscoreInvalidArgumentException(
                    Status.UNKNOWN_FEATURE, "slot " + slot, "is not a feature of the model");
        }
        return slot;
    }

    private int itemKeys() {
        return places.length - 1;
    }

    private void begin(int slot) {
        enter();
        if (places[slot] >= 0) {
            put(slot, Layout.TYPE_I64, 0, 0, 0, 0, 0, 0);
        }
    }

    private Columns borrow(
            int slot, int type, Buffer values, ByteOrder order, int size, LongBuffer textOffsets, LongBuffer rowOffsets) {
        begin(slot);
        try {
            int position = values.position();
            int length = Math.max(values.limit() - position, 0);
            long at = address(slot, VALUES, values, order) + (long) position * size;
            int texts = 0;
            long textsAt = 0;
            if (textOffsets != null) {
                int start = textOffsets.position();
                texts = Math.max(textOffsets.limit() - start, 0);
                textsAt = address(slot, TEXT_OFFSETS, textOffsets, textOffsets.order()) + (long) start * Long.BYTES;
            }
            int rows = 0;
            long rowsAt = 0;
            if (rowOffsets != null) {
                int start = rowOffsets.position();
                rows = Math.max(rowOffsets.limit() - start, 0);
                rowsAt = address(slot, ROW_OFFSETS, rowOffsets, rowOffsets.order()) + (long) start * Long.BYTES;
            }
            return put(slot, type, at, length, textsAt, texts, rowsAt, rows);
        } finally {
            leave();
        }
    }

    private long address(int slot, int part, Buffer buffer, ByteOrder order) {
        int index = slot * PARTS + part;
        if (borrowed[index] != buffer) {
            if (!buffer.isDirect()) {
                throw refused(slot, "needs a direct buffer; use ByteBuffer.allocateDirect, or set an array to copy it");
            }
            if (order != ByteOrder.nativeOrder()) {
                throw refused(slot, "needs a buffer of native byte order; use order(ByteOrder.nativeOrder())");
            }
            addresses[index] = Native.address(buffer);
            borrowed[index] = buffer;
        }
        return addresses[index];
    }

    private PolyscoreException refused(int slot, String detail) {
        return new PolyscoreInvalidArgumentException(Status.INVALID_ARGUMENT, slot == itemKeys() ? "item keys" : model.subject(slot), detail);
    }

    /** Memory for a copied part; what was there is lost if it has to grow. */
    private ByteBuffer room(int slot, int part, long bytes) {
        Memory memory = copied[slot * PARTS + part];
        if (memory == null || memory.bytes.capacity() < bytes) {
            if (bytes > 1 << 30) {
                throw refused(slot, "has more than 1 GiB to copy; borrow a direct buffer");
            }
            memory = new Memory(Math.max(64, Integer.highestOneBit((int) bytes - 1) << 1));
            copied[slot * PARTS + part] = memory;
        }
        return memory.bytes;
    }

    private void put(int slot, long[] values) {
        ByteBuffer to = room(slot, VALUES, values.length * (long) Long.BYTES);
        for (int i = 0; i < values.length; i++) {
            to.putLong(i * Long.BYTES, values[i]);
        }
    }

    /** Writes texts and their offsets; returns their bytes. */
    private int put(int slot, String[] values) {
        long most = 0;
        for (String value : values) {
            most += mostBytes(value);
        }
        ByteBuffer to = room(slot, VALUES, most);
        ByteBuffer offsets = room(slot, TEXT_OFFSETS, (values.length + 1L) * Long.BYTES);
        int end = 0;
        offsets.putLong(0, 0);
        for (int i = 0; i < values.length; i++) {
            end = encode(values[i], to, end);
            offsets.putLong((i + 1) * Long.BYTES, end);
        }
        return end;
    }

    private void putBag(int slot, int length) {
        room(slot, ROW_OFFSETS, 2 * Long.BYTES).putLong(0, 0).putLong(Long.BYTES, length);
    }

    private static long mostBytes(String text) {
        return text == null ? 0 : 3L * text.length();
    }

    /**
     * Writes a text as UTF-8 from byte {@code at} and returns its end. A surrogate without its other half becomes a question
     * mark, as {@link String#getBytes} has it.
     */
    private static int encode(String text, ByteBuffer to, int at) {
        int length = text == null ? 0 : text.length();
        int end = at;
        for (int i = 0; i < length; i++) {
            int c = text.codePointAt(i);
            if (c < 0x80) {
                to.put(end++, (byte) c);
            } else if (c < 0x800) {
                to.put(end++, (byte) (0xC0 | c >> 6));
                to.put(end++, (byte) (0x80 | c & 0x3F));
            } else if (c >= 0x10000) {
                to.put(end++, (byte) (0xF0 | c >> 18));
                to.put(end++, (byte) (0x80 | c >> 12 & 0x3F));
                to.put(end++, (byte) (0x80 | c >> 6 & 0x3F));
                to.put(end++, (byte) (0x80 | c & 0x3F));
                i++;
            } else if (Character.isSurrogate((char) c)) {
                to.put(end++, (byte) '?');
            } else {
                to.put(end++, (byte) (0xE0 | c >> 12));
                to.put(end++, (byte) (0x80 | c >> 6 & 0x3F));
                to.put(end++, (byte) (0x80 | c & 0x3F));
            }
        }
        return end;
    }

    private Columns copy(int slot, int type, long values, long textOffsets, long rowOffsets) {
        return put(slot, type, copied(slot, VALUES), values, copied(slot, TEXT_OFFSETS), textOffsets,
                copied(slot, ROW_OFFSETS), rowOffsets);
    }

    private long copied(int slot, int part) {
        Memory memory = copied[slot * PARTS + part];
        return memory == null ? 0 : memory.address;
    }

    private Columns put(
            int slot, int type, long values, long valuesLength, long texts, long textsLength, long rows, long rowsLength) {
        if (places[slot] < 0) {
            places[slot] = count++;
        }
        int at = places[slot] * Layout.COLUMN_SIZE;
        structs.bytes
                .putInt(at, Layout.COLUMN_SIZE)
                .putInt(at + Layout.COLUMN_FEATURE, slot == itemKeys() ? Layout.ITEM_KEY : slot)
                .putInt(at + Layout.COLUMN_TYPE, type)
                .putLong(at + Layout.COLUMN_VALUES, values)
                .putLong(at + Layout.COLUMN_VALUES_LEN, valuesLength)
                .putLong(at + Layout.COLUMN_TEXT_OFFSETS, texts)
                .putLong(at + Layout.COLUMN_TEXT_OFFSETS_LEN, textsLength)
                .putLong(at + Layout.COLUMN_ROW_OFFSETS, rows)
                .putLong(at + Layout.COLUMN_ROW_OFFSETS_LEN, rowsLength);
        return this;
    }
}
