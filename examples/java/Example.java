import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * Four calls and their results. The environment variables PY3RUN (the launcher) and PYTHON (the interpreter,
 * optional) configure it.
 */
public final class Example {
    private static final Duration MINUTE = Duration.ofMinutes(1);

    public static void main(String[] args) throws Exception {
        List<String> command = new ArrayList<>(List.of(System.getenv().getOrDefault("PY3RUN", "py3run"), "exec"));
        String python = System.getenv().getOrDefault("PYTHON", "");
        if (!python.isEmpty()) {
            command.addAll(List.of("--python", python));
        }
        // The margin is wide, because an example must work on any machine. In a service use 5 s.
        Py3Run py3run = new Py3Run(command, Map.of(), Duration.ofSeconds(30), new MiniJson());
        Runtime.getRuntime().addShutdownHook(new Thread(py3run::close)); // Ctrl-C or SIGTERM: no run outlives this program

        success(py3run);
        exception(py3run);
        timeLimit(py3run);
        cancellation(py3run);
    }

    private static void success(Py3Run py3run) throws Exception {
        // Pass data as variables, and never paste it into the code: no quoting, no injection.
        Map<String, Object> request = Map.of(
                "code", "print('füllt', tank['name'])\nresult = {'rest': tank['max'] - sum(levels), 'big': 2**70, 'name': tank['name'] + ' ≥'}",
                "variables", Map.of("tank", Map.of("name", "Kühlwasser \"Süd\" 水", "max", 10), "levels", List.of(2, 3, 1.5)));
        Py3Run.Result r = py3run.run(request, MINUTE);
        check(r.ok() && r.exitCode() == 0 && r.error() == null && r.auditLine() != null, r);
        Map<?, ?> value = (Map<?, ?>) r.value();
        check(value.get("rest").equals(3.5), r);
        check(value.get("big").toString().equals("1180591620717411303424"), r); // a JSON reader with doubles would lose digits
        check(value.get("name").equals("Kühlwasser \"Süd\" 水 ≥") && r.stdout().equals("füllt Kühlwasser \"Süd\" 水\n"), r);
        System.out.println("success:      " + r.status() + ", rest " + value.get("rest") + ", audit record " + ((Map<?, ?>) r.fields().get("audit")).get("seq"));
    }

    private static void exception(Py3Run py3run) throws Exception {
        Py3Run.Result r = py3run.run(Map.of("code", "levels = {}\nlevels['T-9']", "filename", "levels.py"), MINUTE);
        check(r.status().equals("error") && r.exitCode() == 1 && !r.ok() && r.value() == null, r);
        check(r.error().equals("KeyError: 'T-9'") && r.traceback().contains("File \"levels.py\", line 2"), r);
        System.out.println("exception:    " + r.status() + ", " + r.error());
    }

    private static void timeLimit(Py3Run py3run) throws Exception {
        Py3Run.Result r = py3run.run(Map.of("code", "print('started', flush=True)\nwhile True: pass"), Duration.ofSeconds(1));
        check(r.status().equals("timeout") && r.exitCode() == 124 && r.stdout().equals("started\n"), r);
        System.out.println("time limit:   " + r.status() + ", " + r.error());
    }

    private static void cancellation(Py3Run py3run) throws Exception {
        Path dir = Files.createTempDirectory("py3run-example");
        Path marker = dir.resolve("running");
        try {
            Map<String, Object> request = Map.of("code", "open(marker, 'x').close()\nimport time\ntime.sleep(600)",
                    "variables", Map.of("marker", marker.toString()));
            Py3Run.Call call = py3run.start(request, MINUTE);
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
            Py3Run.Result r;
            try {
                r = call.await();
            } finally {
                button.interrupt();
                button.join();
            }
            check(r.status().equals("cancelled") && r.exitCode() == 143 && r.auditLine() != null, r);
            System.out.println("cancellation: " + r.status() + ", and the result still came");
        } finally {
            Files.deleteIfExists(marker);
            Files.deleteIfExists(dir);
        }
    }

    private static void check(boolean expected, Py3Run.Result result) {
        if (!expected) {
            throw new IllegalStateException("not as expected: exit code " + result.exitCode() + ": " + result.line());
        }
    }
}
