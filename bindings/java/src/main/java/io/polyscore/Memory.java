package io.polyscore;

import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;

/**
 * Zeroed native memory and its address. It is freed some time after it became unreachable; {@link #close} at the end of a
 * {@code try} keeps it until there, since the address alone does not.
 */
final class Memory implements AutoCloseable {
    final ByteBuffer bytes;
    final long address;

    Memory(int size) {
        bytes = ByteBuffer.allocateDirect(size).order(ByteOrder.nativeOrder());
        address = Native.address(bytes);
    }

    /** A struct of the C ABI, which begins with its size. */
    static Memory struct(int size) {
        Memory memory = new Memory(size);
        memory.bytes.putInt(0, size);
        return memory;
    }

    /** A function that fills in a struct. */
    interface Reader {
        int read(long out, long error);
    }

    /** A struct that a function fills in. */
    static Memory read(int size, Reader reader) {
        Memory memory = struct(size);
        try (NativeError error = new NativeError()) {
            error.check(reader.read(memory.address, error.address()));
        }
        return memory;
    }

    /** A NUL-terminated text. */
    static Memory text(String text) {
        byte[] encoded = text.getBytes(StandardCharsets.UTF_8);
        Memory memory = new Memory(encoded.length + 1);
        memory.bytes.put(encoded).clear();
        return memory;
    }

    /** The NUL-terminated text in {@code capacity} bytes from {@code offset}. */
    String text(int offset, int capacity) {
        int length = 0;
        while (length < capacity && bytes.get(offset + length) != 0) {
            length++;
        }
        byte[] encoded = new byte[length];
        for (int i = 0; i < length; i++) {
            encoded[i] = bytes.get(offset + i);
        }
        return new String(encoded, StandardCharsets.UTF_8);
    }

    @Override
    public void close() {
        Reference.reachabilityFence(bytes);
    }
}
