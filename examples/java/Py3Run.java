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
import java.util.Collection;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedDeque;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.FutureTask;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.Semaphore;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Consumer;

/**
 * Runs Python code through py3run, over one of two transports:
 *
 * <ul>
 * <li>{@code exec}: each call starts a launcher, and at most {@code processes} of them run at once.
 * <li>{@code bridge}: a pool of at most {@code processes} launchers, each of which serves one call at a time. They
 *     start when they are needed, stay, and are replaced when they die.
 * </ul>
 *
 * <p>Every end of a run is a {@link Result}, also a Python exception, a time limit or a refused request. If there is
 * no result, you get a {@link TransportException}, which says whether the code may have run. Decide by
 * {@link Result#status}, and treat a status that you do not know as a failure.
 *
 * <p>Copy this file into your project. It needs Java 17 and nothing else. Many threads can share an instance; close
 * it when your module stops. Until then a shutdown hook closes it when the JVM ends, and after a kill -9 of the JVM
 * the launchers notice that their caller is gone and end their runs.
 */
public final class Py3Run implements AutoCloseable {

    /** The JSON library of your choice. Both methods throw a RuntimeException if they fail. */
    public interface Json {
        /**
         * Reads one JSON object. Every integer must become a Long or a BigInteger. Gson, for example, makes every number
         * a double by default, and with LONG_OR_DOUBLE still those that do not fit into a long.
         */
        Map<String, Object> parse(String line);

        /** Writes one JSON object without line breaks, with its nulls (Gson: serializeNulls). */
        String write(Map<String, Object> request);
    }

    /**
     * Who asks, and under which conditions. A null stands for what the configuration says.
     *
     * @param user          recorded in the audit log; py3run believes you, so give the user that you have authenticated
     * @param clientAddress the address of that user's client, recorded too
     * @param securityMode  "ADMIN", "DESIGNER_ADMIN", "RESTRICTED" or a profile of the configuration
     * @param timeout       how long the code may run; an operator's limit may tighten it further
     * @param labels        copied into the audit record
     */
    public record Options(String user, String clientAddress, String securityMode, Duration timeout, Map<String, String> labels) {
        public static final Options NONE = new Options(null, null, null, null, null);

        public Options withUser(String name) {
            return new Options(name, clientAddress, securityMode, timeout, labels);
        }

        public Options withClientAddress(String address) {
            return new Options(user, address, securityMode, timeout, labels);
        }

        public Options withSecurityMode(String mode) {
            return new Options(user, clientAddress, mode, timeout, labels);
        }

        public Options withTimeout(Duration limit) {
            return new Options(user, clientAddress, securityMode, limit, labels);
        }

        public Options withLabels(Map<String, String> texts) {
            return new Options(user, clientAddress, securityMode, timeout, texts);
        }
    }

    /**
     * The result of a call. It is deeply unmodifiable.
     *
     * @param status    "ok", "error", "timeout", "memory_limit", "cancelled", ...: see py3run help exit-codes
     * @param value     the field "result"; null also if there is no such field
     * @param text      Python's str() of the value, where JSON does not hold it exactly; else null
     * @param output    what the code printed
     * @param error     null on success
     * @param traceback null on success, and if something other than Python failed
     * @param runId     of the audit log; null if nothing ran
     * @param receipt   the end record in the audit log; null if nothing ran, or auditing is switched off
     * @param failure   null on success
     * @param warnings  what was done differently than asked; mostly empty
     * @param fields    the whole answer, parsed: over exec also "usage", "limits", "isolation", "events", ...
     * @param line      the whole answer as text, for a log
     */
    public record Result(String status, Object value, String text, String output, String error, String traceback,
            String runId, Receipt receipt, Failure failure, List<Warning> warnings, Map<String, Object> fields, String line) {
        public boolean ok() {
            return status.equals("ok");
        }
    }

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

    /** One event of a streamed call, such as "start", "stdout", "stderr", "heartbeat"; text is what was printed, else "". */
    public record Event(String type, String text, Map<String, Object> fields) {
    }

    /** There is no result. */
    public static final class TransportException extends IOException {
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

        TransportException(Kind kind, boolean mayHaveRun, String message, Throwable cause) {
            super(message, cause);
            this.kind = kind;
            this.mayHaveRun = mayHaveRun;
        }

