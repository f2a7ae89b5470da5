import static org.junit.jupiter.api.Assertions.assertEquals;

import java.nio.file.Path;
import org.junit.jupiter.api.Test;

/** The stand-in with bare Python: the measure for both ways through py3run. */
final class BareGatewayTest extends GatewayCalls {
    @Override
    Path python() {
        return Host.python();
    }

    @Test
    void modulesLiveAsLongAsTheirWorker() throws Exception {
        settings.size = 1;
        try (Gateway gateway = new Gateway(settings)) {
            for (int i = 1; i <= 3; i++) {
                assertEquals(i, result(gateway.call("execute", "code", COUNTING)).getAsInt());
            }
        }
    }
}
