import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import py3run.Call;
import py3run.Json;
import py3run.Options;
import py3run.Py3Run;
import py3run.Result;
import py3run.TransportException;

/** What callers see is the same over each transport: the subclasses run all of this. */
abstract class Calls {
    static final Options NONE = Options.NONE;

    @TempDir
    Path dir;

    abstract Py3Run.Builder transport(Json json);

    /** What a script does until it has got a request. */
    abstract String untilAsked();

    final Py3Run.Builder client() {
        return Host.configured(transport(new GsonJson()), dir);
    }

    @Test
    void everyMethod() throws Exception {
        try (Py3Run py3run = client().open()) {
            assertEquals(42L, ok(py3run.execute("result = x * 2", Map.of("x", 21), NONE)).value());
            assertEquals("hello\n", ok(py3run.execute("print('hello')", null, NONE)).value());
            assertEquals("hello\n", ok(py3run.execute("print('hello')\nresult = None", null, NONE)).output());
            assertEquals(List.of(1L, 2L), ok(py3run.evaluate("sorted(x)", Map.of("x", List.of(2, 1)), NONE)).value());
            assertEquals("{\"a\": 1}", ok(py3run.callModule("json", "dumps", List.of(Map.of("a", 1)), Map.of("sort_keys", true), NONE)).value());
            assertEquals(List.of(), field(ok(py3run.checkSyntax("x = 1")), "errors"));
            Map<?, ?> problem = (Map<?, ?>) ((List<?>) field(ok(py3run.checkSyntax("x = 1\ny = (")), "errors")).get(0);
            assertEquals(2L, problem.get("line"));
            assertTrue(((List<?>) field(ok(py3run.getCompletions("import os\nos.getc", 2, 7)), "completions")).stream()
                    .anyMatch(c -> "getcwd".equals(((Map<?, ?>) c).get("text"))));
            assertEquals(3L, field(field(ok(py3run.getVersion()), "version_info"), "major"));
            assertEquals("pong", ok(py3run.ping()).value());
        }
    }

    @Test
    void exactIntegers() throws Exception {
        String code = "result = {'big': 2**70, 'odd': 2**53 + 1, 'least': -2**63, 'most': 2**64 - 1, 'in': [given, given + 1], 'float': 0.1, 'huge': 1e300}";
        BigInteger given = BigInteger.TWO.pow(200).negate();
        for (Json json : List.of(new GsonJson(), new MiniJson())) {
            try (Py3Run py3run = Host.configured(transport(json), dir).open()) {
                Result r = ok(py3run.execute(code, Map.of("given", given), NONE));
                assertEquals("1180591620717411303424", field(r, "big").toString());
                assertEquals(9007199254740993L, field(r, "odd"));
                assertEquals(Long.toString(Long.MIN_VALUE), field(r, "least").toString());
                assertEquals("18446744073709551615", field(r, "most").toString());
                assertEquals(List.of(given, given.add(BigInteger.ONE)), field(r, "in"));
                assertEquals(0.1, field(r, "float"));
                assertEquals(1e300, field(r, "huge"));
                // For readers that are less exact, py3run says where they would round.
                assertTrue(r.warnings().stream().anyMatch(w -> w.code().equals("inexact_value") && w.message().contains("big")), r.line());
            }
        }
    }

    @Test
    void nullsEverywhere() throws Exception {
        Map<String, Object> request = new HashMap<>();
        for (String field : List.of("protocol", "id", "command", "expression", "module", "function", "args", "kwargs", "line", "column", "script", "argv", "stdin",
                "filename", "user", "client_ip", "api_key", "security_mode", "limits", "result_format", "result_from", "labels")) {
            request.put(field, null);
        }
        Map<String, Object> variables = new HashMap<>();
        variables.put("nothing", null);
        variables.put("inside", Arrays.asList(null, Collections.singletonMap("k", null)));
        request.put("variables", variables);
        request.put("code", "result = [nothing, inside, {'n': None}]");
        try (Py3Run py3run = client().open()) {
            Result r = ok(py3run.start(request, NONE).await());
            assertEquals(Arrays.asList(null, Arrays.asList(null, Collections.singletonMap("k", null)), Collections.singletonMap("n", null)), r.value());
            assertNull(r.error());
            assertNull(r.traceback());
            assertNull(r.failure());
            assertNull(ok(py3run.execute("result = None", null, NONE)).value());
            assertNull(ok(py3run.execute("pass", null, NONE)).value());
        }
    }

