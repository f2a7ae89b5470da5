package py3run;

import java.io.IOException;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.TimeUnit;

/** A launcher that serves one request after the other. */
final class Bridge extends Launcher {
    /** How long a bridge may take to say that it is ready. */
    private static final Duration START = Duration.ofSeconds(30);

    private CompletableFuture<byte[]> awaited; // guarded by this; null: no line is due
    private boolean ended; // guarded by this: no more lines will come

    Bridge(Py3Run client) throws TransportException {
        super(client, "bridge");
        CompletableFuture<byte[]> ready = new CompletableFuture<>();
        awaited = ready;
        try {
            client.inBackground(this::read);
            String line = Line.decode(ready.copy().orTimeout(START.toNanos(), TimeUnit.NANOSECONDS).join());
            if (!line.equals("{\"status\":\"ready\"}")) {
                throw new IllegalArgumentException("not ready but " + line);
            }
        } catch (RuntimeException e) {
            kill();
            join();
            String why = e instanceof CompletionException ? e.getCause().toString() : e.getMessage();
            throw TransportException.nothingRan(TransportException.Kind.NOT_STARTED, "start " + client.settings.launcher + " bridge: " + why + said(), e);
        }
    }

    /** Hands each line to whoever awaits it. This thread also notices the end of an idle bridge. */
    private Void read() {
        Throwable why = new IOException("the end of its output");
        try {
            Line.Reader lines = new Line.Reader(process.getInputStream());
            for (byte[] line; (line = lines.next()) != null;) {
                CompletableFuture<byte[]> due = take();
                if (due == null) { // it would become the answer to the next request
                    throw new IOException("a line that nobody asked for");
                }
                due.complete(line);
            }
        } catch (IOException | RuntimeException | Error e) {
            why = e;
        }
        synchronized (this) {
            ended = true;
        }
        kill();
        CompletableFuture<byte[]> due = take();
        if (due != null) {
            due.completeExceptionally(why);
        }
        return null;
    }

    private synchronized CompletableFuture<byte[]> take() {
        CompletableFuture<byte[]> due = awaited;
        awaited = null;
        return due;
    }

    /** Sends a request and waits for the reply; empty: the bridge has ended. The deadline of the call bounds the wait. */
    byte[] ask(byte[] request) throws TransportException {
        CompletableFuture<byte[]> reply = new CompletableFuture<>();
        synchronized (this) {
            if (ended) {
                return new byte[0];
            }
            awaited = reply;
        }
        write(request, false);
        try {
            return reply.join();
        } catch (CompletionException e) {
            join();
            if (e.getCause() instanceof TransportException tooLong) {
                throw tooLong;
            }
            return new byte[0];
        }
    }

    synchronized boolean isUsable() {
        return !ended && !isStopping() && process.toHandle().isAlive(); // the handle asks the kernel
    }

    /** Asks it to end, and kills it if it does not. */
    void dismiss() {
        killLater();
        byte[] shutdown = Line.encode(client.settings.json.write(Map.of("command", "shutdown")));
        client.inBackground(() -> { // it may block
            write(shutdown, true);
            return null;
        });
    }
}
