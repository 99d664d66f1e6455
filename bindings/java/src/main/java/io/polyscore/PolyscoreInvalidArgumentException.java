package io.polyscore;

/** An argument, a column or the order of calls is wrong: codes 100 to 106 and 300 to 309. */
public final class PolyscoreInvalidArgumentException extends PolyscoreException {
    private static final long serialVersionUID = 1;

    PolyscoreInvalidArgumentException(int code, String subject, String detail) {
        super(code, subject, detail);
    }
}