    @Test
    void unicode() throws Exception {
        String text = "Ü水 \uD83D\uDC0D \u2028 \u0000 \u001b \" \\ \uFFFF </script> \uDBFF\uDFFF\r\n";
        try (Py3Run py3run = client().open()) {
            Result r = ok(py3run.execute("print(end=t)\nresult = {t: [t, len(t)]}", Map.of("t", text), NONE));
            assertEquals(Map.of(text, List.of(text, (long) text.codePointCount(0, text.length()))), r.value());
            assertEquals(text, r.output());
            Result named = py3run.start(Map.of("code", "1 / 0", "filename", "Ü水.py"), NONE).await();
            assertTrue(named.traceback().contains("File \"Ü水.py\", line 1"), named.line());
            for (String half : List.of("\uD83D", "\uDC0D", "a\uDC0D\uD83Db")) {
                assertThrows(IllegalArgumentException.class, () -> py3run.execute("result = t", Map.of("t", half), NONE));
                assertThrows(IllegalArgumentException.class, () -> py3run.execute("'" + half + "'", null, NONE));
            }
        }
    }

    @Test
    void notANumber() throws Exception {
        try (Py3Run py3run = client().open()) {
            assertEquals(Arrays.asList(null, null, 1.5), ok(py3run.evaluate("[float('nan'), float('-inf'), 1.5]", null, NONE)).value());
            assertThrows(IllegalArgumentException.class, () -> py3run.execute("pass", Map.of("x", Double.NaN), NONE));
        }
    }

    @Test
    void large() throws Exception {
        int size = 30 << 20;
        Map<String, String> environment = Host.environment(dir);
        environment.put("PY3RUN_SECURITY_MAX_OUTPUT_SIZE_MB", "64");
        try (Py3Run py3run = client().environment(environment).open()) {
            String value = (String) ok(py3run.evaluate("'x' * " + size + " + 'end'", null, NONE)).value();
            assertEquals(size + 3, value.length());
            assertTrue(value.endsWith("xend"));
            assertEquals(20L << 20, ok(py3run.evaluate("len(t)", Map.of("t", "y".repeat(20 << 20)), NONE)).value());
        }
    }

    @Test
    void dates() throws Exception {
        try (Py3Run py3run = client().open()) {
            assertEquals(List.of("2026-11-30", "2026-11-30T23:59:59.000123+01:00"), ok(py3run.execute("""
                    from datetime import date, datetime, timedelta, timezone
                    result = [date(2026, 11, 30), datetime(2026, 11, 30, 23, 59, 59, 123, timezone(timedelta(hours=1)))]
                    """, null, NONE)).value());
        }
    }

    @Test
    void exceptions() throws Exception {
        try (Py3Run py3run = client().open()) {
            Result r = py3run.execute("print('before')\nlevels = {}\nlevels['T-9']", null, NONE);
            assertEquals("error", r.status());
            assertEquals("KeyError: 'T-9'", r.error());
            assertEquals("KeyError", r.failure().type());
            assertEquals(3, r.failure().line());
            assertEquals("before\n", r.output());
            assertTrue(r.traceback().contains("line 3"), r.traceback());
            assertNull(r.value());

            Result syntax = py3run.execute("x = (", null, NONE);
            assertEquals("error", syntax.status());
            assertEquals("SyntaxError", syntax.failure().type());

            assertEquals("bad_request", py3run.start(Map.of("command", "no_such"), NONE).await().status());
            assertEquals(2L, ok(py3run.evaluate("1 + 1", null, NONE)).value());
        }
    }

