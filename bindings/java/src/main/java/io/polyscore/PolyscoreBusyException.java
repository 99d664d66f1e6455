package io.polyscore;

/** Two threads use one scorer, or one set of columns, at the same time. */
public final class PolyscoreBusyException extends PolyscoreException {
    private static final long serialVersionUID = 1;

    PolyscoreBusyException(String subject, String detail) {
        super(Status.BUSY, subject, detail);
    }
}
