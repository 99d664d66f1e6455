package io.polyscore;

/**
 * A failure: its code, the guilty thing, and what is wrong with it. What a failed call would have written is unchanged,
 * except that a scorer whose {@code prepare} failed is unprepared.
 */
public class PolyscoreException extends RuntimeException {
    private static final long serialVersionUID = 1;

    /** One of {@link Status}. */
    private final int code;

    /** The guilty thing. */
    private final String subject;

    PolyscoreException(int code, String subject, String detail) {
        super(subject.isEmpty() ? detail : subject + ": " + detail);
        this.code = code;
        this.subject = subject;
    }

    static PolyscoreException of(int code, String subject, String detail) {
        if (code == Status.INVALID_HANDLE) {
            return new PolyscoreClosedException(subject, detail);
        }
        if (code == Status.BUSY) {
            return new PolyscoreBusyException(subject, detail);
        }
        if (code == Status.UNSUPPORTED) {
            return new PolyscoreUnsupportedException(subject, detail);
        }
        if (code / 100 == 1 || code / 100 == 3) {
            return new PolyscoreInvalidArgumentException(code, subject, detail);
        }
        if (code >= Status.FORMAT && code <= Status.GOLDEN) {
            return new PolyscoreModelFormatException(code, subject, detail);
        }
        return new PolyscoreException(code, subject, detail);
    }

    /** The code of the failure, one of {@link Status}. */
    public int code() {
        return code;
    }

    /** The guilty thing: a file, a JSON path, a tensor, a feature or task as in {@code feature `age`}, an argument. */
    public String subject() {
        return subject;
    }
}