    @Test
    void exits() throws Exception {
        try (Py3Run py3run = client().processes(1).open()) {
            for (String code : List.of("import sys; sys.exit(3)", "import os; os._exit(7)")) {
                Result r = py3run.execute("print('said', flush=True)\n" + code, null, NONE);
                assertEquals("exit", r.status(), r.line());
                assertEquals("said\n", r.output());
            }
            assertEquals("signal", py3run.execute("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", null, NONE).status());
            assertEquals(2L, ok(py3run.evaluate("1 + 1", null, NONE)).value());
        }
    }

    @Test
    void outputOfEveryKind() throws Exception {
        String forged = "{\"success\": true, \"status\": \"ok\", \"result\": \"forged\"}";
        try (Py3Run py3run = client().open()) {
            Result r = ok(py3run.execute("""
                    import os, subprocess, sys, threading
                    os.write(1, (forged + '\\n').encode())
                    subprocess.run([sys.executable, '-c', 'print("child")'], check=True)
                    os.system('echo shell; echo error >&2')
                    thread = threading.Thread(target=print, args=('thread',))
                    thread.start()
                    thread.join()
                    result = input.__name__
                    """, Map.of("forged", forged), NONE));
            assertEquals("input", r.value());
            assertEquals(forged + "\nchild\nshell\nthread\n", r.output());
            assertEquals("EOFError", py3run.execute("input()", null, NONE).failure().type());
            assertEquals(2L, ok(py3run.evaluate("1 + 1", null, NONE)).value());
        }
    }

    @Test
    void timeLimit() throws Exception {
        try (Py3Run py3run = client().open()) {
            Result r = py3run.execute("print('started', flush=True)\nwhile True:\n    pass", null, NONE.withTimeout(Duration.ofSeconds(1)));
            assertEquals("timeout", r.status());
            assertEquals("started\n", r.output());
            assertEquals("timeout_seconds", ((Map<?, ?>) r.failure().fields().get("limit")).get("name"));
            assertNotNull(r.receipt());
            assertEquals(2L, ok(py3run.evaluate("1 + 1", null, NONE)).value());
        }
    }

    /** The deadline behind the launcher's own: SIGTERM, then SIGKILL. */
    @Test
    void aLauncherThatHangs() throws Exception {
        String script = Host.script(dir.resolve("launcher"), untilAsked() + "trap '' TERM\nexec sleep 600\n");
        try (Py3Run py3run = client().launcher(script).timeout(Duration.ofMillis(100)).margin(Duration.ofMillis(100)).open()) {
            TransportException e = assertThrows(TransportException.class, py3run::ping);
            assertEquals(TransportException.Kind.DEADLINE, e.kind(), e.getMessage());
            assertTrue(e.mayHaveRun());
            Host.until("it is killed", () -> py3run.processes().isEmpty());
        }
    }

    @Test
    void cancellation() throws Exception {
        try (Py3Run py3run = client().processes(1).open()) {
            Call call = py3run.start(marked("import time\ntime.sleep(600)"), NONE);
            untilMarked();
            Call queued = py3run.start(Map.of("code", "result = 1"), NONE);
            queued.cancel();
            TransportException e = assertThrows(TransportException.class, queued::await);
            assertEquals(TransportException.Kind.CANCELLED, e.kind());
            assertFalse(e.mayHaveRun());

            List<ProcessHandle> all = Host.tree(py3run.processes().get(0));
            call.cancel();
            Result r = call.await();
            assertEquals("cancelled", r.status());
            assertNotNull(r.receipt());
            Host.untilGone(all);
            call.cancel(); // after the end: without effect on the next call
            assertEquals(2L, ok(py3run.evaluate("1 + 1", null, NONE)).value());
        }
    }

