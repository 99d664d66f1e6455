package io.polyscore;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.nio.LongBuffer;
import java.nio.charset.StandardCharsets;

/** Direct buffers of native order with values in them. */
final class Direct {
    private Direct() {}

    static ByteBuffer bytes(int size) {
        return ByteBuffer.allocateDirect(size).order(ByteOrder.nativeOrder());
    }

    static LongBuffer longs(long... values) {
        return bytes(values.length * Long.BYTES).asLongBuffer().put(values).flip();
    }

    static IntBuffer ints(int... values) {
        return bytes(values.length * Integer.BYTES).asIntBuffer().put(values).flip();
    }

    static FloatBuffer floats(float... values) {
        return bytes(values.length * Float.BYTES).asFloatBuffer().put(values).flip();
    }

    static ByteBuffer text(String... values) {
        byte[] encoded = String.join("", values).getBytes(StandardCharsets.UTF_8);
        return bytes(encoded.length).put(encoded).flip();
    }

    static LongBuffer offsets(String... values) {
        long[] offsets = new long[values.length + 1];
        for (int i = 0; i < values.length; i++) {
            offsets[i + 1] = offsets[i] + values[i].getBytes(StandardCharsets.UTF_8).length;
        }
        return longs(offsets);
    }
}
