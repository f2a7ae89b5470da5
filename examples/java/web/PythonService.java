package web;

import com.sun.net.httpserver.Headers;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.InputStream;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.time.Clock;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import py3run.Json;
import py3run.Options;
import py3run.Py3Run;
import py3run.Result;

/**
 * A web service that runs Python for its users. Each request goes through the same four steps:
 *
 * <pre>
 * credential ─► user          Authentication: X-API-Key, session or Basic
 * user ─► role                the directory, at each request: a role that was taken away is gone at once
 * user, address, code ─►      py3run, with the service's own key, which may assert users
 * result ─► HTTP status       a run that ended is 200, whatever it ended with
 * </pre>
 *
 * <p>The service's key is in a file that only the service can read. PY3RUN_API_KEY_FILE names it to py3run, so that the
 * key is never in this JVM, on a command line or in a request. py3run checks it, the user, and the user's role by its own
 * policy, too: an error in this class alone runs nothing for somebody else. Make key and users like this:
 *
 * <pre>
 * py3runctl user add web
 * py3runctl user add alice --role python3-executor
 * py3runctl key create web --may-assert alice --out web.key
 * </pre>
 *
 * <p>A service that others can reach needs TLS, which stands in front of this class or in an HttpsServer.
 */
public final class PythonService implements AutoCloseable {
    private static final String ROLE = "python3-executor";
    private static final int MOST_BYTES = 4 << 20; // of a body
    /** What a caller may say. User, address, key and limits are not in it: the service says who asks. */
    private static final Set<String> FIELDS = Set.of("code", "expression", "script", "variables");

    private final Directory directory;
    private final Sessions sessions;
    private final Authentication authentication;
    private final Py3Run py3run;
    private final Json json;
    private final HttpServer server;
    private final ExecutorService threads = Executors.newFixedThreadPool(16);

    /** Begins to serve. The client must have PY3RUN_API_KEY_FILE in its environment. The service does not close it. */
    public PythonService(InetSocketAddress address, Directory directory, Py3Run py3run, Json json, Clock clock) throws IOException {
        this.directory = directory;
        this.py3run = py3run;
        this.json = json;
        sessions = new Sessions(clock);
        authentication = new Authentication(directory, sessions);
        server = HttpServer.create(address, 0);
        server.createContext("/login", exchange -> answer(exchange, "/login", this::login));
        server.createContext("/logout", exchange -> answer(exchange, "/logout", this::logout));
        server.createContext("/python", exchange -> answer(exchange, "/python", this::python));
        server.setExecutor(threads);
        server.start();
    }

    public int port() {
        return server.getAddress().getPort();
    }

    @Override
    public void close() {
        server.stop(0);
        threads.shutdown();
    }

    // ---- The three addresses.

    /** Exchanges name and password for a session. */
    private Answer login(HttpExchange exchange, Caller caller, Map<String, Object> body) throws Refusal {
        if (caller.way() != Caller.Way.BASIC) {
            throw Refusal.unauthorized();
        }
        // Strict: a form on another site cannot send it. With TLS, add Secure.
        String cookie = Authentication.SESSION + "=" + sessions.begin(caller.user()) + "; HttpOnly; SameSite=Strict; Path=/";
        exchange.getResponseHeaders().set("Set-Cookie", cookie);
        return new Answer(200, "{\"user\":" + quoted(caller.user()) + "}");
    }

    private Answer logout(HttpExchange exchange, Caller caller, Map<String, Object> body) {
        Authentication.tokens(exchange.getRequestHeaders()).forEach(sessions::end);
        return new Answer(200, "{}");
    }

