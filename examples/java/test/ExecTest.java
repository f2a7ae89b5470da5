/** The calls over a launcher for each. */
final class ExecTest extends Calls {
    @Override
    Py3Run.Builder transport(Py3Run.Json json) {
        return Py3Run.exec(json);
    }
}
