import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.BufferedReader;
import java.io.BufferedWriter;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStreamWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * Stands in for the client of an existing gateway, which must work unchanged with py3run as its Python: a pool of
 * processes {@code python -u SCRIPT}, one JSON request a line, one JSON reply a line, a health check, and a circuit
 * breaker. What such a client does less well than {@link Py3Run} is here on purpose.
 */
final class Gateway implements AutoCloseable {
    /** How the pool is set up. The defaults are those of the real client; tests shorten the times. */
    static final class Settings {
        String python;
        Path script;
        Map<String, String> environment = Map.of();
        int size = 3;
        Duration reply = Duration.ofSeconds(30);
        Duration healthCheck = Duration.ofSeconds(30);
        Duration borrow = Duration.ofSeconds(30);
        Duration end = Duration.ofSeconds(5);
        int failures = 5;
        Duration window = Duration.ofSeconds(60);
        Duration open = Duration.ofSeconds(30);
        boolean drains = true; // an older client leaves stderr alone
    }

    /** The circuit breaker is open. */
    static final class Refused extends IOException {
        private static final long serialVersionUID = 1L;
    }

    private static final Gson GSON = new GsonBuilder().serializeNulls().create();

    private final Settings settings;
    private final List<Worker> all = new ArrayList<>(); // guarded by this
    private final LinkedBlockingQueue<Worker> free = new LinkedBlockingQueue<>();
    private final Deque<Long> failed = new ArrayDeque<>(); // guarded by itself: when
    private long openUntil; // guarded by failed; 0: closed
    private final ScheduledExecutorService health = Executors.newSingleThreadScheduledExecutor(Gateway::daemon);
    /** How many health checks there have been. */
    final AtomicInteger checks = new AtomicInteger();
    /** How many workers did not end in time after the shutdown line. */
    final AtomicInteger killed = new AtomicInteger();

    Gateway(Settings settings) throws IOException {
        this.settings = settings;
        for (int i = 0; i < settings.size; i++) {
            add();
        }
        health.scheduleWithFixedDelay(this::check, settings.healthCheck.toNanos(), settings.healthCheck.toNanos(), TimeUnit.NANOSECONDS);
    }

    private static Thread daemon(Runnable work) {
        Thread thread = new Thread(work, "gateway");
        thread.setDaemon(true);
        return thread;
    }

    static ProcessBuilder builder(Settings settings, String... arguments) {
        List<String> command = new ArrayList<>(List.of(settings.python));
        command.addAll(List.of(arguments));
        ProcessBuilder builder = new ProcessBuilder(command);
        builder.environment().put("PYTHONIOENCODING", "utf-8");
        builder.environment().put("PYTHON3_MAX_MEMORY_MB", "2048");
        builder.environment().put("PYTHON3_MAX_CPU_SECONDS", "60");
        builder.environment().put("MALLOC_ARENA_MAX", "2");
        for (String name : List.of("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")) {
            builder.environment().put(name, "1");
        }
        builder.environment().putAll(settings.environment);
        return builder;
    }

    /** Sends a request. Values may be null, and go as nulls. An exception counts towards the breaker; success:false does not. */
    JsonObject call(String command, Object... namesAndValues) throws IOException, InterruptedException {
        Map<String, Object> request = new HashMap<>();
        request.put("command", command);
        for (String field : List.of("code", "expression", "variables", "module", "function", "args", "kwargs", "security_mode")) {
            request.put(field, null);
        }
        for (int i = 0; i < namesAndValues.length; i += 2) {
            request.put((String) namesAndValues[i], namesAndValues[i + 1]);
        }
        return call(GSON.toJsonTree(request).getAsJsonObject());
    }

    JsonObject call(JsonObject request) throws IOException, InterruptedException {
        synchronized (failed) {
            if (System.nanoTime() < openUntil) {
                throw new Refused();
            }
        }
        Worker worker = free.poll(settings.borrow.toNanos(), TimeUnit.NANOSECONDS);
        if (worker == null) {
            throw new IOException("no worker within " + settings.borrow);
        }
        try {
            return worker.exchange(GSON.toJson(request));
        } catch (IOException e) {
            worker.healthy = false;
            fail();
            throw e;
        } finally {
            free.add(worker); // a broken one, too: the health check, or the next exchange, finds it
        }
    }

