import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import py3run.Call;
import py3run.Options;
import py3run.Py3Run;
import py3run.Result;

/**
 * A few calls and their results. The environment variables PY3RUN (the launcher) and PYTHON (the interpreter,
 * optional) configure it.
 */
public final class Example {
    public static void main(String[] args) throws Exception {
        show("exec", Py3Run.exec(new MiniJson()));
        show("bridge", Py3Run.bridge(new MiniJson()));
    }

    private static void show(String transport, Py3Run.Builder builder) throws Exception {
        String python = System.getenv().getOrDefault("PYTHON", "");
        // The margin is wide, because an example must work on any machine. In a service use 5 s.
        builder.launcher(System.getenv().getOrDefault("PY3RUN", "py3run")).timeout(Duration.ofMinutes(1)).margin(Duration.ofSeconds(30));
        if (!python.isEmpty()) {
            builder.environment(Map.of("PY3RUN_PYTHON_INTERPRETER", python));
        }
        try (Py3Run py3run = builder.open()) {
            System.out.println("over " + transport);
            success(py3run);
            exception(py3run);
            timeLimit(py3run);
            cancellation(py3run);
        }
    }

    private static void success(Py3Run py3run) throws Exception {
        // The audit log has the user and the address that you give for each call.
        Options alice = Options.NONE.withUser("alice").withClientAddress("10.0.0.7");
        Map<String, Object> variables = Map.of("tank", Map.of("name", "Kühlwasser \"Süd\" 水", "max", 10), "levels", List.of(2, 3, 1.5));
        Result r = py3run.execute("""
                print('füllt', tank['name'])
                result = {'rest': tank['max'] - sum(levels), 'big': 2**70, 'name': tank['name'] + ' ≥'}
                """, variables, alice);
        check(r.ok() && r.error() == null && r.receipt() != null, r);
        Map<?, ?> value = (Map<?, ?>) r.value();
        check(value.get("rest").equals(3.5), r);
        check(value.get("big").toString().equals("1180591620717411303424"), r); // a JSON reader with doubles would lose digits
        check(value.get("name").equals("Kühlwasser \"Süd\" 水 ≥") && r.output().equals("füllt Kühlwasser \"Süd\" 水\n"), r);
        System.out.println("  success:      " + r.status() + ", rest " + value.get("rest") + ", audit record " + r.receipt().seq());
    }

    private static void exception(Py3Run py3run) throws Exception {
        Result r = py3run.start(Map.of("code", "levels = {}\nlevels['T-9']", "filename", "levels.py"), Options.NONE).await();
        check(r.status().equals("error") && !r.ok() && r.value() == null, r);
        check(r.error().equals("KeyError: 'T-9'") && r.traceback().contains("File \"levels.py\", line 2"), r);
        System.out.println("  exception:    " + r.status() + ", " + r.error());
    }

    private static void timeLimit(Py3Run py3run) throws Exception {
        Options second = Options.NONE.withTimeout(Duration.ofSeconds(1));
        Result r = py3run.execute("print('started', flush=True)\nwhile True: pass", null, second);
        check(r.status().equals("timeout") && r.output().equals("started\n"), r);
        System.out.println("  time limit:   " + r.status() + ", " + r.error());
    }

    private static void cancellation(Py3Run py3run) throws Exception {
        Path dir = Files.createTempDirectory("py3run-example");
        Path marker = dir.resolve("running");
        try {
            Map<String, Object> request = Map.of("code", "open(marker, 'x').close()\nimport time\ntime.sleep(600)",
                    "variables", Map.of("marker", marker.toString()));
            Call call = py3run.start(request, Options.NONE);
            Thread button = new Thread(() -> { // the user's stop button: it cancels once the code is running
                try {
                    while (!Files.exists(marker)) {
                        Thread.sleep(20);
                    }
                    call.cancel();
                } catch (InterruptedException e) {
                    // the run ended by itself
                }
            });
            button.start();
            Result r;
            try {
                r = call.await();
            } finally {
                button.interrupt();
                button.join();
            }
            check(r.status().equals("cancelled") && r.receipt() != null, r);
            System.out.println("  cancellation: " + r.status() + ", and the result still came");
        } finally {
            Files.deleteIfExists(marker);
            Files.deleteIfExists(dir);
        }
    }

    private static void check(boolean expected, Result result) {
        if (!expected) {
            throw new IllegalStateException("not as expected: " + result.line());
        }
    }
}
