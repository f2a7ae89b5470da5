import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeFalse;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneId;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import py3run.Py3Run;
import web.PythonService;
import web.Users;

/** The web service of package web, with a policy, a key and a log of its own. */
final class WebTest {
    @TempDir
    Path dir;
    private final Users users = new Users();
    private final MovingClock clock = new MovingClock();
    private final Map<String, String> environment = new HashMap<>();
    private Py3Run py3run;
    private PythonService service;

    @BeforeEach
    void serve() throws Exception {
        assumeFalse(Files.exists(Path.of("/etc/py3run/policy.toml")), "this host has a policy of its own, which the tests must not change");
        Path policy = Files.createDirectories(dir.resolve("config/py3run")).resolve("policy.toml");
        Files.writeString(policy, "version = 1\n"); // where there is one, py3runctl changes that and makes none in /etc
        Files.setPosixFilePermissions(policy, PosixFilePermissions.fromString("rw-r-----"));
        environment.putAll(Host.environment(dir));
        environment.put("XDG_CONFIG_HOME", dir.resolve("config").toString());
        environment.put("XDG_STATE_HOME", dir.resolve("state").toString());
        control("user", "add", "web");
        control("user", "add", "alice", "--role", "python3-executor");
        control("user", "add", "bob"); // may log in, may not run
        control("user", "add", "root-of-all", "--role", "script-admin", "--role", "python3-executor");
        control("key", "create", "web", "--may-assert", "alice", "--may-assert", "bob", "--out", dir.resolve("web.key").toString());
        environment.put("PY3RUN_API_KEY_FILE", dir.resolve("web.key").toString());
        users.add("alice", "python3-executor");
        users.setPassword("alice", "pass:wörd");
        users.addKey("alice", "a-key-of-alice");
        users.add("bob");
        users.addKey("bob", "a-key-of-bob");
        users.add("carol", "python3-executor"); // whom py3run's policy does not know
        users.addKey("carol", "a-key-of-carol");
        py3run = Host.configured(Py3Run.exec(new GsonJson()), dir).environment(environment).open();
        service = new PythonService(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), users, py3run, new GsonJson(), clock);
    }

    @AfterEach
    void end() {
        if (service != null) {
            service.close();
        }
        if (py3run != null) {
            py3run.close();
        }
    }

    @Test
    void eachWayEndsInARecordOfTheUser() throws Exception {
        String cookie = send("/login", "{}", "Authorization", basic("alice", "pass:wörd")).headers().firstValue("Set-Cookie").orElseThrow();
        assertTrue(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), cookie);
        Map<String, String[]> ways = Map.of("API_KEY", header("X-API-Key", "a-key-of-alice"), "BASIC", header("Authorization", basic("alice", "pass:wörd")),
                "SESSION", header("Cookie", "other=1; " + cookie.split(";")[0]));
        for (Map.Entry<String, String[]> way : ways.entrySet()) {
            HttpResponse<String> answer = send("/python", "{\"code\":\"result = x + 1\",\"variables\":{\"x\":41}}", way.getValue());
            assertEquals(200, answer.statusCode(), answer.body());
            JsonObject result = JsonParser.parseString(answer.body()).getAsJsonObject();
            assertEquals(42, result.get("result").getAsInt(), answer.body());
            List<JsonObject> records = records(result.get("run_id").getAsString());
            assertEquals(2, records.size());
            for (JsonObject record : records) {
                assertEquals("alice", record.getAsJsonObject("user").get("name").getAsString());
                assertEquals("api-key", record.getAsJsonObject("auth").get("method").getAsString());
                assertEquals("web", record.getAsJsonObject("auth").get("holder").getAsString());
                assertEquals("127.0.0.1", record.getAsJsonObject("client").get("ip").getAsString());
                assertEquals(way.getKey(), record.getAsJsonObject("labels").get("authentication").getAsString());
            }
        }
        assertFalse(log().contains(Files.readString(dir.resolve("web.key")).strip()), "the key is in the log");
    }

    @ParameterizedTest(name = "{0}")
    @CsvSource(delimiter = ';', textBlock = """
            nothing;                         401; -;             -
            an unknown key;                  401; X-API-Key;     no-such-key
            an empty key;                    401; X-API-Key;     ''
            an unknown session;              401; Cookie;        session=abc
            a wrong password;                401; Authorization; BASIC alice:wrong
            an unknown name;                 401; Authorization; BASIC mallory:pass
            no colon;                        401; Authorization; BASIC alice
            not Base64;                      401; Authorization; Basic !!!
            another scheme;                  401; Authorization; Bearer abc
            no role at the service;          403; X-API-Key;     a-key-of-bob
            a user that py3run does not know; 403; X-API-Key;    a-key-of-carol
            """)
    void refused(String what, int status, String name, String value) throws Exception {
        String[] headers = name.equals("-") ? header() : header(name, value.startsWith("BASIC ") ? basic(value.substring(6)) : value);
        HttpResponse<String> answer = send("/python", "{\"code\":\"1\"}", headers);
        assertEquals(status, answer.statusCode(), answer.body());
        assertEquals(0, log().lines().filter(line -> line.contains("\"execution-start\"")).count());
    }

    @Test
    void aWrongCredentialDoesNotFallThrough() throws Exception {
        String cookie = send("/login", "{}", "Authorization", basic("alice", "pass:wörd")).headers().firstValue("Set-Cookie").orElseThrow().split(";")[0];
        assertEquals(401, send("/python", "{\"code\":\"1\"}", "X-API-Key", "revoked", "Cookie", cookie).statusCode());
        assertEquals(401, send("/python", "{\"code\":\"1\"}", "X-API-Key", "a-key-of-alice", "Authorization", basic("alice", "wrong")).statusCode());
        assertEquals(401, send("/python", "{\"code\":\"1\"}", "Cookie", cookie + "; session=other").statusCode());
        assertEquals(401, send("/login", "{}", "X-API-Key", "a-key-of-alice").statusCode());
    }

    @Test
    void nobodyNamesAnotherUser() throws Exception {
        for (String field : List.of("\"user\":\"root-of-all\"", "\"api_key\":\"p3r_x\"", "\"client_ip\":\"10.0.0.1\"", "\"limits\":{}", "\"command\":\"execute\"")) {
            assertEquals(400, send("/python", "{\"code\":\"1\"," + field + "}", "X-API-Key", "a-key-of-alice").statusCode(), field);
        }
        // An error of the service that lets such a user through: the key may not assert it.
        users.add("root-of-all", "python3-executor");
        users.addKey("root-of-all", "another-key");
        assertEquals(403, send("/python", "{\"code\":\"1\"}", "X-API-Key", "another-key").statusCode());
        assertTrue(log().contains("\"execution-denied\""), "the refusal is not in the log");
    }

    @Test
    void rightsEndAtOnce() throws Exception {
        String[] session = header("Cookie", send("/login", "{}", "Authorization", basic("alice", "pass:wörd")).headers().firstValue("Set-Cookie").orElseThrow().split(";")[0]);
        assertEquals(200, send("/python", "{\"code\":\"1\"}", session).statusCode());
        control("user", "disable", "alice"); // in py3run's policy
        assertEquals(403, send("/python", "{\"code\":\"1\"}", session).statusCode());
        control("user", "enable", "alice");
        assertEquals(200, send("/python", "{\"code\":\"1\"}", session).statusCode());
        users.remove("alice"); // at the service
        assertEquals(403, send("/python", "{\"code\":\"1\"}", session).statusCode());
    }

    @Test
    void sessionsEnd() throws Exception {
        String[] session = header("Cookie", send("/login", "{}", "Authorization", basic("alice", "pass:wörd")).headers().firstValue("Set-Cookie").orElseThrow().split(";")[0]);
        clock.move(Duration.ofMinutes(14));
        assertEquals(200, send("/python", "{\"code\":\"1\"}", session).statusCode());
        clock.move(Duration.ofMinutes(15));
        assertEquals(401, send("/python", "{\"code\":\"1\"}", session).statusCode());
        String[] next = header("Cookie", send("/login", "{}", "Authorization", basic("alice", "pass:wörd")).headers().firstValue("Set-Cookie").orElseThrow().split(";")[0]);
        assertEquals(200, send("/logout", "{}", next).statusCode());
        assertEquals(401, send("/python", "{\"code\":\"1\"}", next).statusCode());
    }

    @Test
    void moreThanTheLimit() throws Exception {
        py3run.close();
        service.close();
        environment.put("PY3RUN_SECURITY_RATE_LIMIT_PER_USER_PER_MINUTE", "2");
        py3run = Host.configured(Py3Run.exec(new GsonJson()), dir).environment(environment).open();
        service = new PythonService(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), users, py3run, new GsonJson(), clock);
        List<Integer> statuses = new ArrayList<>();
        Instant began = Instant.now();
        HttpResponse<String> answer = null;
        while (!statuses.contains(429) && statuses.size() < 200) { // on a very slow machine a minute passes between two
            answer = send("/python", "{\"code\":\"1\"}", "X-API-Key", "a-key-of-alice");
            statuses.add(answer.statusCode());
        }
        assertEquals(429, answer.statusCode(), "of " + statuses + " since " + began);
        long wait = Long.parseLong(answer.headers().firstValue("Retry-After").orElseThrow());
        assertTrue(wait >= 1 && wait <= 60, "Retry-After: " + wait);
    }

    @Test
    void onlyJsonByPost() throws Exception {
        HttpRequest get = HttpRequest.newBuilder(address("/python")).header("X-API-Key", "a-key-of-alice").build();
        assertEquals(405, HttpClient.newHttpClient().send(get, HttpResponse.BodyHandlers.ofString()).statusCode());
        HttpRequest form = HttpRequest.newBuilder(address("/python")).header("X-API-Key", "a-key-of-alice")
                .header("Content-Type", "application/x-www-form-urlencoded").POST(HttpRequest.BodyPublishers.ofString("code=1")).build();
        assertEquals(415, HttpClient.newHttpClient().send(form, HttpResponse.BodyHandlers.ofString()).statusCode());
        assertEquals(400, send("/python", "{\"code\":", "X-API-Key", "a-key-of-alice").statusCode());
        assertEquals(404, send("/python/x", "{}", "X-API-Key", "a-key-of-alice").statusCode());
    }

    // ---- Helpers.

    private static final class MovingClock extends Clock {
        private volatile Instant now = Instant.parse("2026-12-01T08:00:00Z");

        void move(Duration by) {
            now = now.plus(by);
        }

        @Override
        public Instant instant() {
            return now;
        }

        @Override
        public ZoneId getZone() {
            return ZoneOffset.UTC;
        }

        @Override
        public Clock withZone(ZoneId zone) {
            return this;
        }
    }

    private static String[] header(String... namesAndValues) {
        return namesAndValues;
    }

    private static String basic(String user, String password) {
        return basic(user + ":" + password);
    }

    private static String basic(String text) {
        return "Basic " + Base64.getEncoder().encodeToString(text.getBytes(StandardCharsets.UTF_8));
    }

    private URI address(String path) {
        return URI.create("http://127.0.0.1:" + service.port() + path);
    }

    private HttpResponse<String> send(String path, String body, String... headers) throws Exception {
        HttpRequest.Builder request = HttpRequest.newBuilder(address(path)).header("Content-Type", "application/json").POST(HttpRequest.BodyPublishers.ofString(body));
        if (headers.length > 0) {
            request.headers(headers);
        }
        return HttpClient.newHttpClient().send(request.build(), HttpResponse.BodyHandlers.ofString());
    }

    /** Runs py3runctl, which stands beside py3run or is named by PY3RUNCTL. */
    private void control(String... args) throws Exception {
        String named = System.getenv().getOrDefault("PY3RUNCTL", "");
        List<String> line = new ArrayList<>(List.of(named.isEmpty() ? Host.LAUNCHER.resolveSibling("py3runctl").toString() : named));
        line.addAll(List.of(args));
        ProcessBuilder builder = new ProcessBuilder(line).redirectErrorStream(true).redirectOutput(dir.resolve("control.out").toFile());
        builder.environment().putAll(environment);
        builder.environment().remove("PY3RUN_API_KEY_FILE"); // the operator asks, not the service
        Process process = builder.start();
        assertTrue(process.waitFor(Host.PATIENCE.toSeconds(), TimeUnit.SECONDS) && process.exitValue() == 0,
                () -> String.join(" ", line) + ": " + read(dir.resolve("control.out")));
    }

    private String log() {
        return read(dir.resolve("audit/audit.jsonl"));
    }

    private List<JsonObject> records(String runId) {
        return log().lines().map(line -> JsonParser.parseString(line).getAsJsonObject()).filter(record -> record.get("run_id").getAsString().equals(runId)).toList();
    }

    private static String read(Path file) {
        try {
            return Files.readString(file);
        } catch (java.io.IOException e) {
            return "";
        }
    }
}