    private Answer python(HttpExchange exchange, Caller caller, Map<String, Object> body) throws Refusal, InterruptedException {
        if (!directory.roles(caller.user()).contains(ROLE)) {
            throw new Refusal(403, "this needs the role " + ROLE);
        }
        for (String field : body.keySet()) {
            if (!FIELDS.contains(field)) { // or somebody could name another user, or set a key
                throw new Refusal(400, "unknown field; known are " + FIELDS.stream().sorted().toList());
            }
        }
        Options who = Options.NONE.withUser(caller.user()).withClientAddress(exchange.getRemoteAddress().getAddress().getHostAddress())
                .withLabels(Map.of("authentication", caller.way().name()));
        try {
            Result result = py3run.start(body, who).await();
            return new Answer(status(result, exchange.getResponseHeaders()), result.line());
        } catch (IllegalArgumentException e) {
            throw new Refusal(400, "the request cannot be written as JSON");
        } catch (IOException e) { // a TransportException: no result
            throw new Refusal(503, e.getMessage());
        }
    }

    /** The HTTP status of a result. */
    private static int status(Result result, Headers headers) {
        switch (result.status()) {
            case "denied":
                return 403;
            case "bad_request":
                return 400;
            case "rate_limited":
                if (result.failure() != null && result.failure().retryAfter() != null) {
                    headers.set("Retry-After", Long.toString(result.failure().retryAfter().plusMillis(999).toSeconds()));
                }
                return 429;
            case "config_error", "launch_failed", "audit_unavailable", "internal", "python_not_found", "python_not_executable":
                return 503;
            default:
                return 200;
        }
    }

    // ---- What all of them share.

    private record Answer(int status, String body) {
    }

    private interface Handler {
        Answer handle(HttpExchange exchange, Caller caller, Map<String, Object> body) throws Refusal, InterruptedException;
    }

    private void answer(HttpExchange exchange, String path, Handler handler) throws IOException {
        try (exchange) {
            Answer answer;
            try {
                if (!exchange.getRequestURI().getPath().equals(path)) {
                    throw new Refusal(404, "no such address");
                }
                Map<String, Object> body = body(exchange);
                answer = handler.handle(exchange, authentication.identify(exchange.getRequestHeaders()), body);
            } catch (Refusal refusal) {
                if (refusal.status == 401) {
                    exchange.getResponseHeaders().set("WWW-Authenticate", "Basic realm=\"python\", charset=\"UTF-8\"");
                }
                answer = new Answer(refusal.status, "{\"error\":" + quoted(refusal.getMessage()) + "}");
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                answer = new Answer(503, "{\"error\":\"the service is ending\"}");
            }
            byte[] bytes = answer.body.getBytes(StandardCharsets.UTF_8);
            exchange.getResponseHeaders().set("Content-Type", "application/json");
            exchange.getResponseHeaders().set("Cache-Control", "no-store");
            exchange.sendResponseHeaders(answer.status, bytes.length);
            exchange.getResponseBody().write(bytes);
        }
    }

    /** The JSON object of a POST. The type has to be JSON: a form on another site cannot send that without being asked. */
    private Map<String, Object> body(HttpExchange exchange) throws IOException, Refusal {
        if (!exchange.getRequestMethod().equals("POST")) {
            throw new Refusal(405, "use POST");
        }
        List<String> types = exchange.getRequestHeaders().getOrDefault("Content-Type", List.of());
        if (types.size() != 1 || !types.get(0).split(";")[0].strip().equalsIgnoreCase("application/json")) {
            throw new Refusal(415, "send application/json");
        }
        byte[] bytes;
        try (InputStream in = exchange.getRequestBody()) {
            bytes = in.readNBytes(MOST_BYTES + 1);
        }
        if (bytes.length > MOST_BYTES) {
            throw new Refusal(413, "the request is larger than 4 MB");
        }
        try {
            return new LinkedHashMap<>(json.parse(new String(bytes, StandardCharsets.UTF_8)));
        } catch (RuntimeException e) {
            throw new Refusal(400, "the request is no JSON object");
        }
    }

    private String quoted(String text) {
        String object = json.write(Map.of("t", text));
        return object.substring(object.indexOf(':') + 1, object.lastIndexOf('}'));
    }
}
