package py3run;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/** A process of py3run. Its stderr is drained from the first moment on: it must never block on it. */
class Launcher {
    /** From SIGTERM to SIGKILL. The launcher needs time to end a cancelled run, record it and report it. */
    static final Duration GRACE = Duration.ofSeconds(5);
    /** How much of the end of stderr to keep, for messages. */
    private static final int MAX_STDERR_BYTES = 4 << 10;

    final Py3Run client;
    final Process process;
    private final CompletableFuture<byte[]> stderr;
    private volatile boolean stopping;

    Launcher(Py3Run client, String... arguments) throws TransportException {
        this.client = client;
        List<String> command = new ArrayList<>(List.of(client.settings.launcher));
        command.addAll(List.of(arguments));
        command.addAll(client.settings.flags);
        ProcessBuilder builder = new ProcessBuilder(command);
        if (client.settings.bridge) { // by itself a bridge ends a request after 25 s
            builder.environment().put("PY3RUN_BRIDGE_TIMEOUT_SECONDS", Double.toString(Py3Run.seconds(client.settings.timeout)));
        }
        builder.environment().putAll(client.settings.environment);
        try {
            process = builder.start(); // do not merge stderr: stdout has the answers, and nothing else
        } catch (IOException e) {
            throw TransportException.nothingRan(TransportException.Kind.NOT_STARTED, "start " + client.settings.launcher + ": " + e.getMessage(), e);
        }
        client.started(this);
        try {
            stderr = client.inBackground(() -> tail(process.getErrorStream()));
        } catch (RuntimeException | Error e) { // no thread
            kill();
            client.ended(this);
            throw e;
        }
        stderr.whenComplete((bytes, failure) -> { // in the thread that has read it
            join();
            client.ended(this);
        });
    }

    void write(byte[] line, boolean last) {
        OutputStream out = process.getOutputStream();
        try {
            out.write(line);
            out.flush();
            if (last) {
                out.close();
            }
        } catch (IOException brokenPipe) {
            // The launcher refused the request before it had read all of it; its answer says why. Or it died; then there
            // is no answer, and whoever reads notices.
        }
    }

    /** SIGTERM now, SIGKILL after the grace period. */
    void stop() {
        if (!stopping) {
            stopping = true;
            // Not process.destroy(): on Unix that also closes our ends of the pipes, and the answer would be lost
            // ("Stream closed"). The handle only sends SIGTERM.
            process.toHandle().destroy();
            killLater();
        }
    }

    boolean isStopping() {
        return stopping;
    }

    void killLater() {
        client.timer.schedule(this::kill, GRACE.toNanos(), TimeUnit.NANOSECONDS);
    }

    void kill() {
        process.toHandle().destroyForcibly(); // the sandbox ends with the launcher
    }

    /** Waits for the end. It cannot be interrupted: what is left behind would run on. */
    void join() {
        boolean interrupted = false;
        for (;;) {
            try {
                process.waitFor(); // not process.onExit(), which needs a free thread in the pool that all of the JVM shares
                break;
            } catch (InterruptedException e) {
                interrupted = true;
            }
        }
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }

    /** How the process ended, and the end of its stderr, for a message. */
    String said() {
        if (process.isAlive()) {
            return "";
        }
        // Replacing bad bytes is right for messages to people, and wrong for data: see Line.
        byte[] bytes = stderr.copy().completeOnTimeout(new byte[0], 1, TimeUnit.SECONDS).exceptionally(e -> new byte[0]).join();
        String end = new String(bytes, StandardCharsets.UTF_8).strip();
        return " (exit code " + process.exitValue() + ")" + (end.isEmpty() ? "" : "; stderr ends: " + end);
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
}
