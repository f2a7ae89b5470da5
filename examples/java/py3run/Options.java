package py3run;

import java.time.Duration;
import java.util.Map;

/**
 * Who asks, and under which conditions. A null stands for what the configuration says.
 *
 * @param user          recorded in the audit log; py3run believes you, so give the user that you have authenticated
 * @param clientAddress the address of that user's client, recorded too
 * @param securityMode  "ADMIN", "DESIGNER_ADMIN", "RESTRICTED" or a profile of the configuration
 * @param timeout       how long the code may run; an operator's limit may tighten it further
 * @param labels        copied into the audit record
 */
public record Options(String user, String clientAddress, String securityMode, Duration timeout, Map<String, String> labels) {
    public static final Options NONE = new Options(null, null, null, null, null);

    public Options withUser(String name) {
        return new Options(name, clientAddress, securityMode, timeout, labels);
    }

    public Options withClientAddress(String address) {
        return new Options(user, address, securityMode, timeout, labels);
    }

    public Options withSecurityMode(String mode) {
        return new Options(user, clientAddress, mode, timeout, labels);
    }

    public Options withTimeout(Duration limit) {
        return new Options(user, clientAddress, securityMode, limit, labels);
    }

    public Options withLabels(Map<String, String> texts) {
        return new Options(user, clientAddress, securityMode, timeout, texts);
    }
}
