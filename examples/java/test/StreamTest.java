import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import py3run.Call;
import py3run.Options;
import py3run.Py3Run;
import py3run.Result;
import py3run.TransportException;

/** Output that arrives while the code runs. */
final class StreamTest {
    /** Code that waits until the test has made a file. */
    private static final String WAITING = "import os, time\ndef wait(name):\n    while not os.path.exists(dir + '/' + name):\n        time.sleep(0.01)\n";

    @TempDir
    Path dir;

    private Map<String, Object> waiting(String code) {
        return Map.of("code", WAITING + code, "variables", Map.of("dir", dir.toString()));
    }

    /** An existing file answers to what the code waits for. */
    private void make(String name) {
        try {
            if (!Files.exists(dir.resolve(name))) {
                Files.createFile(dir.resolve(name));
            }
        } catch (java.io.IOException e) {
            throw new java.io.UncheckedIOException(e);
        }
    }

    private static String text(List<Py3Run.Event> events, String type) {
        return events.stream().filter(event -> event.type().equals(type)).map(Py3Run.Event::text).collect(Collectors.joining());
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void outputComesWhileTheCodeRuns(boolean bridge) throws Exception {
        List<Py3Run.Event> events = new CopyOnWriteArrayList<>();
        try (Py3Run py3run = Host.configured(bridge ? Py3Run.bridge(new GsonJson()) : Py3Run.exec(new MiniJson()), dir).open()) {
            Call call = py3run.stream(waiting("""
                    import sys
                    print('one')
                    wait('one')
                    print('two', file=sys.stderr)
                    wait('two')
                    wait('beat')
                    print('🐍' * 40000)
                    result = 2**70
                    """), Options.NONE, event -> {
                        events.add(event);
                        if (event.text().equals("one\n")) {
                            make("one");
                        }
                        if (event.type().equals("stderr")) {
                            make("two");
                        }
                        if (event.type().equals("heartbeat")) {
                            make("beat");
                        }
                    });
            Result r = Calls.ok(call.await());
            assertEquals("1180591620717411303424", r.value().toString());
            assertEquals("start", events.get(0).type());
            assertEquals(r.runId(), events.get(0).fields().get("run_id"));
            assertEquals("one\n" + "🐍".repeat(40000) + "\n", text(events, "stdout"));
            assertEquals(r.output(), text(events, "stdout"));
            assertEquals("two\n", text(events, "stderr"));
            assertTrue(events.stream().noneMatch(event -> event.type().equals("result")));
            assertInstanceOf(Map.class, events.stream().filter(event -> event.type().equals("heartbeat")).findFirst().orElseThrow().fields().get("usage"));
        }
    }

    @Test
    void concurrentStreams() throws Exception {
        try (Py3Run py3run = Host.configured(Py3Run.exec(new GsonJson()), dir).processes(4).open()) {
            List<List<Py3Run.Event>> events = new ArrayList<>();
            List<Call> calls = new ArrayList<>();
            for (int i = 0; i < 16; i++) {
                List<Py3Run.Event> mine = new CopyOnWriteArrayList<>();
                events.add(mine);
                calls.add(py3run.stream(Map.of("code", "for i in range(500): print(n, i, flush=True)\nresult = n", "variables", Map.of("n", i)), Options.NONE, mine::add));
            }
            for (int i = 0; i < 16; i++) {
                assertEquals((long) i, Calls.ok(calls.get(i).await()).value());
                StringBuilder want = new StringBuilder();
                for (int k = 0; k < 500; k++) {
                    want.append(i).append(' ').append(k).append('\n');
                }
                assertEquals(want.toString(), text(events.get(i), "stdout"));
            }
        }
    }

    @Test
    void otherEnds() throws Exception {
        try (Py3Run py3run = Host.configured(Py3Run.exec(new GsonJson()), dir).processes(1).open()) {
            Map<String, Object> endless = Map.of("code", "print('on')\nimport time\ntime.sleep(600)");

            // The listener itself cancels.
            CompletableFuture<Call> self = new CompletableFuture<>();
            Call cancelled = py3run.stream(endless, Options.NONE, event -> {
                if (event.type().equals("stdout")) {
                    self.join().cancel();
                }
            });
            self.complete(cancelled);
            Result r = cancelled.await();
            assertEquals("cancelled", r.status());
            assertEquals("on\n", r.output());

            // The listener fails.
            IllegalStateException fault = new IllegalStateException("full");
            Call failing = py3run.stream(endless, Options.NONE, event -> {
                throw fault;
            });
            assertSame(fault, assertThrows(IllegalStateException.class, failing::await));

            // The launcher dies.
            Call killed = py3run.stream(endless, Options.NONE, event -> {
                if (event.type().equals("stdout")) {
                    py3run.processes().forEach(ProcessHandle::destroyForcibly);
                }
            });
            assertEquals(TransportException.Kind.DIED, assertThrows(TransportException.class, killed::await).kind());

            // Nothing runs.
            List<Py3Run.Event> none = new CopyOnWriteArrayList<>();
            assertEquals("bad_request", py3run.stream(Map.of("command", "no_such"), Options.NONE, none::add).await().status());
            assertEquals(List.of(), none);
        }
    }
}