        public Kind kind() {
            return kind;
        }

        /** False: none of your code ran, and you can repeat the call. True: look into the audit log first. */
        public boolean mayHaveRun() {
            return mayHaveRun;
        }
    }

    /** The settings of a client. Begin with {@link #exec} or {@link #bridge}. */
    public static final class Builder {
        private final boolean bridge;
        private final Json json;
        private String launcher = "py3run";
        private List<String> flags = List.of();
        private Map<String, String> environment = Map.of();
        private int processes = 4;
        private Duration timeout = Duration.ofSeconds(25);
        private Duration margin = Duration.ofSeconds(5);
        private Duration queueTime = Duration.ofSeconds(30);

        private Builder(boolean bridge, Json json) {
            this.bridge = bridge;
            this.json = Objects.requireNonNull(json);
        }

        /** The path of py3run; default: the one in PATH. */
        public Builder launcher(String path) {
            launcher = path;
            return this;
        }

        /** Flags for every launcher, as "--python", "3.12". */
        public Builder flags(String... more) {
            flags = List.of(more);
            return this;
        }

        /** Variables for the launchers, beside those of this JVM. */
        public Builder environment(Map<String, String> variables) {
            environment = Map.copyOf(variables);
            return this;
        }

        /** How many launchers there may be at once. More calls wait. */
        public Builder processes(int most) {
            processes = most;
            return this;
        }

        /** How long the code of a call may run if its options do not say. Over the bridge no call may run longer. */
        public Builder timeout(Duration limit) {
            timeout = limit;
            return this;
        }

        /** How much later than a time limit this client gives the launcher up. */
        public Builder margin(Duration extra) {
            margin = extra;
            return this;
        }

        /** How long a call waits while all processes are busy. */
        public Builder queueTime(Duration most) {
            queueTime = most;
            return this;
        }

        public Py3Run open() {
            return new Py3Run(this);
        }
    }

    /** A client that starts a launcher for each call. */
    public static Builder exec(Json json) {
        return new Builder(false, json);
    }

    /** A client that keeps a pool of launchers. */
    public static Builder bridge(Json json) {
        return new Builder(true, json);
    }

    /**
     * The largest answer to hold in memory. output_mb (10 by default) limits the JSON of result, stdout and stderr
     * each, and the field "output" repeats stdout, so an answer has at most about four times that. Lower output_mb
     * rather than raise this.
     */
    private static final int MAX_ANSWER_BYTES = 64 << 20;
    /** How much of the end of stderr to keep, for messages. */
    private static final int MAX_STDERR_BYTES = 4 << 10;
    /** From SIGTERM to SIGKILL. The launcher needs time to end a cancelled run, record it and report it. */
    private static final Duration GRACE = Duration.ofSeconds(5);
    /** How long a bridge may take to say that it is ready. */
    private static final Duration START = Duration.ofSeconds(30);

    private final Builder settings;
    private final Semaphore slots; // one for each process that may run; fair, so that no call waits for ever
    private final ExecutorService threads = Executors.newCachedThreadPool(daemons("py3run"));
    private final ScheduledThreadPoolExecutor timer = new ScheduledThreadPoolExecutor(1, daemons("py3run-timer"));
    private final AtomicLong count = new AtomicLong();
    private final Set<Call> live = ConcurrentHashMap.newKeySet();
    private final Set<Launcher> launchers = ConcurrentHashMap.newKeySet();
    private final ConcurrentLinkedDeque<Bridge> idle = new ConcurrentLinkedDeque<>(); // the last used first
    private final Thread hook = new Thread(this::close, "py3run-shutdown");
    private volatile boolean closed;

    private Py3Run(Builder settings) {
        this.settings = settings;
        slots = new Semaphore(settings.processes, true);
        timer.setRemoveOnCancelPolicy(true);
        Runtime.getRuntime().addShutdownHook(hook);
    }

    // ---- The calls. Pass data as variables, and never paste it into the code: no quoting, no injection.

    /** Runs code. The value is the variable "result", if the code sets it, else what it printed, else null. */
    public Result execute(String code, Map<String, ?> variables, Options options) throws IOException, InterruptedException {
        return start(request("execute", "code", code, "variables", variables), options).await();
    }

