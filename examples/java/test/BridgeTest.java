import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import py3run.Json;
import py3run.Options;
import py3run.Py3Run;
import py3run.TransportException;

/** The calls over a pool of bridges. */
final class BridgeTest extends Calls {
    @Override
    Py3Run.Builder transport(Json json) {
        return Py3Run.bridge(json);
    }

    @Override
    String untilAsked() {
        return "echo '{\"status\":\"ready\"}'\nread line\n";
    }

    @Test
    void oneBridgeServesManyCalls() throws Exception {
        try (Py3Run py3run = client().open()) {
            ok(py3run.ping());
            List<ProcessHandle> first = py3run.processes();
            assertEquals(1, first.size());
            for (int i = 0; i < 20; i++) {
                assertEquals((long) i, ok(py3run.execute("import sys\nassert not hasattr(sys, 'mine')\nsys.mine = n\nresult = n", Map.of("n", i), NONE)).value());
            }
            assertEquals(first, py3run.processes());
        }
    }

    @Test
    void keptInterpreters() throws Exception {
        Map<String, String> environment = Host.environment(dir);
        environment.put("PY3RUN_BRIDGE_STATE", "keep");
        try (Py3Run py3run = client().environment(environment).processes(1).open()) {
            Options alice = NONE.withUser("alice");
            Options bob = NONE.withUser("bob");
            String code = "import json\njson.count = getattr(json, 'count', 0) + 1\nresult = json.count";
            assertEquals(1L, ok(py3run.execute(code, null, alice)).value());
            assertEquals(2L, ok(py3run.execute(code, null, alice)).value());
            assertEquals(1L, ok(py3run.execute(code, null, bob)).value());
            assertEquals(3L, ok(py3run.execute(code, null, alice)).value());
            assertEquals("exit", py3run.execute("import sys; sys.exit(1)", null, alice).status());
            assertEquals(2L, ok(py3run.execute(code, null, bob)).value());
        }
    }

    @Test
    void aBridgeThatDiesWhileItIsIdle() throws Exception {
        try (Py3Run py3run = client().open()) {
            for (int i = 0; i < 3; i++) {
                assertEquals(2L, ok(py3run.evaluate("1 + 1", null, NONE)).value());
                ProcessHandle bridge = py3run.processes().get(0);
                bridge.destroyForcibly();
                Host.until("it is gone", () -> py3run.processes().isEmpty());
                assertEquals(2L, ok(py3run.evaluate("1 + 1", null, NONE)).value());
                assertNotEquals(bridge, py3run.processes().get(0));
            }
        }
    }

    @ParameterizedTest(name = "{0}")
    @CsvSource(delimiter = '|', textBlock = """
            nothing|              DIED|       :
            a line that is cut|   DIED|       printf '{"success":true}'
            no JSON|              BAD_ANSWER| echo hello; sleep 600
            no result|            BAD_ANSWER| echo '{}'; sleep 600
            another's result|     BAD_ANSWER| echo '{"success":true,"id":"other"}'; sleep 600
            too much|             BAD_ANSWER| head -c 70000000 /dev/zero | tr '\\0' x; sleep 600
            not UTF-8|            BAD_ANSWER| printf '{"success":true,"result":"\\377"}\\n'; sleep 600
            """)
    void bridgesThatAnswerSomethingElse(String how, TransportException.Kind kind, String answering) throws Exception {
        answers(how, kind, answering.replace("sleep", "exec sleep"));
    }

    /** A line that nobody asked for must not become the answer to the next call. */
    @Test
    void aLineTooMany() throws Exception {
        String script = untilAsked() + "printf '{\"success\":true,\"result\":1}\\n{\"success\":true,\"result\":2}\\n'\nread line\nsleep 600";
        try (Py3Run py3run = client().launcher(Host.script(dir.resolve("launcher"), script)).open()) {
            assertEquals(1L, ok(py3run.ping()).value());
            Host.until("the bridge is ended", () -> py3run.processes().isEmpty());
            assertEquals(1L, ok(py3run.ping()).value());
        }
    }

    @ParameterizedTest(name = "{0}")
    @CsvSource(delimiter = '|', textBlock = """
            ends at once | exit 3                     | exit code 3
            says why     | echo 'no room' >&2; exit 1 | no room
            not ready    | echo '{"status":"busy"}'   | busy
            no JSON      | echo hello                 | hello
            """)
    void bridgesThatDoNotStart(String how, String script, String message) throws Exception {
        try (Py3Run py3run = client().launcher(Host.script(dir.resolve("launcher"), script)).open()) {
            TransportException e = assertThrows(TransportException.class, () -> py3run.ping());
            assertEquals(TransportException.Kind.NOT_STARTED, e.kind(), how);
            assertTrue(e.getMessage().contains(message), e.getMessage());
        }
    }
}
