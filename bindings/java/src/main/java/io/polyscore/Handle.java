package io.polyscore;

import java.lang.ref.Cleaner;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.LongUnaryOperator;

/**
 * A native handle that is closed once: by its owner, or by the cleaner after the owner was forgotten.
 *
 * <p>Handles are never dereferenced and never reused natively, so a thread that read the value just before another closed it
 * gets {@code INVALID_HANDLE}, and a call that is under way finishes first.
 */
final class Handle implements Runnable {
    private static final Cleaner CLEANER = Cleaner.create();

    private final String subject;
    private final AtomicLong value;
    private final LongUnaryOperator release;

    private Handle(String subject, long value, LongUnaryOperator release) {
        this.subject = subject;
        this.value = new AtomicLong(value);
        this.release = release;
    }

    /** {@code release} may not refer to {@code owner}. */
    static Handle of(Object owner, String subject, long value, LongUnaryOperator release) {
        Handle handle = new Handle(subject, value, release);
        CLEANER.register(owner, handle);
        return handle;
    }

    /** The handle; throws once it is closed. */
    long value() {
        long current = value.get();
        if (current == 0) {
            throw new PolyscoreClosedException(subject, "is closed");
        }
        return current;
    }

    /** Closes; a second time does nothing. */
    @Override
    public void run() {
        long last = value.getAndSet(0);
        if (last != 0) {
            release.applyAsLong(last);
        }
    }
}
