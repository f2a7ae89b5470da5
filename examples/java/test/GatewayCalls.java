import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.gson.JsonPrimitive;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What an existing gateway's client does and expects. It is the same with bare Python and in both ways through py3run. */
abstract class GatewayCalls {
    @TempDir
    Path dir;
    final Gateway.Settings settings = new Gateway.Settings();

    /** Returns the pythonPath of the client. */
    abstract Path python() throws Exception;

    @BeforeEach
    final void configure() throws Exception {
        settings.python = python().toString();
        settings.environment = Host.environment(dir);
        settings.script = dir.resolve("python_bridge1.py");
        Files.copy(Path.of(System.getProperty("py3run.test.files"), "gateway_bridge.py"), settings.script); // as the client does
        settings.healthCheck = Duration.ofMillis(100);
        settings.reply = Host.PATIENCE;
        settings.borrow = Host.PATIENCE;
        settings.end = Host.PATIENCE;
    }

    /** Counts in a module how often its process has run this. */
    static final String COUNTING = "import json\njson.count = getattr(json, 'count', 0) + 1\nresult = json.count";

    /** A request and its reply, without the fields that only one of the ways has. */
    private static final String TABLE = """
            {"command":"execute","code":"result = 6 * 7"}
            {"success":true,"result":42}
            {"command":"execute","code":"print('hello')"}
            {"success":true,"result":"hello\\n","output":"hello\\n"}
            {"command":"execute","code":"pass"}
            {"success":true,"result":null}
            {"command":"execute","code":"print(1)\\nresult = None"}
            {"success":true,"result":null,"output":"1\\n"}
            {"command":"execute","code":"result = [x, y, z]","variables":{"x":null,"y":[1.5,"ü水🐍"],"z":{"k":null}},"security_mode":"DESIGNER_ADMIN"}
            {"success":true,"result":[null,[1.5,"ü水🐍"],{"k":null}]}
            {"command":"execute","code":"result = __name__","security_mode":"ADMIN"}
            {"success":true,"result":"__main__"}
            {"command":"execute","code":"print('before')\\n1/0","security_mode":"RESTRICTED"}
            {"success":false,"error":"ZeroDivisionError: division by zero","output":"before\\n"}
            {"command":"execute","code":"raise ValueError"}
            {"success":false,"error":"ValueError"}
            {"command":"execute","code":"import no_such_module"}
            {"success":false,"error":"ModuleNotFoundError: No module named 'no_such_module'"}
            {"command":"execute","code":"def f():\\n    raise KeyError(1)\\nf()"}
            {"success":false,"error":"KeyError: 1"}
            {"command":"execute","code":"x = y z"}
            {"success":false,"error":"SyntaxError: invalid syntax (main.py, line 1)"}
            {"command":"execute","code":"import datetime\\nresult = datetime.datetime(2026, 11, 30, 23, 59)"}
            {"success":true,"result":"2026-11-30T23:59:00"}
            {"command":"execute","code":"import subprocess, sys\\nresult = subprocess.run([sys.executable, '-c', 'print(7)'], stdout=subprocess.PIPE, check=True).stdout"}
            {"success":true,"result":"7\\n"}
            {"command":"execute","code":"import threading\\nout = []\\nt = threading.Thread(target=out.append, args=(3,))\\nt.start()\\nt.join()\\nresult = out"}
            {"success":true,"result":[3]}
            {"command":"execute","code":"import json, os\\nresult = [os.environ['PYTHON3_MAX_MEMORY_MB'], os.environ['PYTHON3_MAX_CPU_SECONDS'], os.environ['OMP_NUM_THREADS']]"}
            {"success":true,"result":["2048","60","1"]}
            {"command":"evaluate","expression":"2**70 + x","variables":{"x":1}}
            {"success":true,"result":1180591620717411303425}
            {"command":"evaluate","expression":"[float('nan'), 0.1, True, b'\\\\xff', {3, 1}, (1,), object]"}
            {"success":true,"result":[null,0.1,true,"/w==",[1,3],[1],"<class 'object'>"]}
            {"command":"evaluate","expression":"1/0"}
            {"success":false,"error":"ZeroDivisionError: division by zero"}
            {"command":"evaluate","expression":"print('printed')"}
            {"success":true,"result":null,"output":"printed\\n"}
            {"command":"call_module","module":"os.path","function":"join","args":["a","b"]}
            {"success":true,"result":"a/b"}
            {"command":"call_module","module":"json","function":"dumps","args":[{"b":1,"a":null}],"kwargs":{"sort_keys":true}}
            {"success":true,"result":"{\\"a\\": null, \\"b\\": 1}"}
            {"command":"call_module","module":"math","function":"no_such"}
            {"success":false,"error":"AttributeError: module 'math' has no attribute 'no_such'"}
            {"command":"check_syntax","code":"x = 1"}
            {"success":true,"result":{"errors":[]}}
            {"command":"check_syntax","code":"x = 1\\ny = = 1"}
            {"success":true,"result":{"errors":[{"line":2,"column":5,"message":"invalid syntax","severity":"error"}]}}
            {"command":"ping"}
            {"success":true,"result":"pong"}
            """;

