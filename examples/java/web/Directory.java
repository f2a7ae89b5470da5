package web;

import java.util.Optional;
import java.util.Set;

/** Who the users are: your LDAP, database or, in Ignition, the user source. */
public interface Directory {

    /** The user with this API key of the web service. Compare hashes, not texts. */
    Optional<String> userOfKey(String key);

    /** The user with this name and password. A wrong name must take as long as a wrong password. */
    Optional<String> userOfPassword(String name, String password);

    /** The roles that the user has now; none for a user who was removed or disabled. */
    Set<String> roles(String user);
}