    /** The value of an expression. */
    public Result evaluate(String expression, Map<String, ?> variables, Options options) throws IOException, InterruptedException {
        return start(request("evaluate", "expression", expression, "variables", variables), options).await();
    }

    /** What a function of a module returns. */
    public Result callModule(String module, String function, List<?> args, Map<String, ?> kwargs, Options options)
            throws IOException, InterruptedException {
        return start(request("call_module", "module", module, "function", function, "args", args, "kwargs", kwargs), options).await();
    }

    /** The value is {errors: [{line, column, message, severity}]}. The code does not run. */
    public Result checkSyntax(String code) throws IOException, InterruptedException {
        return start(request("check_syntax", "code", code), Options.NONE).await();
    }

    /** The value is {completions: [{text, type, complete}], count}. Lines count from 1, columns from 0. */
    public Result getCompletions(String code, int line, int column) throws IOException, InterruptedException {
        return start(request("get_completions", "code", code, "line", line, "column", column), Options.NONE).await();
    }

    /** The value is {version, version_info, executable, platform} of Python. */
    public Result getVersion() throws IOException, InterruptedException {
        return start(request("version"), Options.NONE).await();
    }

    /** The value is "pong". */
    public Result ping() throws IOException, InterruptedException {
        return start(request("ping"), Options.NONE).await();
    }

    /**
     * Starts a call of any request of protocol 1 (py3run schema request). The options are added to it.
     *
     * @throws IllegalArgumentException if the request cannot be written as JSON and UTF-8; nothing was started
     */
    public Call start(Map<String, ?> request, Options options) throws TransportException {
        return begin(request, options, null);
    }

    /**
     * Starts a call whose output arrives while the code runs. One thread calls the listener with one event after the
     * other; while the listener does not return, py3run holds the output. If it throws, the call is cancelled, and
     * await throws the same. A streamed call has a launcher of its own, also if this client uses bridges.
     */
    public Call stream(Map<String, ?> request, Options options, Consumer<Event> listener) throws TransportException {
        return begin(request, options, Objects.requireNonNull(listener));
    }

    private Call begin(Map<String, ?> request, Options options, Consumer<Event> listener) throws TransportException {
        Duration timeout = options.timeout() == null ? settings.timeout : options.timeout();
        String id = request.get("id") instanceof String given ? given : "java-" + count.incrementAndGet();
        Map<String, Object> complete = complete(request, options, timeout, id);
        Call call = new Call(encode(settings.json.write(complete)), id, timeout, listener);
        live.add(call);
        if (closed) { // close() may not have seen this call
            live.remove(call);
            throw new TransportException(TransportException.Kind.CLOSED, false, "this client is closed", null);
        }
        threads.execute(call.task);
        return call;
    }

    /** The launchers that run now, for a monitor. The code runs in child processes of theirs. */
    public List<ProcessHandle> processes() {
        return launchers.stream().map(launcher -> launcher.process.toHandle()).filter(ProcessHandle::isAlive).toList();
    }

    /** Cancels every call, ends every launcher, and waits until they have ended: some seconds at most. */
    public void shutdown() {
        closed = true;
        live.forEach(Call::cancel); // cancel all first, so that they end at the same time
        dismiss();
        live.forEach(Call::join);
        dismiss(); // of calls that were about to end
        launchers.forEach(Launcher::join);
        timer.shutdown();
        threads.shutdown();
        try {
            Runtime.getRuntime().removeShutdownHook(hook); // else it would hold this object, and its class loader
        } catch (IllegalStateException e) {
            // the JVM is ending: this may be the hook itself
        }
    }

    /** The same as {@link #shutdown}. */
    @Override
    public void close() {
        shutdown();
    }

    /** One call in progress. Any thread may wait for it or cancel it. */
    public final class Call {
        private final byte[] request;
        private final String id;
        private final Duration timeout;
        private final Consumer<Event> listener; // null: no stream
        private final FutureTask<Result> task = new FutureTask<>(this::work);
        // Guarded by this:
        private boolean cancelled;
        private boolean late;
        private Thread queued;
        private Launcher launcher;

