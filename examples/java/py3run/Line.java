package py3run;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Lines of JSON as bytes.
 *
 * <p>Name UTF-8 everywhere. The default charset of Java 17 is that of the platform: for a service, which often has
 * LANG=C, it is ASCII, and every umlaut becomes a question mark. And convert strictly: String.getBytes and new String
 * silently replace what they cannot convert, so the code would get other data than the caller gave.
 */
final class Line {
    /**
     * The longest line to hold in memory. output_mb (10 by default) limits the JSON of result, stdout and stderr each,
     * and the field "output" repeats stdout, so an answer has at most about four times that. Lower output_mb rather than
     * raise this.
     */
    static final int MAX_BYTES = 64 << 20;

    private Line() {
    }

    /**
     * The line with its newline.
     *
     * @throws IllegalArgumentException if it is none, or holds half of a surrogate pair
     */
    static byte[] encode(String json) {
        if (json.indexOf('\n') >= 0) {
            throw new IllegalArgumentException("the request must be one line: switch off pretty printing");
        }
        try {
            ByteBuffer bytes = StandardCharsets.UTF_8.newEncoder().encode(CharBuffer.wrap(json + "\n"));
            return Arrays.copyOf(bytes.array(), bytes.limit());
        } catch (CharacterCodingException e) {
            throw new IllegalArgumentException("the request holds half of a surrogate pair", e);
        }
    }

    /**
     * The line without its newline.
     *
     * @throws IllegalArgumentException if it has none, because it was cut, or is not UTF-8
     */
    static String decode(byte[] line) {
        try {
            String text = StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(line)).toString();
            if (text.indexOf('\n') != text.length() - 1) {
                throw new IllegalArgumentException("not one line");
            }
            return text.substring(0, text.length() - 1);
        } catch (CharacterCodingException e) {
            throw new IllegalArgumentException("not UTF-8", e);
        }
    }

    static TransportException tooLong() {
        return TransportException.mayHaveRun(TransportException.Kind.BAD_ANSWER, "an answer of more than " + MAX_BYTES + " bytes from py3run", null);
    }

    /** Splits a stream into lines. */
    static final class Reader {
        private final InputStream in;
        private final byte[] chunk = new byte[64 << 10];
        private int from;
        private int to;

        Reader(InputStream in) {
            this.in = in;
        }

        /** The next line with its newline, or null at the end. A last line without one was cut: it is dropped. */
        byte[] next() throws IOException {
            ByteArrayOutputStream line = new ByteArrayOutputStream(256);
            for (;;) {
                for (int i = from; i < to; i++) {
                    if (chunk[i] == '\n') {
                        line.write(chunk, from, i + 1 - from);
                        from = i + 1;
                        return line.toByteArray();
                    }
                }
                line.write(chunk, from, to - from);
                if (line.size() > MAX_BYTES) {
                    throw tooLong();
                }
                from = 0;
                to = in.read(chunk);
                if (to < 0) {
                    to = 0;
                    return null;
                }
            }
        }
    }

    /** A copy that nobody can change. */
    static Map<String, Object> unmodifiable(Map<?, ?> map) {
        Map<String, Object> copy = new LinkedHashMap<>(); // not Map.copyOf: JSON has null
        map.forEach((name, value) -> copy.put((String) name, frozen(value)));
        return Collections.unmodifiableMap(copy);
    }

    private static Object frozen(Object value) {
        if (value instanceof Map<?, ?> map) {
            return unmodifiable(map);
        }
        if (value instanceof List<?> list) {
            List<Object> copy = new ArrayList<>(list.size());
            list.forEach(element -> copy.add(frozen(element)));
            return Collections.unmodifiableList(copy);
        }
        return value;
    }
}
