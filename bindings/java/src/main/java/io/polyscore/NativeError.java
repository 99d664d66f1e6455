package io.polyscore;

/** A {@code polyscore_error}, and its way to an exception. */
final class NativeError implements AutoCloseable {
    private final Memory memory = Memory.struct(Layout.ERROR_SIZE);

    long address() {
        return memory.address;
    }

    /** Throws what the call that returned {@code status} wrote here, unless it succeeded. */
    void check(int status) {
        if (status != Status.OK) {
            String subject = memory.text(Layout.ERROR_SUBJECT, Layout.ERROR_MESSAGE - Layout.ERROR_SUBJECT);
            String detail = memory.text(Layout.ERROR_MESSAGE, Layout.ERROR_SIZE - Layout.ERROR_MESSAGE);
            throw PolyscoreException.of(status, subject, detail);
        }
    }

    @Override
    public void close() {
        memory.close();
    }
}
