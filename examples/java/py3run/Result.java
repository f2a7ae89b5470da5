package py3run;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;

/**
 * The result of a call. It is deeply unmodifiable.
 *
 * @param status    "ok", "error", "timeout", "memory_limit", "cancelled", ...: see py3run help exit-codes
 * @param value     the field "result"; null also if there is no such field
 * @param text      Python's str() of the value, where JSON does not hold it exactly; else, and over the bridge, null
 * @param output    what the code printed
 * @param error     null on success
 * @param traceback null on success, and if something other than Python failed
 * @param runId     of the audit log
 * @param receipt   the end record in the audit log; null if nothing ran, or auditing is switched off
 * @param failure   null on success
 * @param warnings  what was done differently than asked; mostly empty
 * @param fields    the whole answer, parsed: over exec also "usage", "limits", "isolation", "events", ...
 * @param line      the whole answer as text, for a log
 */
public record Result(String status, Object value, String text, String output, String error, String traceback, String runId,
        Receipt receipt, Failure failure, List<Warning> warnings, Map<String, Object> fields, String line) {

    /** Where the audit log has the end of the run: the record's number, and the SHA-256 of its line. */
    public record Receipt(long seq, String hash) {
    }

    /**
     * Why a call failed.
     *
     * @param code       stable, at least as fine as the status
     * @param hint       what helps; may be null
     * @param type       the exception's class; may be null
     * @param line       in your code, from 1; 0 = unknown
     * @param retryable  nothing ran, and the same request may succeed later
     * @param retryAfter how long to wait before that; may be null
     * @param fields     all of it, parsed: "limit", "where", "step", ...
     */
    public record Failure(String code, String message, String hint, String type, int line, boolean retryable,
            Duration retryAfter, Map<String, Object> fields) {
    }

    /** Something was done differently than asked. */
    public record Warning(String code, String message) {
    }

    public boolean ok() {
        return status.equals("ok");
    }

    /**
     * Reads an answer.
     *
     * @throws IllegalArgumentException if it is none of protocol 1
     */
    static Result of(String line, Map<String, Object> fields) {
        if (!(fields.get("success") instanceof Boolean success)) {
            throw new IllegalArgumentException("not a result of protocol 1: " + line.substring(0, Math.min(line.length(), 200)));
        }
        Failure failure = fields.get("failure") instanceof Map<?, ?> f ? failure(f) : null;
        List<Warning> warnings = new ArrayList<>();
        if (fields.get("warnings") instanceof Collection<?> given) {
            for (Object each : given) {
                if (each instanceof Map<?, ?> warning) {
                    warnings.add(new Warning(text(warning, "code"), text(warning, "message")));
                }
            }
        }
        Receipt receipt = fields.get("audit") instanceof Map<?, ?> audit && audit.get("seq") instanceof Number seq
                ? new Receipt(seq.longValue(), text(audit, "hash")) : null;
        String stdout = text(fields, "stdout"); // not over the bridge, whose "output" is the same
        String output = stdout == null ? text(fields, "output") : stdout;
        return new Result(status(fields, success, failure), fields.get("result"), text(fields, "result_text"), output == null ? "" : output,
                text(fields, "error"), text(fields, "traceback"), text(fields, "run_id"), receipt, failure, List.copyOf(warnings), fields, line);
    }

    /** The bridge gives no status, because its protocol is older than that. Its failure says the same. */
    private static String status(Map<String, Object> fields, boolean success, Failure failure) {
        if (fields.get("status") instanceof String status) {
            if (success != status.equals("ok")) {
                throw new IllegalArgumentException("success is " + success + " with the status " + status);
            }
            return status;
        }
        if (success) {
            return "ok";
        }
        if (failure == null || failure.code() == null) {
            return "error";
        }
        return switch (failure.code()) {
            case "python_exception", "python_syntax" -> "error";
            case "working_dir_lost" -> "internal";
            default -> failure.code();
        };
    }

    private static Failure failure(Map<?, ?> f) {
        Duration retryAfter = f.get("retry_after_ms") instanceof Number ms ? Duration.ofMillis(ms.longValue()) : null;
        return new Failure(text(f, "code"), text(f, "message"), text(f, "hint"), text(f, "type"), f.get("line") instanceof Number n ? n.intValue() : 0,
                Boolean.TRUE.equals(f.get("retryable")), retryAfter, Line.unmodifiable(f));
    }

    private static String text(Map<?, ?> fields, String name) {
        return fields.get(name) instanceof String s ? s : null;
    }
}