        private Call(byte[] request, String id, Duration timeout, Consumer<Event> listener) {
            this.request = request;
            this.id = id;
            this.timeout = timeout;
            this.listener = listener;
        }

        /**
         * Waits for the result.
         *
         * @throws TransportException   if there is no result
         * @throws InterruptedException if this thread was interrupted; the call is cancelled and has ended then
         */
        public Result await() throws IOException, InterruptedException {
            try {
                return task.get();
            } catch (InterruptedException e) { // a run without a caller must not go on
                cancel();
                join();
                throw e;
            } catch (ExecutionException e) {
                if (e.getCause() instanceof TransportException t) { // a new one, because its stack trace is another thread's
                    throw new TransportException(t.kind(), t.mayHaveRun(), t.getMessage(), t);
                }
                if (e.getCause() instanceof RuntimeException fromListener) {
                    throw fromListener;
                }
                throw new IOException(e.getCause());
            }
        }

        /**
         * Asks the launcher to stop (SIGTERM). It ends the code with all its processes and still answers: await returns
         * a result with the status "cancelled". After the end this does nothing. A bridge ends with the call that it
         * serves, and the next call gets a new one.
         */
        public synchronized void cancel() {
            cancelled = true;
            if (queued != null) {
                queued.interrupt();
            }
            if (launcher != null) {
                launcher.stop();
            }
        }

        /** Waits for the end, however it comes. The deadline behind each call bounds the wait. */
        private void join() {
            boolean interrupted = false;
            for (;;) {
                try {
                    task.get();
                    break;
                } catch (InterruptedException e) {
                    interrupted = true;
                } catch (ExecutionException e) {
                    break;
                }
            }
            if (interrupted) {
                Thread.currentThread().interrupt();
            }
        }

        private Result work() throws IOException {
            try {
                queue();
                try {
                    return settings.bridge && listener == null ? overBridge() : overExec();
                } finally {
                    slots.release();
                }
            } finally {
                live.remove(this);
            }
        }

        private void queue() throws TransportException {
            synchronized (this) {
                queued = Thread.currentThread();
                if (cancelled) {
                    queued.interrupt();
                }
            }
            boolean free = false;
            try {
                free = slots.tryAcquire(settings.queueTime.toNanos(), TimeUnit.NANOSECONDS);
            } catch (InterruptedException e) {
                // cancelled: see below
            }
            synchronized (this) {
                queued = null;
                Thread.interrupted(); // this thread will serve other calls
                if (cancelled || !free) {
                    if (free) {
                        slots.release();
                    }
                    throw cancelled ? new TransportException(TransportException.Kind.CANCELLED, false, "cancelled before it began", null)
                            : new TransportException(TransportException.Kind.BUSY, false, "all " + settings.processes + " processes of py3run stayed busy for " + settings.queueTime, null);
                }
            }
        }

        private Result overExec() throws IOException {
            Launcher started = new Launcher(listener == null ? List.of("exec", "--audit-line=off") : List.of("exec", "--stream", "--audit-line=off"));
            ScheduledFuture<?> deadline = attach(started);
            try {
                // The order matters. A pipe holds about 64 KiB, and a write to a full pipe blocks. Suppose we wrote stdin
                // first, and the launcher wrote more than that to stdout or stderr meanwhile: both sides would block for
                // ever. So both readers start before we write the first byte, and they read to the end.
                Future<byte[]> answer = threads.submit(() -> listener == null ? readAll(started) : readEvents(started));
                started.write(request, true);
                started.waitFor();
                return result(collect(started, answer), started);
            } finally {
                detach(deadline);
                started.kill();
            }
        }

        private byte[] readAll(Launcher from) throws IOException {
            ByteArrayOutputStream all = new ByteArrayOutputStream();
            byte[] chunk = new byte[64 << 10];
            InputStream in = from.process.getInputStream();
            for (int n; (n = in.read(chunk)) >= 0;) {
                if (all.size() <= MAX_ANSWER_BYTES) { // else result() refuses it; the rest is read and dropped
                    all.write(chunk, 0, n);
                }
            }
            return all.toByteArray();
        }

