import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** The calls over a launcher for each. */
final class ExecTest extends Calls {
    @Override
    Py3Run.Builder transport(Py3Run.Json json) {
        return Py3Run.exec(json);
    }

    @ParameterizedTest(name = "{0}")
    @CsvSource(delimiter = ';', textBlock = """
            nothing;              DIED;       :
            nothing, and reads;   DIED;       cat > /dev/null
            a line that is cut;   BAD_ANSWER; printf '{"success":true,"status":"ok"}'
            two lines;            BAD_ANSWER; printf '{"success":true,"status":"ok"}\\n{}\\n'
            no JSON;              BAD_ANSWER; echo hello
            no result;            BAD_ANSWER; echo '{}'
            a contradiction;      BAD_ANSWER; echo '{"success":true,"status":"error"}'
            not UTF-8;            BAD_ANSWER; printf '{"success":true,"status":"ok","result":"\\377"}\\n'
            """)
    void launchersThatAnswerSomethingElse(String how, Py3Run.TransportException.Kind kind, String answering) throws Exception {
        answers(how, kind, answering);
    }
}
