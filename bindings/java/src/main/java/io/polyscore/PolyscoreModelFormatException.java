package io.polyscore;

/** A model file is damaged, breaks the rules of the format, or fails its golden requests: codes 201 to 205. */
public final class PolyscoreModelFormatException extends PolyscoreException {
    private static final long serialVersionUID = 1;

    PolyscoreModelFormatException(int code, String subject, String detail) {
        super(code, subject, detail);
    }
}
