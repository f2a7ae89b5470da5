package web;

/**
 * The user of one HTTP request, after its credential was checked.
 *
 * @param user the name in the directory, which is also the name in py3run's policy
 * @param way  how the user was known
 */
public record Caller(String user, Way way) {

    /** The ways in which a request can say whose it is. */
    public enum Way {
        API_KEY, SESSION, BASIC
    }
}
