package web;

import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.security.SecureRandom;
import java.util.HexFormat;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import javax.crypto.SecretKeyFactory;
import javax.crypto.spec.PBEKeySpec;

/** A directory in memory. It shows what each credential needs; a service has its own. */
public final class Users implements Directory {
    private static final int ROUNDS = 600_000; // of PBKDF2-HMAC-SHA256, as OWASP advises
    private static final int MOST_CHARACTERS = 256; // of a password: hashing must not become a load

    private record Password(byte[] salt, byte[] hash) {
    }

    private final Map<String, Set<String>> roles = new ConcurrentHashMap<>();
    private final Map<String, Password> passwords = new ConcurrentHashMap<>();
    private final Map<String, String> keys = new ConcurrentHashMap<>(); // from the SHA-256 of a key to its user
    private final SecureRandom random = new SecureRandom();
    private final Password nobody = hashed("nobody has this password"); // for names that do not exist

    public void add(String user, String... theirRoles) {
        roles.put(user, Set.of(theirRoles));
    }

    /** Takes all rights from a user at once: sessions and keys of theirs find no roles any more. */
    public void remove(String user) {
        roles.remove(user);
        passwords.remove(user);
        keys.values().removeIf(user::equals);
    }

    public void setPassword(String user, String password) {
        passwords.put(user, hashed(password));
    }

    /** A key is 256 random bits, so a fast hash without salt is enough: nobody can try them all. */
    public void addKey(String user, String key) {
        keys.put(sha256(key), user);
    }

    @Override
    public Optional<String> userOfKey(String key) {
        return Optional.ofNullable(keys.get(sha256(key))); // a lookup by hash: its time says nothing about the key
    }

    @Override
    public Optional<String> userOfPassword(String name, String password) {
        if (password.length() > MOST_CHARACTERS) {
            return Optional.empty();
        }
        Password known = passwords.getOrDefault(name, nobody);
        boolean right = MessageDigest.isEqual(known.hash, derive(password, known.salt));
        return right && known != nobody ? Optional.of(name) : Optional.empty();
    }

    @Override
    public Set<String> roles(String user) {
        return roles.getOrDefault(user, Set.of());
    }

    private Password hashed(String password) {
        byte[] salt = new byte[16];
        random.nextBytes(salt);
        return new Password(salt, derive(password, salt));
    }

    private static byte[] derive(String password, byte[] salt) {
        try {
            PBEKeySpec spec = new PBEKeySpec(password.toCharArray(), salt, ROUNDS, 256);
            return SecretKeyFactory.getInstance("PBKDF2WithHmacSHA256").generateSecret(spec).getEncoded();
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e); // every JDK has it
        }
    }

    static String sha256(String text) {
        try {
            return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8)));
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e); // every JDK has it
        }
    }
}
