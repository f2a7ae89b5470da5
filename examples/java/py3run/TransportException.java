package py3run;

import java.io.IOException;

/** There is no result. */
public final class TransportException extends IOException {
    private static final long serialVersionUID = 1L;

    /** What happened. */
    public enum Kind {
        /** The launcher cannot be started. Nothing ran. */
        NOT_STARTED,
        /** All processes stayed busy for as long as a call waits. Nothing ran. */
        BUSY,
        /** The client is closed. Nothing ran. */
        CLOSED,
        /** You cancelled the call: before it began, or the launcher gave no answer any more. */
        CANCELLED,
        /** The launcher ended without an answer. */
        DIED,
        /** The launcher gave no answer in time, and was killed. */
        DEADLINE,
        /** The answer is no result of protocol 1, or larger than this client takes. */
        BAD_ANSWER
    }

    private final Kind kind;
    private final boolean mayHaveRun;

    private TransportException(Kind kind, boolean mayHaveRun, String message, Throwable cause) {
        super(message, cause);
        this.kind = kind;
        this.mayHaveRun = mayHaveRun;
    }

    static TransportException nothingRan(Kind kind, String message, Throwable cause) {
        return new TransportException(kind, false, message, cause);
    }

    static TransportException mayHaveRun(Kind kind, String message, Throwable cause) {
        return new TransportException(kind, true, message, cause);
    }

    /** The same with the stack of this thread, and a longer message. */
    TransportException with(String more) {
        return new TransportException(kind, mayHaveRun, getMessage() + more, this);
    }

    public Kind kind() {
        return kind;
    }

    /** False: none of your code ran, and you can repeat the call. True: look into the audit log first. */
    public boolean mayHaveRun() {
        return mayHaveRun;
    }
}
