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
 * Runs Python code through the py3run launcher: one process for each call, one JSON request in, one JSON line back.
 *
 * <p>What the run did, good or bad, is a {@link Result}: a Python exception, a time limit, a refused request. That there
 * is no result at all is an exception: {@link TransportException}. Decide by {@link Result#status}; the exit code is for
 * logs, since a script may return any number itself. Treat a status you do not know as a failure.
 *
 * <p>Copy this file into your project; it needs Java 17 and nothing else. Safe for use by many threads.
 */
public final class Py3Run implements AutoCloseable {

    /** The JSON library of your choice. Both methods throw a RuntimeException for what they cannot do. */
    public interface Json {
        /**
         * Reads one JSON object. Take care that integers stay integers: Gson, for one, makes every number a double
         * unless told otherwise (ToNumberPolicy.LONG_OR_DOUBLE).
         */
        Map<String, Object> parse(String line);

        /** Writes one JSON object. */
        String write(Map<String, Object> request);
    }

    /** There is no result: the launcher could not be spoken to, said too much, or not what protocol 1 promises. */
    public static final class TransportException extends IOException {
        private static final long serialVersionUID = 1L;

        TransportException(String message, Throwable cause) {
            super(message, cause);
        }
    }

    /**
     * What came of a run; deeply unmodifiable.
     *
     * @param status    "ok", "error", "timeout", "memory_limit", "cancelled", ...: see py3run help exit-codes
     * @param value     the field "result"; null also when there is none
     * @param error     null on success
     * @param traceback null on success, and when it was not Python that failed
     * @param stdout    what the code printed; empty when nothing ran
     * @param exitCode  of the launcher
     * @param line      the whole answer as it came, for a log
     * @param auditLine the run's end record from stderr, or null (switched off, or nothing ran)
     * @param fields    the whole answer, parsed: "usage", "limits", "failure", "warnings", "audit", ...
     */
    public record Result(String status, Object value, String error, String traceback, String stdout, int exitCode,
            String line, String auditLine, Map<String, Object> fields) {
        public boolean ok() {
            return status.equals("ok");
        }
    }

    /**
     * The largest answer held in memory. output_mb (10 by default) holds for result, stdout and stderr each, and JSON
     * writes a control character as six bytes, so the worst answer is 18 times that. Rather lower output_mb than raise this.
     */
    private static final int MAX_ANSWER_BYTES = 64 << 20;
    /** Of stderr the end is kept, where the audit line is (at most 4 KiB). */
    private static final int MAX_STDERR_BYTES = 64 << 10;
    /** From SIGTERM to SIGKILL: a cancelled run still needs to be ended, recorded and reported. */
    private static final Duration GRACE = Duration.ofSeconds(5);

    private final List<String> command;
    private final Map<String, String> environment;
    private final Duration margin;
    private final Json json;
    private final Set<Call> live = ConcurrentHashMap.newKeySet();
    private volatile boolean closed;

    /**
     * @param command     the launcher and its arguments, such as List.of("/usr/bin/py3run", "exec"). A list, never one
     *                    string for a shell: nothing in it needs quoting and nothing in it can be misread.
     * @param environment added to this process's own
     * @param margin      what a call may take beyond its timeout: the launcher starts Python before the timeout begins
     *                    and cleans up after it ended. 5 s do on an idle machine; a loaded one wants more.
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
     * Starts a run. The timeout goes into the request's limits, where an operator's limit may tighten it further: the
     * launcher ends the code in time and says what it was doing. The deadline here, timeout plus margin, comes after it
     * and is only for the day the launcher itself hangs. The other way round every timeout would be a blind kill.
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
        // stderr stays apart (no redirectErrorStream): stdout is exactly one line, and must stay parseable.
        Call call = new Call(builder.start(), input, timeout.plus(margin));
        live.add(call);
        if (closed) { // between the start and the line above; close() may not have seen this call
            call.cancel();
        }
        return call;
    }

    /**
     * Cancels every call and waits for the processes to go. Call it when your module stops, and from a shutdown hook:
     * the end of a JVM does not end its child processes. (After a kill -9 of the JVM nothing here runs any more; then
     * only the time limit ends the code. Always give one.)
     */
    @Override
    public void close() {
        closed = true;
        live.forEach(Call::cancel); // all of them first, so that the graces overlap
        live.forEach(Call::reap);
    }

    /** One run under way. Some thread has to call {@link #await}; any thread may call {@link #cancel}. */
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
            // The order matters. A pipe holds about 64 KiB; who writes into a full one sleeps until somebody reads. If we
            // wrote stdin first and the launcher wrote more than that to stdout or stderr meanwhile, both would sleep for
            // good. So both readers run before the first byte is written, and they run on to the end of their stream even
            // when they keep no more of it.
            stdout = inBackground("stdout", () -> drain(process.getInputStream(), MAX_ANSWER_BYTES, false));
            stderr = inBackground("stderr", () -> drain(process.getErrorStream(), MAX_STDERR_BYTES, true));
            // Writing may block as well (a stopped launcher reads nothing), so it must not stand in the way of the deadline.
            inBackground("stdin", () -> {
                try (OutputStream out = process.getOutputStream()) { // closing it is what ends the request
                    out.write(input);
                } catch (IOException brokenPipe) {
                    // The launcher refused the request before it had read all of it, and its answer says why. If it died
                    // instead, there is no answer, and that is what is reported.
                }
                return null;
            });
        }

        /**
         * Asks the launcher to stop (SIGTERM). It ends the code with all its processes and still answers: await returns
         * a result with the status "cancelled". Does nothing when the run is over.
         */
        public void cancel() {
            // Not process.destroy(): on Unix that closes our ends of the pipes as well, and the answer is lost with
            // "Stream closed". The handle sends the same SIGTERM and nothing more.
            process.toHandle().destroy();
        }

        /**
         * Waits for the result. Past the deadline the run is cancelled, and what comes is a result with that status, or
         * an exception if the launcher had to be killed.
         *
         * @throws TransportException   if there is none
         * @throws InterruptedException if this thread was interrupted; the run has been ended then
         */
        public Result await() throws IOException, InterruptedException {
            try {
                boolean late = !process.waitFor(deadline - System.nanoTime(), TimeUnit.NANOSECONDS);
                // SIGTERM before SIGKILL: a launcher that can still answer tells what happened and closes the audit record.
                boolean killed = late && !ended();
                int exitCode = process.waitFor();
                Captured err = collect(stderr);
                return result(collect(stdout), err, exitCode, killed);
            } finally { // also after an interrupt: no caller, no run
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

        /** Waits out the grace, then kills; not to be interrupted, since whoever calls it is on the way out already. */
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

        /** The process has ended; its pipes end with it, unless something else still holds them open. */
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
            // Replacing bad bytes is right for messages to be read by people, and wrong for data: see decode.
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
                if (line.isEmpty() || line.indexOf('\n') != line.length() - 1) { // a part of a line is not a result
                    throw new TransportException(what + ": not one line but " + line.length() + " characters" + said, null);
                }
                line = line.substring(0, line.length() - 1);
                fields = unmodifiable(json.parse(line));
            } catch (CharacterCodingException e) {
                throw new TransportException(what + ": not UTF-8" + said, e);
            } catch (RuntimeException e) { // the JSON library's
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
        thread.setDaemon(true); // never what keeps a JVM alive
        thread.start();
        return task;
    }

    /** Reads to the end, keeps the first or the last max bytes. */
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

    // UTF-8 by name, everywhere. The default charset of Java 17 is the platform's: under LANG=C, as services have it, that
    // is ASCII, and each umlaut becomes a question mark. And strictly: String.getBytes and new String replace what they
    // cannot convert without a word, so the code would run on other data than the caller gave.

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
