package py3run;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.Consumer;
import py3run.TransportException.Kind;

/** One call in progress. Any thread may wait for it or cancel it. */
public final class Call {
    /** How the last line of a stream begins. */
    private static final String RESULT = "{\"event\":\"result\",";

    private final Py3Run client;
    private final byte[] request;
    private final String id;
    private final Duration timeout;
    private final Consumer<Py3Run.Event> listener; // null: no stream
    private final CompletableFuture<Result> outcome = new CompletableFuture<>();
    private volatile int steps; // of the listener; only one thread counts. Odd: it is at work
    // Guarded by this:
    private boolean cancelled;
    private boolean late;
    private Thread queued;
    private Launcher launcher;

    Call(Py3Run client, byte[] request, String id, Duration timeout, Consumer<Py3Run.Event> listener) {
        this.client = client;
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
            return outcome.get();
        } catch (InterruptedException e) { // a run without a caller must not go on
            cancel();
            join();
            throw e;
        } catch (ExecutionException e) {
            if (e.getCause() instanceof TransportException none) {
                throw none.with("");
            }
            if (e.getCause() instanceof RuntimeException fromListener) {
                throw fromListener;
            }
            throw new IOException(e.getCause());
        }
    }

    /**
     * Asks the launcher to stop (SIGTERM). It ends the code with all its processes and still answers: await returns a
     * result with the status "cancelled". After the end this does nothing. A bridge ends with the call that it serves,
     * and the next call gets a new one.
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
    void join() {
        outcome.handle((result, failure) -> null).join();
    }

    /** Does the call; for a thread of the client's. */
    void run() {
        try {
            queue();
            Result result;
            try {
                result = client.settings.bridge && listener == null ? overBridge() : overExec();
            } finally {
                client.slots.release();
            }
            client.ended(this);
            outcome.complete(result);
        } catch (Throwable e) {
            client.ended(this);
            outcome.completeExceptionally(e);
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
            free = client.slots.tryAcquire(client.settings.queueTime.toNanos(), TimeUnit.NANOSECONDS);
        } catch (InterruptedException e) {
            // cancelled: see below
        }
        synchronized (this) {
            queued = null;
            Thread.interrupted(); // this thread will serve other calls
            if (free && !cancelled) {
                return;
            }
            if (free) {
                client.slots.release();
            }
            if (cancelled) {
                throw TransportException.nothingRan(Kind.CANCELLED, "cancelled before it began", null);
            }
            String busy = "all " + client.settings.processes + " processes of py3run stayed busy for " + client.settings.queueTime;
            throw TransportException.nothingRan(Kind.BUSY, busy, null);
        }
    }

    private Result overExec() throws IOException {
        Launcher started = listener == null ? new Launcher(client, "exec", "--audit-line=off") : new Launcher(client, "exec", "--stream", "--audit-line=off");
        ScheduledFuture<?> deadline = attach(started);
        try {
            // The order matters. A pipe holds about 64 KiB, and a write to a full pipe blocks. Suppose we wrote stdin
            // first, and the launcher wrote more than that to stdout or stderr meanwhile: both sides would block for
            // ever. So both readers start before we write the first byte, and they read to the end.
            CompletableFuture<byte[]> answer = client.inBackground(() -> listener == null ? read(started) : readEvents(started));
            started.write(request, true);
            started.join();
            return result(collect(started, answer), started);
        } finally {
            detach(deadline);
            started.kill();
        }
    }

    private static byte[] read(Launcher from) throws IOException {
        ByteArrayOutputStream all = new ByteArrayOutputStream();
        byte[] chunk = new byte[64 << 10];
        InputStream in = from.process.getInputStream();
        for (int n; (n = in.read(chunk)) >= 0;) {
            if (all.size() <= Line.MAX_BYTES) { // else the rest is read and dropped, or the launcher would block
                all.write(chunk, 0, n);
            }
        }
        if (all.size() > Line.MAX_BYTES) {
            throw Line.tooLong();
        }
        return all.toByteArray();
    }

    /** Hands the events to the listener, up to the last, which is the result. */
    private byte[] readEvents(Launcher from) throws IOException {
        Line.Reader lines = new Line.Reader(from.process.getInputStream());
        RuntimeException failed = null;
        byte[] result = new byte[0];
        for (byte[] line; (line = lines.next()) != null;) {
            if (new String(line, 0, Math.min(line.length, RESULT.length()), StandardCharsets.US_ASCII).equals(RESULT)) {
                result = line;
            } else if (failed == null) {
                steps++;
                try {
                    Map<String, Object> fields = Line.unmodifiable(client.settings.json.parse(Line.decode(line)));
                    listener.accept(new Py3Run.Event(String.valueOf(fields.get("event")), fields.get("text") instanceof String text ? text : "", fields));
                } catch (RuntimeException e) { // of the listener; read on, or the launcher blocks
                    failed = e;
                    cancel();
                }
                steps++;
            }
        }
        if (failed != null) {
            throw failed;
        }
        return result;
    }

    /**
     * Call it after the end of the process. The pipe ends too, unless another process holds it open: then it gives up,
     * but not while a listener still works on what was in the pipe.
     */
    private byte[] collect(Launcher from, CompletableFuture<byte[]> answer) throws IOException {
        for (;;) {
            int before = steps;
            try {
                return answer.copy().orTimeout(Launcher.GRACE.toNanos(), TimeUnit.NANOSECONDS).join();
            } catch (CompletionException e) {
                if (e.getCause() instanceof TimeoutException) {
                    if (before == steps && before % 2 == 0) {
                        throw TransportException.mayHaveRun(Kind.BAD_ANSWER, "py3run ended, but its output does not", e);
                    }
                    continue;
                }
                if (e.getCause() instanceof TransportException none) {
                    throw none.with(from.said());
                }
                if (e.getCause() instanceof RuntimeException fromListener) {
                    throw fromListener;
                }
                throw TransportException.mayHaveRun(Kind.DIED, "read from py3run: " + e.getCause() + from.said(), e.getCause());
            }
        }
    }

    private Result overBridge() throws IOException {
        Bridge bridge = client.borrow();
        ScheduledFuture<?> deadline = attach(bridge);
        boolean inStep = false;
        try {
            Result result = result(bridge.ask(request), bridge);
            Object echoed = result.fields().get("id");
            if (echoed != null && !echoed.equals(id)) {
                throw TransportException.mayHaveRun(Kind.BAD_ANSWER, "the answer is to another request: " + echoed, null);
            }
            inStep = true;
            return result;
        } finally {
            detach(deadline); // from here on no cancel can reach the bridge
            if (inStep && !bridge.isStopping()) {
                client.giveBack(bridge);
            } else {
                if (!inStep) {
                    bridge.kill();
                }
                bridge.join(); // one that was cancelled and has answered is about to end; the timer kills it else
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
        return client.timer.schedule(() -> {
            synchronized (this) {
                if (launcher != null) {
                    late = true;
                    launcher.stop();
                }
            }
        }, timeout.plus(client.settings.margin).toNanos(), TimeUnit.NANOSECONDS);
    }

    private void detach(ScheduledFuture<?> deadline) {
        deadline.cancel(false);
        synchronized (this) {
            launcher = null;
        }
    }

    private Result result(byte[] line, Launcher from) throws TransportException {
        if (line.length == 0 || line[line.length - 1] != '\n') { // a line that was cut is no answer
            throw TransportException.mayHaveRun(whyNoAnswer(), "no answer from py3run" + from.said(), null);
        }
        try {
            String text = Line.decode(line);
            return Result.of(text, Line.unmodifiable(client.settings.json.parse(text)));
        } catch (RuntimeException e) { // also from the JSON library
            throw TransportException.mayHaveRun(Kind.BAD_ANSWER, "py3run gave no result: " + e.getMessage() + from.said(), e);
        }
    }

    private synchronized Kind whyNoAnswer() {
        return late ? Kind.DEADLINE : cancelled ? Kind.CANCELLED : Kind.DIED;
    }
}
