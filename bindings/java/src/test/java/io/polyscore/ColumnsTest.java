package io.polyscore;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.nio.LongBuffer;
import java.nio.file.Path;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ColumnsTest {
    @TempDir
    Path directory;

    private Model model;
    private Columns columns;

    @BeforeEach
    void open() {
        model = new TinyModel().open(directory);
        columns = model.columns();
    }

    @AfterEach
    void close() {
        model.close();
    }

    private void refused(String what, Runnable call) {
        PolyscoreException failure = assertThrows(PolyscoreInvalidArgumentException.class, call::run);
        assertEquals(Status.INVALID_ARGUMENT, failure.code());
        assertTrue(failure.getMessage().contains(what), failure.getMessage());
    }

    @Test
    void refusesHeapBuffers() {
        refused("feature `user`: needs a direct buffer", () -> columns.set(0, LongBuffer.allocate(1)));
        refused("feature `user`: needs a direct buffer", () -> columns.set(0, IntBuffer.allocate(1)));
        refused("feature `age`: needs a direct buffer", () -> columns.set(3, FloatBuffer.allocate(1)));
        refused("feature `zip`: needs a direct buffer", () -> columns.setText(2, ByteBuffer.allocate(1), Direct.longs(0, 1)));
        refused("feature `zip`: needs a direct buffer", () -> columns.setText(2, Direct.text("a"), LongBuffer.allocate(2)));
        refused("feature `history`: needs a direct buffer", () -> columns.setBags(1, Direct.longs(1), LongBuffer.allocate(2)));
        refused("need a direct buffer", () -> model.scores(FloatBuffer.allocate(9)));
    }

    @Test
    void refusesBuffersOfTheOtherByteOrder() {
        ByteOrder other =
                ByteOrder.nativeOrder() == ByteOrder.LITTLE_ENDIAN ? ByteOrder.BIG_ENDIAN : ByteOrder.LITTLE_ENDIAN;
        ByteBuffer bytes = ByteBuffer.allocateDirect(64).order(other);
        refused("native byte order", () -> columns.set(0, bytes.asLongBuffer()));
        refused("native byte order", () -> columns.set(0, bytes.asIntBuffer()));
        refused("native byte order", () -> columns.set(3, bytes.asFloatBuffer()));
        refused("native byte order", () -> columns.setBags(1, Direct.ints(1), bytes.asLongBuffer()));
        refused("native byte order", () -> columns.setText(2, bytes, bytes.asLongBuffer()));
        refused("native byte order", () -> model.scores(bytes.asFloatBuffer()));
        refused("can be written", () -> model.scores(Direct.floats(1, 2, 3).asReadOnlyBuffer()));
    }

    @Test
    void refusesMisalignedBuffers() {
        ByteBuffer bytes = Direct.bytes(17).position(1);
        columns.set(0, bytes.slice().order(ByteOrder.nativeOrder()).asLongBuffer().limit(1)).setBag(1);
        try (Scorer scorer = model.scorer()) {
            refused("not aligned", () -> scorer.prepare(0, columns));
        }
    }

    @Test
    void refusesSlotsThatTheModelHasNot() {
        for (int slot : new int[] {-1, 9, Integer.MAX_VALUE, Integer.MIN_VALUE}) {
            PolyscoreException failure = assertThrows(PolyscoreInvalidArgumentException.class, () -> columns.set(slot, 1L));
            assertEquals(Status.UNKNOWN_FEATURE, failure.code());
        }
    }

    @Test
    void aColumnThatFailedToBeSetHoldsNoValues() {
        columns.set(0, 1L).setBag(1, 2, 3);
        try (Scorer scorer = model.scorer()) {
            scorer.prepare(0, columns);
            refused("direct", () -> columns.set(0, LongBuffer.allocate(1)));
            PolyscoreException failure =
                    assertThrows(PolyscoreInvalidArgumentException.class, () -> scorer.prepare(0, columns));
            assertEquals(Status.COLUMN_LENGTH, failure.code());
            assertEquals("feature `user`", failure.subject());
            columns.set(0, 1L);
            scorer.prepare(0, columns);
        }
    }

    @Test
    void clearUnsetsAll() {
        columns.set(0, 1L).setBag(1, 2, 3).clear();
        assertEquals(0, columns.count());
        try (Scorer scorer = model.scorer()) {
            PolyscoreException failure =
                    assertThrows(PolyscoreInvalidArgumentException.class, () -> scorer.prepare(0, columns));
            assertEquals(Status.MISSING_FEATURE, failure.code());
        }
    }

    @Test
    void setAgainReplaces() {
        columns.set(0, 1L).set(0, 2L).set(0, Direct.longs(99)).setBag(1, 1).setBag(1).setBag(1, new long[1000]);
        assertEquals(2, columns.count());
        try (Scorer scorer = model.scorer()) {
            scorer.prepare(0, columns);
            assertEquals(1, scorer.counters(0).outOfVocabulary());
            assertEquals(1000, scorer.counters(1).values());
        }
    }
}
