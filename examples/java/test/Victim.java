import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import py3run.Options;
import py3run.Py3Run;
import py3run.Result;

/** A JVM for a test that ends it: two calls that run for minutes, and a third that shows whether calls still work. */
final class Victim {
    public static void main(String[] args) throws Exception {
        Path dir = Path.of(args[1]);
        Py3Run py3run = Host.configured(args[0].equals("bridge") ? Py3Run.bridge(new MiniJson()) : Py3Run.exec(new MiniJson()), dir).open();
        for (int i = 0; i < 2; i++) {
            py3run.start(Map.of("code", "import subprocess, time\nsubprocess.Popen(['sleep', '600'], start_new_session=True)\nopen(marker, 'x').close()\ntime.sleep(600)",
                    "variables", Map.of("marker", dir.resolve("mark" + i).toString())), Options.NONE);
        }
        Result r = py3run.ping();
        Files.writeString(dir.resolve("pong"), r.line());
        Thread.sleep(Long.MAX_VALUE);
    }
}
