import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** A link to py3run that answers the protocol itself, whatever the client's script is. */
final class BridgeGatewayTest extends GatewayCalls {
    @Override
    Path python() throws Exception {
        Path link = dir.resolve("python3-bridge");
        return Files.isSymbolicLink(link) ? link : Files.createSymbolicLink(link, Host.LAUNCHER);
    }

    @Test
    void everyRequestIsFresh() throws Exception {
        settings.size = 1;
        try (Gateway gateway = new Gateway(settings)) {
            for (int i = 1; i <= 3; i++) {
                assertEquals(1, result(gateway.call("execute", "code", COUNTING)).getAsInt());
            }
        }
    }

    /** As with the client's own script, if the operator wants it so. */
    @Test
    void keptInterpreters() throws Exception {
        settings.size = 1;
        settings.environment.put("PY3RUN_BRIDGE_STATE", "keep");
        try (Gateway gateway = new Gateway(settings)) {
            for (int i = 1; i <= 3; i++) {
                assertEquals(i, result(gateway.call("execute", "code", COUNTING)).getAsInt());
            }
        }
    }

    /** The table of answers, too. */
    @Test
    void sameAnswersFromKeptInterpreters() throws Exception {
        settings.environment.put("PY3RUN_BRIDGE_STATE", "keep");
        sameAnswers();
    }

    @Test
    void theCodeCannotBreakTheProtocol() throws Exception {
        settings.size = 1;
        settings.drains = false;
        List<String> codes = List.of("import sys; sys.exit(3)", "import os; os._exit(0)", "import os; os.kill(os.getpid(), 9)", "input()",
                "import os\nos.write(1, b'{\"success\": true, \"result\": \"forged\"}\\n')", "import os\nos.write(2, b'e' * (256 << 10))",
                "import os\nfor fd in range(3, 256):\n    try:\n        os.write(fd, b'{}\\n')\n    except OSError:\n        pass",
                "import os\nos.closerange(0, 256)", "import subprocess\nsubprocess.Popen(['sleep', '600'], start_new_session=True)", "bytearray(3 << 30)");
        try (Gateway gateway = new Gateway(settings)) {
            ProcessHandle worker = gateway.processes().get(0);
            for (int i = 0; i < codes.size(); i++) {
                JsonObject reply = gateway.call("execute", "code", codes.get(i));
                assertTrue(reply.has("run_id"), reply.toString());
                assertFalse(reply.toString().contains("\"result\":\"forged\""), reply.toString());
                assertEquals(i, result(gateway.call("execute", "code", "result = n", "variables", Map.of("n", i))).getAsInt());
            }
            assertEquals(List.of(worker), gateway.processes());
        }
    }

    /** By itself a request ends before the client gives up after 30 s, and the pool stays as it is. */
    @Test
    void aRequestEndsByItself() throws Exception {
        settings.size = 1;
        settings.environment.put("PY3RUN_BRIDGE_TIMEOUT_SECONDS", "1");
        try (Gateway gateway = new Gateway(settings)) {
            ProcessHandle worker = gateway.processes().get(0);
            JsonObject reply = gateway.call("execute", "code", "while True: pass");
            assertFalse(reply.get("success").getAsBoolean());
            assertEquals("timeout", reply.getAsJsonObject("failure").get("code").getAsString());
            assertEquals(2, result(gateway.call("evaluate", "expression", "1 + 1")).getAsInt());
            assertEquals(List.of(worker), gateway.processes());
        }
    }

    /** Limits are those of a request: a bridge waits for its caller as long as it takes. */
    @Test
    void limitsDoNotEndAnIdleBridge() throws Exception {
        settings.environment.put("PY3RUN_SECURITY_IDLE_TIMEOUT_SECONDS", "1");
        settings.environment.put("PY3RUN_SECURITY_EXECUTION_TIMEOUT_SECONDS", "1");
        poolStaysWhole();
    }

    /** A refusal is a reply. */
    @Test
    void aBrokenConfiguration() throws Exception {
        settings.size = 1;
        settings.environment.put("PY3RUN_SECURITY_MAX_MEMORY_MB", "much");
        try (Gateway gateway = new Gateway(settings)) {
            JsonObject reply = gateway.call("execute", "code", "result = 1");
            assertFalse(reply.get("success").getAsBoolean());
            assertTrue(reply.get("error").getAsString().contains("max-memory-mb") || reply.get("error").getAsString().contains("MAX_MEMORY_MB"), reply.toString());
        }
    }

    /** A pair of records for each request. */
    @Test
    void records() throws Exception {
        try (Gateway gateway = new Gateway(settings)) {
            for (int i = 0; i < 4; i++) {
                gateway.call("execute", "code", "result = 1");
            }
            gateway.call("ping");
        }
        List<Map<String, Object>> records = Files.readAllLines(dir.resolve("audit/audit.jsonl")).stream().map(new GsonJson()::parse).toList();
        assertEquals(8, records.size());
        for (Map<String, Object> record : records) {
            assertEquals("bridge", Calls.field(record.get("invocation"), "command"));
        }
    }
}
