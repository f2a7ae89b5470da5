import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** A link to py3run in Python's place: the client's own script runs under py3run. */
final class DropInGatewayTest extends GatewayCalls {
    @Override
    Path python() throws Exception {
        Path link = dir.resolve("python3");
        return Files.isSymbolicLink(link) ? link : Files.createSymbolicLink(link, Host.LAUNCHER);
    }

    @Test
    void modulesLiveAsLongAsTheirWorker() throws Exception {
        settings.size = 1;
        try (Gateway gateway = new Gateway(settings)) {
            for (int i = 1; i <= 3; i++) {
                assertEquals(i, result(gateway.call("execute", "code", COUNTING)).getAsInt());
            }
        }
    }

    /** The client's own limit is 2048 MB, which is more than py3run's default. Python must meet the script's limit, and no kill. */
    @Test
    void memoryUpToTheClientsLimit() throws Exception {
        settings.size = 1;
        try (Gateway gateway = new Gateway(settings)) {
            assertEquals(1200 << 20, result(gateway.call("execute", "code", "result = len(bytearray(b'x') * (1200 << 20))")).getAsInt());
            JsonObject reply = gateway.call("execute", "code", "bytearray(3 << 30)");
            assertEquals("MemoryError", reply.get("error").getAsString());
            assertEquals(2, result(gateway.call("evaluate", "expression", "1 + 1")).getAsInt());
        }
    }

    /** One pair of records for each process of the pool. */
    @Test
    void records() throws Exception {
        try (Gateway gateway = new Gateway(settings)) {
            gateway.call("ping");
        }
        Path log = dir.resolve("audit/audit.jsonl");
        Host.until("the last record", () -> Files.readAllLines(log).size() == 6);
        List<Map<String, Object>> records = Files.readAllLines(log).stream().map(new GsonJson()::parse).toList();
        for (Map<String, Object> record : records) {
            assertEquals("python", Calls.field(record.get("invocation"), "command"));
        }
        assertTrue(records.stream().filter(record -> record.containsKey("status")).allMatch(record -> "ok".equals(record.get("status"))), records.toString());
    }
}