        /** Hands the events to the listener, and returns the last line: the result. */
        private byte[] readEvents(Launcher from) throws IOException {
            Lines lines = new Lines(from.process.getInputStream());
            byte[] last = new byte[0];
            for (byte[] line; (line = lines.next()) != null; last = line) {
                if (last.length > 0) {
                    deliver(last);
                }
            }
            return last;
        }

        private void deliver(byte[] line) throws IOException {
            try {
                Map<String, Object> fields = unmodifiable(settings.json.parse(decode(line)));
                listener.accept(new Event(text(fields, "event"), orEmpty(text(fields, "text")), fields));
            } catch (RuntimeException e) {
                cancel();
                throw e;
            }
        }

        /** Call it after the end of the process. The pipe ends too, unless another process holds it open. */
        private byte[] collect(Launcher from, Future<byte[]> answer) throws IOException {
            try {
                return uninterrupted(() -> answer.get(GRACE.toNanos(), TimeUnit.NANOSECONDS));
            } catch (TimeoutException e) {
                throw new TransportException(TransportException.Kind.BAD_ANSWER, true, "py3run ended, but its output does not", e);
            } catch (ExecutionException e) {
                if (e.getCause() instanceof RuntimeException fromListener) {
                    throw fromListener;
                }
                throw new TransportException(TransportException.Kind.DIED, true, "read from py3run: " + e.getCause() + from.said(), e.getCause());
            }
        }

        private Result overBridge() throws IOException {
            Bridge bridge = borrow();
            ScheduledFuture<?> deadline = attach(bridge);
            boolean usable = false;
            try {
                Result result = result(bridge.ask(request), bridge);
                Object echoed = result.fields().get("id");
                if (echoed != null && !echoed.equals(id)) {
                    throw new TransportException(TransportException.Kind.BAD_ANSWER, true, "the answer is to another request: " + echoed, null);
                }
                usable = true;
                return result;
            } finally {
                detach(deadline); // from here on no cancel can reach the bridge
                if (usable && !bridge.stopping) {
                    giveBack(bridge);
                } else if (bridge.stopping) {
                    bridge.waitFor(); // it has answered, and is about to end; the timer kills one that is not
                } else {
                    bridge.kill();
                }
            }
        }

        /** Makes the launcher known to cancel, and sets the deadline. */
        private ScheduledFuture<?> attach(Launcher to) {
            synchronized (this) {
                launcher = to;
                if (cancelled) {
                    to.stop();
                }
            }
            // The launcher ends the code at its time limit and reports what the code was doing. The deadline comes later,
            // and only matters if the launcher itself hangs. If it came first, every timeout would be a kill without a
            // report. It sends SIGTERM before SIGKILL: a launcher that still works can report the run and record its end.
            return timer.schedule(() -> {
                synchronized (this) {
                    if (launcher != null) {
                        late = true;
                        launcher.stop();
                    }
                }
            }, timeout.plus(settings.margin).toNanos(), TimeUnit.NANOSECONDS);
        }

        private void detach(ScheduledFuture<?> deadline) {
            deadline.cancel(false);
            synchronized (this) {
                launcher = null;
            }
        }

        private Result result(byte[] answer, Launcher from) throws TransportException {
            TransportException.Kind without = died();
            int end = answer.length > 0 && answer[answer.length - 1] == '\n' ? answer.length - 1 : answer.length;
            if (end == 0) {
                throw new TransportException(without, true, "no answer from py3run" + from.said(), null);
            }
            String problem;
            try {
                if (answer.length > MAX_ANSWER_BYTES) {
                    throw new IllegalArgumentException("more than " + MAX_ANSWER_BYTES + " bytes");
                }
                String line = decode(Arrays.copyOf(answer, end));
                if (end == answer.length || line.indexOf('\n') >= 0) { // a line that was cut is no result
                    throw new IllegalArgumentException("not one line");
                }
                return Py3Run.result(line, unmodifiable(settings.json.parse(line)));
            } catch (CharacterCodingException e) {
                problem = "not UTF-8";
            } catch (RuntimeException e) { // also from the JSON library
                problem = String.valueOf(e.getMessage());
            }
            throw new TransportException(from.killed && without != TransportException.Kind.DIED ? without : TransportException.Kind.BAD_ANSWER, true,
                    "py3run gave no result: " + problem + from.said(), null);
        }

