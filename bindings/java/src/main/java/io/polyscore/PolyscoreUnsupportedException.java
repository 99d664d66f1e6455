package io.polyscore;

/** This build or machine cannot run what is asked for, or the native library cannot be loaded. */
public final class PolyscoreUnsupportedException extends PolyscoreException {
    private static final long serialVersionUID = 1;

    PolyscoreUnsupportedException(String subject, String detail) {
        super(Status.UNSUPPORTED, subject, detail);
    }
}
