package io.polyscore;

/** A model or a scorer is used after it was closed. */
public final class PolyscoreClosedException extends PolyscoreException {
    private static final long serialVersionUID = 1;

    PolyscoreClosedException(String subject, String detail) {
        super(Status.INVALID_HANDLE, subject, detail);
    }
}
