package py3run;

import java.util.Map;

/** The JSON library of your choice. Both methods throw a RuntimeException if they fail. */
public interface Json {
    /**
     * Reads one JSON object. Every integer must become a Long or a BigInteger. Gson, for example, makes every number a
     * double by default, and with LONG_OR_DOUBLE still those that do not fit into a long.
     */
    Map<String, Object> parse(String line);

    /** Writes one JSON object without line breaks, with its nulls (Gson: serializeNulls). */
    String write(Map<String, Object> request);
}