    private void fail() {
        synchronized (failed) {
            long now = System.nanoTime();
            failed.add(now);
            while (now - failed.peek() > settings.window.toNanos()) {
                failed.remove();
            }
            if (failed.size() >= settings.failures) {
                openUntil = now + settings.open.toNanos();
                failed.clear();
            }
        }
    }

    private void check() {
        try {
            for (Worker worker : workers()) {
                if (worker.healthy && worker.process.isAlive()) {
                    continue;
                }
                if (free.remove(worker)) { // else somebody uses it: the next check
                    synchronized (this) {
                        all.remove(worker);
                    }
                    worker.close();
                    add();
                }
            }
        } catch (IOException e) {
            throw new IllegalStateException(e); // ends the checks: checks counts no further
        }
        checks.incrementAndGet();
    }

    private void add() throws IOException {
        Worker worker = new Worker();
        synchronized (this) {
            all.add(worker);
        }
        free.add(worker);
    }

    private synchronized List<Worker> workers() {
        return List.copyOf(all);
    }

    List<ProcessHandle> processes() {
        return workers().stream().map(worker -> worker.process.toHandle()).toList();
    }

    /** What the monitor of the gateway shows: kilobytes of the process that was started. */
    static long residentKilobytes(ProcessHandle process) throws IOException {
        return Files.readAllLines(Path.of("/proc/" + process.pid() + "/status")).stream().filter(line -> line.startsWith("VmRSS:"))
                .mapToLong(line -> Long.parseLong(line.replaceAll("\\D", ""))).findFirst().orElse(0);
    }

    @Override
    public void close() {
        health.shutdown();
        workers().parallelStream().forEach(Worker::close);
    }

    private final class Worker {
        final Process process;
        private final BufferedWriter in;
        private final BufferedReader out;
        private final ExecutorService reader = Executors.newSingleThreadExecutor(Gateway::daemon);
        volatile boolean healthy = true;

        Worker() throws IOException {
            process = builder(settings, "-u", settings.script.toString()).start();
            in = new BufferedWriter(new OutputStreamWriter(process.getOutputStream(), StandardCharsets.UTF_8));
            out = new BufferedReader(new InputStreamReader(process.getInputStream(), StandardCharsets.UTF_8));
            if (settings.drains) {
                daemon(() -> {
                    try {
                        process.getErrorStream().transferTo(java.io.OutputStream.nullOutputStream());
                    } catch (IOException e) {
                        // the process has ended
                    }
                }).start();
            }
            String ready = out.readLine(); // without a time limit
            if (!"{\"status\":\"ready\"}".equals(ready)) {
                throw new IOException("not ready: " + ready);
            }
        }

        synchronized JsonObject exchange(String line) throws IOException, InterruptedException {
            in.write(line);
            in.newLine();
            in.flush();
            try {
                // After a timeout the reader still waits for the old reply, and the next call waits for the reader.
                String reply = reader.submit(out::readLine).get(settings.reply.toNanos(), TimeUnit.NANOSECONDS);
                if (reply == null) {
                    throw new IOException("No response");
                }
                JsonObject object = JsonParser.parseString(reply).getAsJsonObject();
                for (String name : List.of("error", "traceback")) {
                    if (object.has(name)) {
                        object.get(name).getAsString(); // fails for a null, as it does in the real client
                    }
                }
                object.get("success").getAsBoolean();
                return object;
            } catch (TimeoutException | ExecutionException e) {
                throw new IOException("No response", e);
            }
        }

        void close() {
            try {
                in.write("{\"command\":\"shutdown\"}\n");
                in.flush();
            } catch (IOException e) {
                // it has ended
            }
            try {
                if (!process.waitFor(settings.end.toNanos(), TimeUnit.NANOSECONDS)) {
                    killed.incrementAndGet();
                    process.destroyForcibly();
                    process.waitFor();
                }
            } catch (InterruptedException e) {
                process.destroyForcibly();
                Thread.currentThread().interrupt();
            }
            reader.shutdown();
        }
    }
}