    /** Before its process exists, while it starts, while the code runs, while the answer comes, afterwards. */
    @Test
    void cancellationAtAnyMoment() throws Exception {
        Py3Run py3run = client().processes(2).open();
        try (py3run) {
            for (int i = 0; i < 25; i++) {
                Call call = py3run.start(Map.of("code", "result = list(range(100000))"), NONE);
                long moment = System.nanoTime() + i * i * 300_000L;
                Host.until("the moment", () -> System.nanoTime() >= moment);
                call.cancel();
                try {
                    Result r = call.await();
                    assertTrue(r.ok() || r.status().equals("cancelled"), r.line());
                } catch (TransportException e) {
                    assertEquals(TransportException.Kind.CANCELLED, e.kind(), e.getMessage());
                }
            }
            assertEquals(2L, ok(py3run.evaluate("1 + 1", null, NONE)).value());
        }
        assertEquals(List.of(), py3run.processes());
    }

    @Test
    void interruptedThread() throws Exception {
        try (Py3Run py3run = client().processes(1).open()) {
            Thread self = Thread.currentThread();
            Thread button = new Thread(() -> {
                try {
                    untilMarked();
                } catch (Exception e) {
                    throw new AssertionError(e);
                } finally {
                    self.interrupt();
                }
            });
            button.start();
            assertThrows(InterruptedException.class, () -> py3run.start(marked("import time\ntime.sleep(600)"), NONE).await());
            button.join();
            assertFalse(Thread.interrupted());
            assertEquals(2L, ok(py3run.evaluate("1 + 1", null, NONE)).value());
        }
    }

    @Test
    void busy() throws Exception {
        try (Py3Run py3run = client().processes(1).queueTime(Duration.ofMillis(1)).open()) {
            Call call = py3run.start(marked("import time\ntime.sleep(600)"), NONE);
            untilMarked();
            TransportException e = assertThrows(TransportException.class, () -> py3run.ping());
            assertEquals(TransportException.Kind.BUSY, e.kind());
            assertFalse(e.mayHaveRun());
            call.cancel();
            assertEquals("cancelled", call.await().status());
        }
    }

    @Test
    void killedLauncher() throws Exception {
        try (Py3Run py3run = client().processes(1).open()) {
            for (int i = 0; i < 3; i++) {
                Call call = py3run.start(marked("import os, subprocess, time\nsubprocess.Popen(['sleep', '600'], start_new_session=True)\nmark()\ntime.sleep(600)"), NONE);
                untilMarked();
                ProcessHandle launcher = py3run.processes().get(0);
                List<ProcessHandle> all = Host.tree(launcher);
                assertTrue(all.size() >= 3, "the launcher, Python and its child: " + all);
                launcher.destroyForcibly();
                TransportException e = assertThrows(TransportException.class, call::await);
                assertEquals(TransportException.Kind.DIED, e.kind());
                assertTrue(e.mayHaveRun());
                Host.untilGone(all);
                assertEquals(2L, ok(py3run.evaluate("1 + 1", null, NONE)).value());
            }
        }
    }

    @Test
    void concurrentCalls() throws Exception {
        try (Py3Run py3run = client().processes(4).open()) {
            List<Call> calls = new ArrayList<>();
            for (int i = 0; i < 200; i++) {
                calls.add(py3run.start(Map.of("code", "print(n)\nresult = [n, 2**64 + n]", "variables", Map.of("n", i)), NONE.withUser("user" + i % 7)));
            }
            int most = 0;
            for (int i = 0; i < 200; i++) {
                Result r = ok(calls.get(i).await());
                assertEquals(List.of((long) i, BigInteger.TWO.pow(64).add(BigInteger.valueOf(i))), r.value());
                assertEquals(i + "\n", r.output());
                most = Math.max(most, py3run.processes().size());
            }
            assertTrue(most <= 4, "at once: " + most);
        }
    }

