package web;

import java.security.SecureRandom;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.util.Base64;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ConcurrentHashMap;

/** Sessions of users who have logged in. Only hashes of the tokens are kept: a dump of the memory opens no session. */
final class Sessions {
    private record Session(String user, Instant ends, Instant idleSince) {
    }

    private static final Duration LONGEST = Duration.ofHours(8);
    private static final Duration IDLE = Duration.ofMinutes(15);

    private final Map<String, Session> sessions = new ConcurrentHashMap<>(); // by the SHA-256 of the token
    private final SecureRandom random = new SecureRandom();
    private final Clock clock;

    Sessions(Clock clock) {
        this.clock = clock;
    }

    /** Begins a session and returns its token, for a cookie. */
    String begin(String user) {
        byte[] bits = new byte[32];
        random.nextBytes(bits);
        String token = Base64.getUrlEncoder().withoutPadding().encodeToString(bits);
        Instant now = clock.instant();
        sessions.values().removeIf(session -> over(session, now));
        sessions.put(Users.sha256(token), new Session(user, now.plus(LONGEST), now));
        return token;
    }

    /** The user of a session that goes on. */
    Optional<String> user(String token) {
        Instant now = clock.instant();
        Session session = sessions.computeIfPresent(Users.sha256(token),
                (hash, old) -> over(old, now) ? null : new Session(old.user, old.ends, now));
        return Optional.ofNullable(session).map(Session::user);
    }

    void end(String token) {
        sessions.remove(Users.sha256(token));
    }

    private static boolean over(Session session, Instant now) {
        return !now.isBefore(session.ends) || !now.isBefore(session.idleSince.plus(IDLE));
    }
}
