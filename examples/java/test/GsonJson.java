import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.ToNumberStrategy;
import com.google.gson.reflect.TypeToken;
import java.math.BigInteger;
import java.util.Map;
import py3run.Json;

/** Gson for {@link Py3Run}: integers of any size are exact, and nulls are written. Copy it, too, if you use Gson. */
final class GsonJson implements Json {
    /** LONG_OR_DOUBLE makes a double of every integer that does not fit into a long. */
    private static final ToNumberStrategy EXACT = in -> {
        String number = in.nextString();
        if (number.chars().anyMatch(c -> c == '.' || c == 'e' || c == 'E')) {
            return Double.valueOf(number); // a float of Python: its digits come back exactly
        }
        return number.length() < 19 ? (Number) Long.valueOf(number) : new BigInteger(number);
    };
    private static final TypeToken<Map<String, Object>> OBJECT = new TypeToken<>() {
    };
    private final Gson gson = new GsonBuilder().serializeNulls().disableHtmlEscaping().setObjectToNumberStrategy(EXACT).create();

    @Override
    public Map<String, Object> parse(String line) {
        return gson.fromJson(line, OBJECT.getType());
    }

    @Override
    public String write(Map<String, Object> request) {
        return gson.toJson(request);
    }
}