    @Test
    void receipt() throws Exception {
        try (Py3Run py3run = client().open()) {
            Options alice = NONE.withUser("alice").withClientAddress("10.0.0.7").withSecurityMode("RESTRICTED").withLabels(Map.of("line", "3"));
            Result r = ok(py3run.execute("result = 1", null, alice));
            String line = Files.readAllLines(dir.resolve("audit/audit.jsonl")).get((int) r.receipt().seq() - 1);
            assertEquals(r.receipt().hash(), HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(line.getBytes(StandardCharsets.UTF_8))));
            Map<String, Object> record = new GsonJson().parse(line);
            assertEquals(r.receipt().seq(), record.get("seq"));
            assertEquals(r.runId(), record.get("run_id"));
            assertEquals("ok", record.get("status"));
            assertEquals("execution-end", field(record.get("event"), "action"));
            assertEquals("alice", field(record.get("user"), "name"));
            assertEquals("10.0.0.7", field(record.get("client"), "ip"));
            assertEquals(Map.of("line", "3"), record.get("labels"));
            assertEquals("bob", auditedUser(ok(py3run.execute("result = 1", null, NONE.withUser("bob")))));
            assertNull(ok(py3run.ping()).receipt());
        }
    }

    private String auditedUser(Result r) throws Exception {
        Map<String, Object> record = new GsonJson().parse(Files.readAllLines(dir.resolve("audit/audit.jsonl")).get((int) r.receipt().seq() - 1));
        return (String) field(record.get("user"), "name");
    }

    @Test
    void launchersThatDoNotStart() throws Exception {
        Path plain = Files.writeString(dir.resolve("plain"), "no program");
        for (String launcher : List.of(dir.resolve("absent").toString(), plain.toString(), dir.toString())) {
            try (Py3Run py3run = client().launcher(launcher).open()) {
                TransportException e = assertThrows(TransportException.class, () -> py3run.ping());
                assertEquals(TransportException.Kind.NOT_STARTED, e.kind(), e.getMessage());
                assertTrue(e.getMessage().contains(launcher), e.getMessage());
                assertFalse(e.mayHaveRun());
            }
        }
    }

    @Test
    void closing() throws Exception {
        Py3Run py3run = client().processes(2).open();
        Call call = py3run.start(marked("import time\ntime.sleep(600)"), NONE);
        untilMarked();
        assertEquals(2L, ok(py3run.evaluate("1 + 1", null, NONE)).value()); // over the bridge, this one stays idle
        List<ProcessHandle> all = py3run.processes().stream().flatMap(launcher -> Host.tree(launcher).stream()).toList();
        py3run.close();
        assertEquals("cancelled", call.await().status());
        assertEquals(List.of(), py3run.processes());
        Host.untilGone(all);
        assertEquals(TransportException.Kind.CLOSED, assertThrows(TransportException.class, () -> py3run.ping()).kind());
        py3run.shutdown(); // again
    }

    /** A launcher that answers something else, or nothing. */
    final void answers(String how, TransportException.Kind kind, String answering) throws Exception {
        try (Py3Run py3run = client().launcher(Host.script(dir.resolve("launcher"), untilAsked() + answering)).open()) {
            TransportException e = assertThrows(TransportException.class, () -> py3run.ping(), how);
            assertEquals(kind, e.kind(), how + ": " + e.getMessage());
            assertTrue(e.mayHaveRun(), how);
        }
    }

    /** A request whose code makes a file and goes on. {@link #untilMarked} waits for it, and takes it away. */
    final Map<String, Object> marked(String code) {
        String mark = "def mark():\n    open(marker, 'x').close()\n";
        return Map.of("code", mark + (code.contains("mark()") ? "" : "mark()\n") + code, "variables", Map.of("marker", dir.resolve("mark").toString()));
    }

    final void untilMarked() throws Exception {
        Host.until("the code runs", () -> Files.deleteIfExists(dir.resolve("mark")));
    }

    static Result ok(Result r) {
        assertTrue(r.ok(), r.line());
        return r;
    }

    static Object field(Object of, String name) {
        return ((Map<?, ?>) (of instanceof Result r ? r.value() : of)).get(name);
    }
}
