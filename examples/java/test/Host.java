import java.io.IOException;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.stream.Stream;
import py3run.Py3Run;

/** What the tests share: the launcher, its environment, and waiting for a condition. */
final class Host {
    /** py3run, as an absolute path. */
    static final Path LAUNCHER = Path.of(System.getenv("PY3RUN")).toAbsolutePath();
    /** For everything that must happen at some time: the end of the patience is a failure. */
    static final Duration PATIENCE = Duration.ofMinutes(3);

    private Host() {
    }

    /** Variables for a launcher: a log of its own, and no limit on how often one user may call. */
    static Map<String, String> environment(Path dir) {
        Map<String, String> variables = new HashMap<>(Map.of(
                "PY3RUN_BRIDGE_TIMEOUT_SECONDS", "600", // on a busy machine 25 s can pass for anything
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
        // The limits are wide: a slow machine must not fail a test, and no test may pass because a limit ended a run.
        return client.launcher(LAUNCHER.toString()).environment(environment(dir)).timeout(Duration.ofMinutes(10)).margin(PATIENCE).queueTime(Duration.ofMinutes(10));
    }

    /** Bare Python: PYTHON, which may be a virtual environment, else the first in PATH. */
    static Path python() {
        String named = System.getenv().getOrDefault("PYTHON", "");
        if (!named.isEmpty()) {
            Path path = Path.of(named).toAbsolutePath();
            return Files.isDirectory(path) ? path.resolve("bin/python3") : path;
        }
        return Stream.of(System.getenv("PATH").split(":")).map(each -> Path.of(each, "python3")).filter(Files::isExecutable).findFirst().orElseThrow();
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

    /**
     * Makes an executable shell script. Another process writes it: a descriptor of this JVM that is open for writing could
     * be in a child that another test starts at this moment, and the kernel executes no file that is open for writing.
     */
    static String script(Path file, String text) throws Exception {
        Process writer = new ProcessBuilder("sh", "-c", "cat > \"$1\" && chmod 755 \"$1\"", "sh", file.toString()).start();
        try (OutputStream out = writer.getOutputStream()) {
            out.write(("#!/bin/sh\n" + text).getBytes(StandardCharsets.UTF_8));
        }
        if (writer.waitFor() != 0) {
            throw new AssertionError("cannot write " + file);
        }
        return file.toString();
    }

    static void signal(String name, long pid) throws Exception {
        int code = new ProcessBuilder("kill", "-" + name, Long.toString(pid)).start().waitFor();
        if (code != 0) {
            throw new AssertionError("kill -" + name + " " + pid + ": exit code " + code);
        }
    }
}