        private synchronized TransportException.Kind died() {
            return late ? TransportException.Kind.DEADLINE : cancelled ? TransportException.Kind.CANCELLED : TransportException.Kind.DIED;
        }
    }

    // ---- The processes.

    /** A process of py3run. Its stderr is drained from the first moment on: a launcher must never block on it. */
    private class Launcher {
        final Process process;
        private final Future<byte[]> stderr;
        volatile boolean stopping;
        volatile boolean killed;

        Launcher(List<String> arguments) throws TransportException {
            List<String> command = new ArrayList<>(List.of(settings.launcher));
            command.addAll(arguments);
            command.addAll(settings.flags);
            ProcessBuilder builder = new ProcessBuilder(command);
            if (settings.bridge) { // by itself a bridge ends a request after 25 s
                builder.environment().put("PY3RUN_BRIDGE_TIMEOUT_SECONDS", seconds(settings.timeout).toString());
            }
            builder.environment().putAll(settings.environment);
            try {
                process = builder.start(); // do not merge stderr: stdout has the answers, and nothing else
            } catch (IOException e) {
                throw new TransportException(TransportException.Kind.NOT_STARTED, false, "start " + settings.launcher + ": " + e.getMessage(), e);
            }
            launchers.add(this);
            process.onExit().thenRun(() -> launchers.remove(this));
            try {
                stderr = threads.submit(() -> tail(process.getErrorStream()));
            } catch (RuntimeException | Error e) { // no thread
                kill();
                throw e;
            }
        }

        void write(byte[] bytes, boolean last) {
            OutputStream out = process.getOutputStream();
            try {
                out.write(bytes);
                out.flush();
                if (last) {
                    out.close();
                }
            } catch (IOException brokenPipe) {
                // The launcher refused the request before it had read all of it; its answer says why. Or it died; then
                // there is no answer, and its reader notices.
            }
        }

        /** SIGTERM now, SIGKILL after the grace period. */
        void stop() {
            if (stopping) {
                return;
            }
            stopping = true;
            // Not process.destroy(): on Unix that also closes our ends of the pipes, and the answer would be lost
            // ("Stream closed"). The handle only sends SIGTERM.
            process.toHandle().destroy();
            killLater();
        }

        void killLater() {
            timer.schedule(this::kill, GRACE.toNanos(), TimeUnit.NANOSECONDS);
        }

        void kill() {
            if (process.isAlive()) {
                killed = true;
                process.toHandle().destroyForcibly(); // the sandbox ends with the launcher
            }
        }

        void waitFor() {
            uninterruptedly(process::waitFor);
        }

        /** Waits for the end; kills after the grace period. */
        void join() {
            if (!uninterruptedly(() -> process.waitFor(GRACE.toNanos(), TimeUnit.NANOSECONDS))) {
                kill();
                waitFor();
            }
        }

        /** How the process ended, and the end of its stderr, for a message. */
        String said() {
            try {
                int code = process.isAlive() ? -1 : process.exitValue();
                // Replacing bad bytes is right for messages to people, and wrong for data: see decode.
                String end = process.isAlive() ? "" : new String(uninterrupted(() -> stderr.get(1, TimeUnit.SECONDS)), StandardCharsets.UTF_8).strip();
                return (code < 0 ? "" : " (exit code " + code + ")") + (end.isEmpty() ? "" : "; stderr ends: " + end);
            } catch (ExecutionException | TimeoutException e) {
                return "";
            }
        }
    }

    /** A launcher that serves one request after the other. */
    private final class Bridge extends Launcher {
        private CompletableFuture<byte[]> awaited = new CompletableFuture<>(); // guarded by this; null: idle
        private boolean ended; // guarded by this: no more lines will come

        Bridge() throws TransportException {
            super(List.of("bridge"));
            CompletableFuture<byte[]> ready = awaited;
            try {
                threads.execute(this::read);
                String line = decode(uninterrupted(() -> ready.get(START.toNanos(), TimeUnit.NANOSECONDS)));
                if (!line.strip().equals("{\"status\":\"ready\"}")) {
                    throw new IllegalArgumentException("not ready but " + line);
                }
            } catch (ExecutionException | TimeoutException | CharacterCodingException | RuntimeException e) {
                kill();
                waitFor();
                throw new TransportException(TransportException.Kind.NOT_STARTED, false, "start " + settings.launcher + " bridge: " + e.getMessage() + said(), e);
            }
        }

