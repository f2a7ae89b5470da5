import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.BufferedReader;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** The end of a JVM with all that it has started, and callers that are less careful than the client. */
final class LifeTest {
    @TempDir
    Path dir;

    @ParameterizedTest
    @CsvSource({"exec,KILL", "exec,TERM", "bridge,KILL", "bridge,TERM"})
    void endOfTheJvm(String transport, String signal) throws Exception {
        Process jvm = new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-XX:-UsePerfData", "-Xshare:auto",
                "-cp", System.getProperty("java.class.path"), "Victim", transport, dir.toString()).inheritIO().start();
        List<ProcessHandle> all = List.of();
        try {
            Host.until("both calls run, and a third has answered", () -> {
                assertTrue(jvm.isAlive(), "the JVM has ended");
                return List.of("mark0", "mark1", "pong").stream().allMatch(name -> Files.exists(dir.resolve(name)));
            });
            all = Host.tree(jvm.toHandle());
            assertTrue(all.size() >= 9, "a JVM, and twice a launcher, its init, Python and its child: " + all);
            Host.signal(signal, jvm.pid());
            Host.untilGone(all);
        } finally {
            jvm.destroyForcibly().waitFor();
        }
        // Every run has its two records.
        List<Map<String, Object>> records = Files.readAllLines(dir.resolve("audit/audit.jsonl")).stream().map(new GsonJson()::parse).toList();
        for (String action : List.of("execution-start", "execution-end")) {
            assertEquals(2, records.stream().filter(record -> action.equals(Calls.field(record.get("event"), "action"))).count(), action);
        }
    }

    /** An older client never reads stderr. What code writes there must not block the launcher. */
    @ParameterizedTest
    @ValueSource(strings = {"exec", "bridge"})
    void stderrThatNobodyReads(String transport) throws Exception {
        String request = new GsonJson().write(Map.of("id", "7", "code", """
                import os, sys
                sys.stderr.write('e' * (256 << 10))
                os.write(2, b'r' * (256 << 10))
                os.system("head -c 262144 /dev/zero | tr '\\\\0' c >&2")
                result = 7
                """)) + "\n";
        ProcessBuilder builder = new ProcessBuilder(Host.LAUNCHER.toString(), transport);
        builder.environment().putAll(Host.environment(dir));
        Process process = builder.start();
        OutputStream out = process.getOutputStream();
        try (BufferedReader in = process.inputReader(StandardCharsets.UTF_8)) {
            boolean bridge = transport.equals("bridge");
            if (bridge) {
                assertEquals("{\"status\":\"ready\"}", in.readLine());
            }
            for (int i = 0; i < (bridge ? 5 : 1); i++) {
                out.write(request.getBytes(StandardCharsets.UTF_8));
                out.flush();
                if (!bridge) {
                    out.close();
                }
                Map<String, Object> reply = new GsonJson().parse(in.readLine());
                assertEquals(7L, reply.get("result"), reply.toString());
                assertEquals("7", reply.get("id"));
            }
            out.close();
            assertEquals(null, in.readLine());
            assertEquals(0, process.waitFor());
        } finally {
            process.destroyForcibly();
        }
    }
}
