import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.stream.Stream;

/** What the tests share: the launcher, its environment, and waiting for a condition. */
final class Host {
    /** py3run, as an absolute path. */
    static final Path LAUNCHER = Path.of(System.getenv("PY3RUN")).toAbsolutePath();
    /** For everything that must happen at some time: it only ends a test that would fail anyway. */
    static final Duration PATIENCE = Duration.ofMinutes(2);

    private Host() {
    }

    /** Variables for a launcher: a log of its own, and no limit on how often one user may call. */
    static Map<String, String> environment(Path dir) {
        Map<String, String> variables = new HashMap<>(Map.of(
                "PY3RUN_SECURITY_AUDIT_DIR", dir.resolve("audit").toString(),
                "PY3RUN_SECURITY_RATE_LIMIT_PER_USER_PER_MINUTE", "0",
                "PY3RUN_SECURITY_RATE_LIMIT_PER_USER_PER_HOUR", "0",
                "PY3RUN_SECURITY_RATE_LIMIT_GLOBAL_PER_MINUTE", "0",
                "PY3RUN_SECURITY_RATE_LIMIT_CONCURRENT_PER_USER", "0"));
        String python = System.getenv().getOrDefault("PYTHON", "");
        if (!python.isEmpty()) {
            variables.put("PY3RUN_PYTHON_INTERPRETER", python);
        }
        return variables;
    }

    static Py3Run.Builder configured(Py3Run.Builder client, Path dir) {
        // The margins are wide: a slow machine must not fail a test.
        return client.launcher(LAUNCHER.toString()).environment(environment(dir)).timeout(PATIENCE).margin(PATIENCE).queueTime(PATIENCE.multipliedBy(2));
    }

    /** Waits until the condition holds. */
    static void until(String what, Callable<Boolean> condition) throws Exception {
        long end = System.nanoTime() + PATIENCE.toNanos();
        while (!condition.call()) {
            if (System.nanoTime() > end) {
                throw new AssertionError("not within " + PATIENCE + ": " + what);
            }
            Thread.sleep(5);
        }
    }

    /** The process and everything below it: for a launcher also its init and Python. */
    static List<ProcessHandle> tree(ProcessHandle of) {
        return Stream.concat(Stream.of(of), of.descendants()).toList();
    }

    /** Waits until none of the processes lives. A zombie has ended: only its parent is slow to notice. */
    static void untilGone(List<ProcessHandle> processes) throws Exception {
        until("the end of " + processes, () -> processes.stream().noneMatch(Host::runs));
    }

    private static boolean runs(ProcessHandle process) {
        try {
            return process.isAlive() && !Files.readString(Path.of("/proc/" + process.pid() + "/stat")).replaceFirst("(?s).*\\) ", "").startsWith("Z");
        } catch (IOException | UncheckedIOException e) {
            return false;
        }
    }

    static void signal(String name, long pid) throws Exception {
        int code = new ProcessBuilder("kill", "-" + name, Long.toString(pid)).start().waitFor();
        if (code != 0) {
            throw new AssertionError("kill -" + name + " " + pid + ": exit code " + code);
        }
    }
}
