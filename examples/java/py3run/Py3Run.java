package py3run;

import java.io.IOException;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedDeque;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.Semaphore;
import java.util.concurrent.ThreadFactory;
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
 * <p>Copy this package into your project. It needs Java 17 and nothing else. Many threads can share a client; close
 * it when your module stops. Until then a shutdown hook closes it when the JVM ends, and after a kill -9 of the JVM
 * the launchers notice that their caller is gone and end their runs.
 */
public final class Py3Run implements AutoCloseable {

    /**
     * One event of a streamed call.
     *
     * @param type   "start", "stdout", "stderr" or "heartbeat"; skip what you do not know
     * @param text   what was printed, else ""
     * @param fields all of it, parsed: "time", "offset", "usage", ...; see py3run schema stream
     */
    public record Event(String type, String text, Map<String, Object> fields) {
    }

    /** The settings of a client. Begin with {@link #exec} or {@link #bridge}. */
    public static final class Builder {
        final boolean bridge;
        final Json json;
        String launcher = "py3run";
        List<String> flags = List.of();
        Map<String, String> environment = Map.of();
        int processes = 4;
        Duration timeout = Duration.ofSeconds(25);
        Duration margin = Duration.ofSeconds(5);
        Duration queueTime = Duration.ofSeconds(30);

        private Builder(boolean bridge, Json json) {
            this.bridge = bridge;
            this.json = Objects.requireNonNull(json);
        }

        /** The path of py3run; default: the one in PATH. */
        public Builder launcher(String path) {
            launcher = path;
            return this;
        }

        /** Flags for every launcher, as "--python", "3.12": such that exec and bridge both know. */
        public Builder flags(String... more) {
            flags = List.of(more);
            return this;
        }

        /**
         * Variables for the launchers, beside those of this JVM. With PY3RUN_BRIDGE_STATE=keep each bridge keeps an
         * interpreter for each user; a client of more than one process does not say which of its bridges serves a call.
         */
        public Builder environment(Map<String, String> variables) {
            environment = Map.copyOf(variables);
            return this;
        }

        /** How many launchers there may be at once; default 4. More calls wait. */
        public Builder processes(int most) {
            processes = most;
            return this;
        }

        /** How long the code of a call may run if its options do not say; default 25 s. Over the bridge none may run longer. */
        public Builder timeout(Duration limit) {
            timeout = limit;
            return this;
        }

        /** How much later than a time limit this client gives the launcher up; default 5 s. */
        public Builder margin(Duration extra) {
            margin = extra;
            return this;
        }

        /** How long a call waits while all processes are busy; default 30 s. */
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

    final Builder settings;
    final Semaphore slots; // one for each process that may run; fair, so that no call waits for ever
    final ScheduledThreadPoolExecutor timer = new ScheduledThreadPoolExecutor(1, daemons("py3run-timer"));
    private final ExecutorService threads = Executors.newCachedThreadPool(daemons("py3run"));
    private final AtomicLong count = new AtomicLong();
    private final Set<Call> calls = ConcurrentHashMap.newKeySet();
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
     * other. A slow listener slows the program; one that takes nothing for 5 s loses events, which their offsets and the
     * warning output_not_streamed show. If it throws, the call is cancelled, and await throws the same. A streamed call
     * has a launcher of its own, also if this client uses bridges.
     */
    public Call stream(Map<String, ?> request, Options options, Consumer<Event> listener) throws TransportException {
        return begin(request, options, Objects.requireNonNull(listener));
    }

    private Call begin(Map<String, ?> request, Options options, Consumer<Event> listener) throws TransportException {
        Duration timeout = options.timeout() == null ? settings.timeout : options.timeout();
        String id = request.get("id") instanceof String given ? given : "java-" + count.incrementAndGet();
        byte[] line = Line.encode(settings.json.write(complete(request, options, timeout, id)));
        Call call = new Call(this, line, id, timeout, listener);
        calls.add(call);
        if (closed) { // shutdown may not have seen this call
            calls.remove(call);
            throw TransportException.nothingRan(TransportException.Kind.CLOSED, "this client is closed", null);
        }
        threads.execute(call::run);
        return call;
    }

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

    static double seconds(Duration duration) {
        return duration.toMillis() / 1000.0;
    }

    // ---- The processes.

    /** The launchers that run now, for a monitor. The code runs in child processes of theirs. */
    public List<ProcessHandle> processes() {
        return launchers.stream().map(launcher -> launcher.process.toHandle()).filter(ProcessHandle::isAlive).toList();
    }

    /** Cancels every call, ends every launcher, and waits until they have ended: some seconds at most. */
    public void shutdown() {
        closed = true;
        calls.forEach(Call::cancel); // cancel all first, so that they end at the same time
        dismissIdle();
        calls.forEach(Call::join);
        dismissIdle(); // those of calls that were about to end
        launchers.forEach(Launcher::join);
        timer.shutdownNow();
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

    void started(Launcher launcher) {
        launchers.add(launcher);
    }

    void ended(Launcher launcher) {
        launchers.remove(launcher);
    }

    void ended(Call call) {
        calls.remove(call);
    }

    /** An idle bridge, or a new one. */
    Bridge borrow() throws TransportException {
        for (Bridge bridge; (bridge = idle.poll()) != null;) {
            if (bridge.isUsable()) {
                return bridge;
            }
            bridge.kill(); // it died while it was idle
        }
        return new Bridge(this);
    }

    void giveBack(Bridge bridge) {
        idle.push(bridge);
        if (closed) {
            dismissIdle();
        }
    }

    private void dismissIdle() {
        for (Bridge bridge; (bridge = idle.poll()) != null;) {
            bridge.dismiss();
        }
    }

    // ---- The threads.

    <T> CompletableFuture<T> inBackground(Callable<T> work) {
        CompletableFuture<T> outcome = new CompletableFuture<>();
        threads.execute(() -> {
            try {
                outcome.complete(work.call());
            } catch (Throwable e) {
                outcome.completeExceptionally(e);
            }
        });
        return outcome;
    }

    private static ThreadFactory daemons(String name) {
        return work -> {
            Thread thread = new Thread(work, name);
            thread.setDaemon(true); // it must not keep the JVM alive
            return thread;
        };
    }
}
