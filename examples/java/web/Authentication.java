package web;

import com.sun.net.httpserver.Headers;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Optional;

/**
 * Finds out whose a request is, from exactly one of three credentials:
 *
 * <ul>
 * <li>{@code X-API-Key: KEY}, of the web service and not of py3run;
 * <li>{@code Cookie: session=TOKEN}, after a login;
 * <li>{@code Authorization: Basic BASE64}.
 * </ul>
 *
 * <p>A credential that is wrong ends the request. It never falls through to the next one: else a revoked key would go
 * unnoticed as long as its holder has a session. Two credentials at once are refused for the same reason.
 */
final class Authentication {
    static final String KEY = "X-API-Key";
    static final String SESSION = "session";

    private final Directory directory;
    private final Sessions sessions;

    Authentication(Directory directory, Sessions sessions) {
        this.directory = directory;
        this.sessions = sessions;
    }

    Caller identify(Headers headers) throws Refusal {
        List<String> keys = headers.getOrDefault(KEY, List.of());
        List<String> tokens = tokens(headers);
        List<String> logins = headers.getOrDefault("Authorization", List.of());
        if (keys.size() + tokens.size() + logins.size() != 1) {
            throw Refusal.unauthorized();
        }
        if (!keys.isEmpty()) {
            return caller(directory.userOfKey(keys.get(0)), Caller.Way.API_KEY);
        }
        if (!tokens.isEmpty()) {
            return caller(sessions.user(tokens.get(0)), Caller.Way.SESSION);
        }
        return caller(userOfBasic(logins.get(0)), Caller.Way.BASIC);
    }

    private static Caller caller(Optional<String> user, Caller.Way way) throws Refusal {
        return new Caller(user.orElseThrow(Refusal::unauthorized), way);
    }

    /** The tokens of all session cookies: a browser sends one, an attacker perhaps two. */
    static List<String> tokens(Headers headers) {
        List<String> tokens = new ArrayList<>();
        for (String line : headers.getOrDefault("Cookie", List.of())) {
            for (String cookie : line.split(";")) {
                if (cookie.strip().startsWith(SESSION + "=")) {
                    tokens.add(cookie.strip().substring(SESSION.length() + 1));
                }
            }
        }
        return tokens;
    }

    /** RFC 7617: the name has no colon, the password may have some. The text is UTF-8, or it is refused. */
    private Optional<String> userOfBasic(String header) {
        String[] parts = header.split(" ", 2);
        if (parts.length != 2 || !parts[0].equalsIgnoreCase("Basic")) {
            return Optional.empty();
        }
        try {
            byte[] bytes = Base64.getDecoder().decode(parts[1].strip());
            String text = StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString();
            int colon = text.indexOf(':');
            return colon < 0 ? Optional.empty() : directory.userOfPassword(text.substring(0, colon), text.substring(colon + 1));
        } catch (IllegalArgumentException | CharacterCodingException e) {
            return Optional.empty();
        }
    }
}