    @Test
    void sameAnswers() throws Exception {
        List<String> lines = TABLE.lines().toList();
        List<String> wrong = new ArrayList<>();
        try (Gateway gateway = new Gateway(settings)) {
            for (int i = 0; i < lines.size(); i += 2) {
                JsonObject reply = gateway.call(JsonParser.parseString(lines.get(i)).getAsJsonObject());
                if (!reply.get("success").getAsBoolean()) {
                    assertTrue(reply.has("error"), reply.toString());
                }
                Set.of("traceback", "id", "run_id", "failure", "warnings", "audit").forEach(reply::remove);
                JsonElement want = JsonParser.parseString(lines.get(i + 1));
                if (!reply.equals(want)) {
                    wrong.add(lines.get(i) + "\n  gives " + reply + "\n  wants " + want);
                }
            }
            JsonObject version = result(gateway.call("version")).getAsJsonObject();
            assertEquals(Set.of("version", "version_info", "executable", "platform"), version.keySet());
            assertEquals(3, version.getAsJsonObject("version_info").get("major").getAsInt());
            assertTrue(result(gateway.call("list_modules")).getAsJsonArray().contains(new JsonPrimitive("sys")));
            assertTrue(gateway.call("clear_globals").get("success").getAsBoolean());
            JsonElement completions = result(gateway.call("get_completions", "code", "import os\nos.getc", "line", 2, "column", 7));
            assertTrue(completions.toString().contains("getcwd"), completions.toString());
            assertFalse(gateway.call("no_such_command").get("success").getAsBoolean());
        }
        assertEquals(List.of(), wrong);
    }

    @Test
    void poolStaysWhole() throws Exception {
        try (Gateway gateway = new Gateway(settings)) {
            Set<Long> before = pids(gateway);
            assertEquals(3, before.size());
            // An idle period of the pool, in which nothing may happen to it.
            long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(3);
            Host.until("some seconds and ten health checks", () -> System.nanoTime() > end && gateway.checks.get() > 10);
            assertEquals(before, pids(gateway));
            for (ProcessHandle each : gateway.processes()) {
                assertTrue(Gateway.residentKilobytes(each) > 0);
            }
            List<ProcessHandle> killed = Host.tree(gateway.processes().get(0));
            killed.get(0).destroyForcibly();
            Host.untilGone(killed);
            Host.until("a new worker", () -> gateway.processes().size() == 3 && !gateway.processes().contains(killed.get(0)));
            for (int i = 0; i < 6; i++) {
                assertEquals(i, result(gateway.call("execute", "code", "result = n", "variables", Map.of("n", i))).getAsInt());
            }
            assertEquals(3, pids(gateway).size());
        }
    }

    @Test
    void breaker() throws Exception {
        settings.size = 1;
        settings.open = Duration.ofSeconds(2);
        try (Gateway gateway = new Gateway(settings)) {
            for (int i = 0; i < 20; i++) { // failures of the code are none of the client's
                assertFalse(gateway.call("execute", "code", "1/0").get("success").getAsBoolean());
            }
            assertEquals(2, result(gateway.call("evaluate", "expression", "1 + 1")).getAsInt());
            for (int i = 0; i < settings.failures; i++) {
                int checks = gateway.checks.get();
                Host.until("a worker", () -> gateway.checks.get() > checks && gateway.processes().stream().anyMatch(ProcessHandle::isAlive));
                gateway.processes().get(0).destroyForcibly();
                Host.until("it is dead", () -> {
                    try {
                        gateway.call("ping");
                        return false;
                    } catch (Gateway.Refused e) {
                        throw e;
                    } catch (IOException e) {
                        return true;
                    }
                });
            }
            assertThrows(Gateway.Refused.class, () -> gateway.call("ping"));
            Host.until("it closes, and the pool is whole", () -> {
                try {
                    return gateway.call("ping").get("success").getAsBoolean();
                } catch (IOException e) {
                    return false;
                }
            });
        }
    }

    @Test
    void ends() throws Exception {
        Gateway gateway = new Gateway(settings);
        List<ProcessHandle> all = gateway.processes().stream().flatMap(worker -> Host.tree(worker).stream()).toList();
        assertEquals(2, result(gateway.call("evaluate", "expression", "1 + 1")).getAsInt());
        gateway.close();
        Host.untilGone(all);
        assertEquals(0, gateway.killed.get(), "workers that did not end by themselves");
    }

    /** The other calls of the same pythonPath: what they print is what bare Python prints, and nothing else. */
    @Test
    void otherCommandLines() throws Exception {
        List<String[]> lines = List.of(new String[] {"--version"}, new String[] {"-c", "import sys; print(sys.version)"}, new String[] {"-c", "import json"},
                new String[] {"-c", "import no_such_module"}, new String[] {"-m", "pip", "--version"}, new String[] {"-c", "import sys; print(sys.stdin.read(), end='')"});
        for (String[] line : lines) {
            Printed bare = print(Host.python().toString(), line);
            assertEquals(bare, print(python("others").toString(), line), String.join(" ", line));
        }
    }

    /** How the client's terminal starts Python: interactive, over pipes. */
    @Test
    void terminal() throws Exception {
        assertEquals(print(Host.python().toString(), "-u", "-i"), print(python("others").toString(), "-u", "-i"));
    }

    /** For a way that serves the protocol alone, the client uses another pythonPath for the rest. */
    Path python(String purpose) throws Exception {
        return python();
    }

    static JsonElement result(JsonObject reply) {
        assertTrue(reply.get("success").getAsBoolean(), reply.toString());
        return reply.get("result");
    }

    record Printed(int code, String text) {
    }

    private Printed print(String python, String... arguments) throws Exception {
        Gateway.Settings other = new Gateway.Settings();
        other.python = python;
        other.environment = settings.environment;
        Process process = Gateway.builder(other, arguments).redirectErrorStream(true).start();
        try (var in = process.getOutputStream()) {
            in.write("1 + 1\nprint('ü')\n1/0\n".getBytes(StandardCharsets.UTF_8));
        } catch (IOException e) {
            // it reads no input, and has ended
        }
        String text = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        return new Printed(process.waitFor(), text);
    }

    static Set<Long> pids(Gateway gateway) {
        Set<Long> pids = new TreeSet<>();
        gateway.processes().forEach(process -> pids.add(process.pid()));
        return pids;
    }

}