        private void read() {
            IOException why = new IOException("the end of its output");
            try {
                Lines lines = new Lines(process.getInputStream());
                for (byte[] line; (line = lines.next()) != null;) {
                    CompletableFuture<byte[]> reply;
                    synchronized (this) {
                        reply = awaited;
                        awaited = null;
                    }
                    if (reply == null) {
                        throw new IOException("a line that nobody asked for");
                    }
                    reply.complete(line);
                }
            } catch (IOException e) {
                why = e;
            }
            CompletableFuture<byte[]> reply;
            synchronized (this) {
                ended = true;
                reply = awaited;
            }
            kill();
            if (reply != null) {
                reply.completeExceptionally(why);
            }
        }

        /** Sends a request and waits for the reply. The deadline of the call ends a wait that is too long. */
        byte[] ask(byte[] request) throws IOException {
            CompletableFuture<byte[]> reply = new CompletableFuture<>();
            synchronized (this) {
                if (ended) {
                    return new byte[0];
                }
                awaited = reply;
            }
            write(request, false);
            try {
                return uninterrupted(reply::get);
            } catch (ExecutionException e) { // no reply
                waitFor();
                if (e.getCause() instanceof TransportException t) {
                    throw t;
                }
                return new byte[0];
            } catch (TimeoutException e) {
                throw new AssertionError(e); // get() without a time limit
            }
        }

        synchronized boolean usable() {
            return !ended && !stopping && process.isAlive();
        }

        void dismiss() {
            killLater();
            threads.execute(() -> write(encode(settings.json.write(Map.of("command", "shutdown"))), true)); // may block
        }
    }

    private Bridge borrow() throws TransportException {
        for (Bridge bridge; (bridge = idle.poll()) != null;) {
            if (bridge.usable()) {
                return bridge;
            }
            bridge.kill(); // it died while it was idle
        }
        return new Bridge();
    }

    private void giveBack(Bridge bridge) {
        idle.push(bridge);
        if (closed) {
            dismiss();
        }
    }

    private void dismiss() {
        for (Bridge bridge; (bridge = idle.poll()) != null;) {
            bridge.dismiss();
        }
    }

    /** Splits a stream into lines of bytes, each with its newline. A last line without one is cut: it is no line. */
    private static final class Lines {
        private final InputStream in;
        private final byte[] chunk = new byte[64 << 10];
        private int from;
        private int to;

        Lines(InputStream in) {
            this.in = in;
        }

        /** The next line, or null at the end. */
        byte[] next() throws IOException {
            ByteArrayOutputStream line = new ByteArrayOutputStream(256);
            for (;;) {
                for (int i = from; i < to; i++) {
                    if (chunk[i] == '\n') {
                        line.write(chunk, from, i + 1 - from);
                        from = i + 1;
                        return line.toByteArray();
                    }
                }
                line.write(chunk, from, to - from);
                if (line.size() > MAX_ANSWER_BYTES) {
                    throw new TransportException(TransportException.Kind.BAD_ANSWER, true, "a line of more than " + MAX_ANSWER_BYTES + " bytes from py3run", null);
                }
                from = 0;
                to = in.read(chunk);
                if (to < 0) {
                    to = 0;
                    return null;
                }
            }
        }
    }

    private static byte[] tail(InputStream in) throws IOException {
        ByteArrayOutputStream kept = new ByteArrayOutputStream();
        byte[] chunk = new byte[16 << 10];
        for (int n; (n = in.read(chunk)) >= 0;) {
            kept.write(chunk, 0, n);
            if (kept.size() > MAX_STDERR_BYTES) {
                byte[] all = kept.toByteArray();
                kept.reset();
                kept.writeBytes(Arrays.copyOfRange(all, all.length - MAX_STDERR_BYTES, all.length));
            }
        }
        return kept.toByteArray();
    }

    // ---- Requests and results.

    private static Map<String, Object> request(String command, Object... namesAndValues) {
        Map<String, Object> request = new LinkedHashMap<>();
        request.put("command", command);
        for (int i = 0; i < namesAndValues.length; i += 2) {
            request.put((String) namesAndValues[i], namesAndValues[i + 1]); // null counts as absent
        }
        return request;
    }

