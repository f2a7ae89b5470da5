import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import py3run.Json;
import py3run.Py3Run;
import py3run.TransportException;

/** The calls over a launcher for each. */
final class ExecTest extends Calls {
    @Override
    Py3Run.Builder transport(Json json) {
        return Py3Run.exec(json);
    }

    @Override
    String untilAsked() {
        return "cat > /dev/null\n";
    }

    @ParameterizedTest(name = "{0}")
    @CsvSource(delimiter = ';', textBlock = """
            nothing;              DIED;       :
            a line that is cut;   DIED;       printf '{"success":true,"status":"ok"}'
            two lines;            BAD_ANSWER; printf '{"success":true,"status":"ok"}\\n{}\\n'
            no JSON;              BAD_ANSWER; echo hello
            no result;            BAD_ANSWER; echo '{}'
            a contradiction;      BAD_ANSWER; echo '{"success":true,"status":"error"}'
            too much;             BAD_ANSWER; head -c 70000000 /dev/zero | tr '\\0' x
            not UTF-8;            BAD_ANSWER; printf '{"success":true,"status":"ok","result":"\\377"}\\n'
            """)
    void launchersThatAnswerSomethingElse(String how, TransportException.Kind kind, String answering) throws Exception {
        answers(how, kind, answering);
    }
}
