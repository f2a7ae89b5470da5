import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * Runs Python code through the py3run launcher. Each call starts one process, sends it one JSON request and
 * reads one JSON line back.
 *
 * <p>Every end of a run is a {@link Result}, also a Python exception, a time limit or a refused request. If
 * there is no result at all, you get an exception: {@link TransportException}. Decide by {@link Result#status}.
 * The exit code is for logs, since a script may return any number itself. Treat a status that you do not know
 * as a failure.
 *
 * <p>Copy this file into your project. It needs Java 17 and nothing else. Many threads can share an instance.
 */
public final class Py3Run implements AutoCloseable {

    /** The JSON library of your choice. Both methods throw a RuntimeException if they fail. */
    public interface Json {
        /**
         * Reads one JSON object. Integers must stay integers: Gson, for example, makes every number a double
         * unless you set ToNumberPolicy.LONG_OR_DOUBLE.
         */
        Map<String, Object> parse(String line);

        /** Writes one JSON object. */
        String write(Map<String, Object> request);
    }

    /** There is no result: the launcher could not be reached, printed too much, or broke protocol 1. */
    public static final class TransportException extends IOException {
        private static final long serialVersionUID = 1L;

        TransportException(String message, Throwable cause) {
            super(message, cause);
        }
    }

    /**
     * The result of a run. It is deeply unmodifiable.
     *
     * @param status    "ok", "error", "timeout", "memory_limit", "cancelled", ...: see py3run help exit-codes
     * @param value     the field "result"; null also if there is no such field
     * @param error     null on success
     * @param traceback null on success, and if something other than Python failed
     * @param stdout    what the code printed; empty if nothing ran
     * @param exitCode  the exit code of the launcher
     * @param line      the whole answer as text, for a log
     * @param auditLine the run's end record from stderr; null if it is switched off or nothing ran
     * @param fields    the whole answer, parsed: "usage", "limits", "failure", "warnings", "audit", ...
     */
    public record Result(String status, Object value, String error, String traceback, String stdout, int exitCode,
            String line, String auditLine, Map<String, Object> fields) {
        public boolean ok() {
            return status.equals("ok");
        }
    }

    /**
     * The largest answer to hold in memory. output_mb (10 by default) limits the JSON of result, stdout and
     * stderr each, and the field "output" repeats stdout, so an answer has at most about four times that. Lower
     * output_mb rather than raise this.
     */
    private static final int MAX_ANSWER_BYTES = 64 << 20;
    /** How much of the end of stderr to keep. The audit line (at most 4 KiB) is the last line. */
    private static final int MAX_STDERR_BYTES = 64 << 10;
    /** From SIGTERM to SIGKILL. The launcher needs time to end a cancelled run, record it and report it. */
    private static final Duration GRACE = Duration.ofSeconds(5);

    private final List<String> command;
    private final Map<String, String> environment;
    private final Duration margin;
    private final Json json;
    private final Set<Call> live = ConcurrentHashMap.newKeySet();
    private volatile boolean closed;

    /**
     * @param command     the launcher and its arguments, such as List.of("/usr/bin/py3run", "exec"). A list, and
     *                    not one string for a shell, so nothing in it needs quoting.
     * @param environment variables to add to those of this process
     * @param margin      how long a call may take beyond its timeout. The launcher starts Python before the
     *                    timeout begins, and cleans up after it. 5 s are enough on an idle machine; a loaded
     *                    one needs more.
     */
    public Py3Run(List<String> command, Map<String, String> environment, Duration margin, Json json) {
        this.command = List.copyOf(command);
        this.environment = Map.copyOf(environment);
        this.margin = margin;
        this.json = json;
    }

    /** Starts a run and waits for its result. */
    public Result run(Map<String, Object> request, Duration timeout) throws IOException, InterruptedException {
        return start(request, timeout).await();
    }

    /**
     * Starts a run. The timeout becomes a limit of the request, and an operator's limit may tighten it further.
     * The launcher ends the code at that limit and reports what the code was doing. The deadline here is timeout
     * plus margin: it comes later, and only matters if the launcher itself hangs. If it came first, every
     * timeout would be a kill without a report.
     *
     * @throws IllegalArgumentException if the request cannot be written as JSON; nothing was started
     */
    public Call start(Map<String, Object> request, Duration timeout) throws IOException {
        Map<String, Object> limits = new LinkedHashMap<>();
        if (request.get("limits") instanceof Map<?, ?> given) {
            given.forEach((name, value) -> limits.put((String) name, value));
        }
        limits.put("timeout_seconds", timeout.toMillis() / 1000.0);
        Map<String, Object> complete = new LinkedHashMap<>(request);
        complete.put("limits", limits);
        byte[] input = encode(json.write(complete));

        ProcessBuilder builder = new ProcessBuilder(command);
        builder.environment().putAll(environment);
        // Do not merge stderr (redirectErrorStream): stdout must stay exactly one line of JSON.
        Call call = new Call(builder.start(), input, timeout.plus(margin));
        live.add(call);
        if (closed) { // close() ran before the line above, and may not have seen this call
            call.cancel();
        }
        return call;
    }

    /**
     * Cancels every call and waits until the processes have ended. Call it when your module stops, and from a
     * shutdown hook: the end of a JVM does not end its child processes. After a kill -9 of the JVM this code
     * does not run, and only the time limit ends a run. So always set one.
     */
    @Override
    public void close() {
        closed = true;
        live.forEach(Call::cancel); // cancel all first, so that they end at the same time
        live.forEach(Call::reap);
    }

    /** One run in progress. Some thread has to call {@link #await}; any thread may call {@link #cancel}. */
    public final class Call {
        private final Process process;
        private final long deadline;
        private final long cap;
        private final FutureTask<Captured> stdout;
        private final FutureTask<Captured> stderr;

        private Call(Process process, byte[] input, Duration cap) {
            this.process = process;
            this.cap = cap.toNanos();
            this.deadline = System.nanoTime() + this.cap;
            // The order matters. A pipe holds about 64 KiB, and a write to a full pipe blocks. Suppose we wrote
            // stdin first, and the launcher wrote more than that to stdout or stderr meanwhile: both sides would
            // block for ever. So both readers start before we write the first byte. They read to the end of
            // their stream, even if they keep no more of it.
            stdout = inBackground("stdout", () -> drain(process.getInputStream(), MAX_ANSWER_BYTES, false));
            stderr = inBackground("stderr", () -> drain(process.getErrorStream(), MAX_STDERR_BYTES, true));
            // Writing may block too, because a stopped launcher reads nothing. So it runs in the background:
            // the deadline must not wait for it.
            inBackground("stdin", () -> {
                try (OutputStream out = process.getOutputStream()) { // closing it ends the request
                    out.write(input);
                } catch (IOException brokenPipe) {
                    // The launcher refused the request before it had read all of it; its answer says why. Or
                    // the launcher died; then there is no answer, and result() reports that.
                }
                return null;
            });
        }

        /**
         * Asks the launcher to stop (SIGTERM). The launcher ends the code with all its processes and still
         * answers: await returns a result with the status "cancelled". After the run this does nothing.
         */
        public void cancel() {
            // Not process.destroy(): on Unix that also closes our ends of the pipes, and the answer would be
            // lost ("Stream closed"). The handle only sends SIGTERM.
            process.toHandle().destroy();
        }

        /**
         * Waits for the result. At the deadline it cancels the run, and returns a result with that status. If it
         * has to kill the launcher, it throws an exception.
         *
         * @throws TransportException   if there is no result
         * @throws InterruptedException if this thread was interrupted; the run has ended then
         */
        public Result await() throws IOException, InterruptedException {
            try {
                boolean late = !process.waitFor(deadline - System.nanoTime(), TimeUnit.NANOSECONDS);
                // SIGTERM before SIGKILL: a launcher that still works can report the run and write its end record.
                boolean killed = late && !ended();
                int exitCode = process.waitFor();
                Captured err = collect(stderr);
                return result(collect(stdout), err, exitCode, killed);
            } finally { // also after an interrupt: a run without a caller must not go on
                if (process.isAlive()) {
                    cancel();
                    reap();
                }
                live.remove(this);
            }
        }

        private boolean ended() throws InterruptedException {
            cancel();
            if (process.waitFor(GRACE.toNanos(), TimeUnit.NANOSECONDS)) {
                return true;
            }
            process.toHandle().destroyForcibly(); // the sandbox ends with the launcher
            return false;
        }

        /** Waits for the grace period, then kills. It ignores interrupts: its callers are ending anyway. */
        private void reap() {
            boolean interrupted = false;
            long end = System.nanoTime() + GRACE.toNanos();
            while (process.isAlive()) {
                try {
                    if (!process.waitFor(end - System.nanoTime(), TimeUnit.NANOSECONDS)) {
                        process.toHandle().destroyForcibly();
                        process.waitFor();
                    }
                } catch (InterruptedException e) {
                    interrupted = true;
                }
            }
            if (interrupted) {
                Thread.currentThread().interrupt();
            }
        }

        /** Call it after the end of the process. The pipes end too, unless another process holds them open. */
        private Captured collect(FutureTask<Captured> reader) throws IOException, InterruptedException {
            try {
                return reader.get(GRACE.toNanos(), TimeUnit.NANOSECONDS);
            } catch (TimeoutException e) {
                throw new TransportException("py3run ended, but its output does not", e);
            } catch (ExecutionException e) {
                throw new TransportException("read from py3run: " + e.getCause(), e.getCause());
            }
        }

        private Result result(Captured out, Captured err, int exitCode, boolean killed) throws TransportException {
            // Replacing bad bytes is right for messages to people, and wrong for data: see decode.
            String messages = new String(err.bytes(), StandardCharsets.UTF_8).strip();
            String what = killed ? "py3run did not end within " + Duration.ofNanos(cap) + " and was killed" : "py3run gave no valid result";
            what += " (exit code " + exitCode + ")";
            String said = messages.isEmpty() ? "" : "; stderr ends: " + messages.substring(Math.max(0, messages.length() - 500));
            if (out.truncated()) {
                throw new TransportException(what + ": more than " + MAX_ANSWER_BYTES + " bytes" + said, null);
            }
            String line;
            Map<String, Object> fields;
            try {
                line = decode(out.bytes());
                if (line.isEmpty() || line.indexOf('\n') != line.length() - 1) { // an incomplete line is not a result
                    throw new TransportException(what + ": not one line but " + line.length() + " characters" + said, null);
                }
                line = line.substring(0, line.length() - 1);
                fields = unmodifiable(json.parse(line));
            } catch (CharacterCodingException e) {
                throw new TransportException(what + ": not UTF-8" + said, e);
            } catch (RuntimeException e) { // from the JSON library
                throw new TransportException(what + ": " + e.getMessage() + said, e);
            }
            if (!(fields.get("status") instanceof String status) || !(fields.get("success") instanceof Boolean success)
                    || success != status.equals("ok")) {
                throw new TransportException(what + ": not a result of protocol 1" + said, null);
            }
            String lastLine = messages.substring(messages.lastIndexOf('\n') + 1);
            return new Result(status, fields.get("result"), text(fields, "error"), text(fields, "traceback"),
                    fields.get("stdout") instanceof String s ? s : "", exitCode, line, lastLine.startsWith("{") ? lastLine : null, fields);
        }
    }

    private record Captured(byte[] bytes, boolean truncated) {
    }

    private static <T> FutureTask<T> inBackground(String name, Callable<T> work) {
        FutureTask<T> task = new FutureTask<>(work);
        Thread thread = new Thread(task, "py3run-" + name);
        thread.setDaemon(true); // it must not keep the JVM alive
        thread.start();
        return task;
    }

    /** Reads to the end and keeps the first or the last max bytes. */
    private static Captured drain(InputStream in, int max, boolean keepEnd) throws IOException {
        ByteArrayOutputStream kept = new ByteArrayOutputStream();
        boolean truncated = false;
        byte[] chunk = new byte[16 << 10];
        for (int n; (n = in.read(chunk)) >= 0;) {
            if (keepEnd) {
                kept.write(chunk, 0, n);
                if (kept.size() > 2 * max) {
                    kept = tail(kept, max);
                    truncated = true;
                }
            } else {
                int room = Math.min(n, max - kept.size());
                kept.write(chunk, 0, room);
                truncated |= room < n;
            }
        }
        if (kept.size() > max) {
            kept = tail(kept, max);
            truncated = true;
        }
        return new Captured(kept.toByteArray(), truncated);
    }

    private static ByteArrayOutputStream tail(ByteArrayOutputStream from, int max) {
        byte[] all = from.toByteArray();
        ByteArrayOutputStream kept = new ByteArrayOutputStream();
        kept.writeBytes(Arrays.copyOfRange(all, all.length - max, all.length));
        return kept;
    }

    // Name UTF-8 everywhere. The default charset of Java 17 is that of the platform: for a service, which often
    // has LANG=C, it is ASCII, and every umlaut becomes a question mark. And convert strictly: String.getBytes
    // and new String silently replace what they cannot convert, so the code would get other data than the
    // caller gave.

    private static byte[] encode(String text) {
        try {
            ByteBuffer bytes = StandardCharsets.UTF_8.newEncoder().encode(CharBuffer.wrap(text));
            return Arrays.copyOf(bytes.array(), bytes.limit());
        } catch (CharacterCodingException e) {
            throw new IllegalArgumentException("the request holds half of a surrogate pair", e);
        }
    }

    private static String decode(byte[] bytes) throws CharacterCodingException {
        return StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString();
    }

    private static String text(Map<String, Object> fields, String name) {
        return fields.get(name) instanceof String s ? s : null;
    }

    private static Map<String, Object> unmodifiable(Map<?, ?> map) {
        Map<String, Object> copy = new LinkedHashMap<>(); // not Map.copyOf: JSON has null
        map.forEach((name, value) -> copy.put((String) name, frozen(value)));
        return Collections.unmodifiableMap(copy);
    }

    private static Object frozen(Object value) {
        if (value instanceof Map<?, ?> map) {
            return unmodifiable(map);
        }
        if (value instanceof List<?> list) {
            List<Object> copy = new ArrayList<>(list.size());
            list.forEach(element -> copy.add(frozen(element)));
            return Collections.unmodifiableList(copy);
        }
        return value;
    }
}