    private static Map<String, Object> complete(Map<String, ?> request, Options options, Duration timeout, String id) {
        Map<String, Object> complete = new LinkedHashMap<>(request);
        complete.put("id", id);
        complete.computeIfAbsent("user", name -> options.user());
        complete.computeIfAbsent("client_ip", name -> options.clientAddress());
        complete.computeIfAbsent("security_mode", name -> options.securityMode());
        complete.computeIfAbsent("labels", name -> options.labels());
        Map<String, Object> limits = new LinkedHashMap<>();
        if (request.get("limits") instanceof Map<?, ?> given) {
            given.forEach((name, value) -> limits.put((String) name, value));
        }
        limits.put("timeout_seconds", seconds(timeout));
        complete.put("limits", limits);
        return complete;
    }

    private static Double seconds(Duration duration) {
        return duration.toMillis() / 1000.0;
    }

    private static Result result(String line, Map<String, Object> fields) {
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
        String output = text(fields, "stdout");
        return new Result(status(fields, success, failure), fields.get("result"), text(fields, "result_text"), orEmpty(output == null ? text(fields, "output") : output),
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
        return failure == null || failure.code() == null || failure.code().startsWith("python_") && failure.type() != null ? "error" : failure.code();
    }

    private static Failure failure(Map<?, ?> f) {
        Duration retryAfter = f.get("retry_after_ms") instanceof Number ms ? Duration.ofMillis(ms.longValue()) : null;
        return new Failure(text(f, "code"), text(f, "message"), text(f, "hint"), text(f, "type"), f.get("line") instanceof Number n ? n.intValue() : 0,
                Boolean.TRUE.equals(f.get("retryable")), retryAfter, unmodifiable(f));
    }

    // Name UTF-8 everywhere. The default charset of Java 17 is that of the platform: for a service, which often has
    // LANG=C, it is ASCII, and every umlaut becomes a question mark. And convert strictly: String.getBytes and new
    // String silently replace what they cannot convert, so the code would get other data than the caller gave.

    private static byte[] encode(String line) {
        if (line.indexOf('\n') >= 0) {
            throw new IllegalArgumentException("the request must be one line: switch off pretty printing");
        }
        try {
            ByteBuffer bytes = StandardCharsets.UTF_8.newEncoder().encode(CharBuffer.wrap(line + "\n"));
            return Arrays.copyOf(bytes.array(), bytes.limit());
        } catch (CharacterCodingException e) {
            throw new IllegalArgumentException("the request holds half of a surrogate pair", e);
        }
    }

    private static String decode(byte[] bytes) throws CharacterCodingException {
        return StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString();
    }

    private static String text(Map<?, ?> fields, String name) {
        return fields.get(name) instanceof String s ? s : null;
    }

    private static String orEmpty(String s) {
        return s == null ? "" : s;
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

    // ---- Threads.

    private static ThreadFactory daemons(String name) {
        return work -> {
            Thread thread = new Thread(work, name);
            thread.setDaemon(true); // it must not keep the JVM alive
            return thread;
        };
    }

    private interface Waiting<T> {
        T get() throws InterruptedException, ExecutionException, TimeoutException;
    }

    /** Waits on through interrupts: what is waited for is bounded, and abandoning it would leave a process behind. */
    private static <T> T uninterrupted(Waiting<T> waiting) throws ExecutionException, TimeoutException {
        boolean interrupted = false;
        try {
            for (;;) {
                try {
                    return waiting.get();
                } catch (InterruptedException e) {
                    interrupted = true;
                }
            }
        } finally {
            if (interrupted) {
                Thread.currentThread().interrupt();
            }
        }
    }

    private static <T> T uninterruptedly(Callable<T> waiting) {
        try {
            return uninterrupted(() -> {
                try {
                    return waiting.call();
                } catch (InterruptedException | RuntimeException e) {
                    throw e;
                } catch (Exception e) {
                    throw new ExecutionException(e);
                }
            });
        } catch (ExecutionException | TimeoutException e) {
            throw new IllegalStateException(e); // waitFor throws neither
        }
    }
}
