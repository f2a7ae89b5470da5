import java.math.BigInteger;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import py3run.Json;

/**
 * JSON (RFC 8259), small and strict, so that the example needs no library. It refuses input on which readers
 * disagree: trailing data, a name twice in one object, NaN, control characters in strings. Integers of any
 * size stay integers.
 */
final class MiniJson implements Json {
    private static final int MAX_DEPTH = 512; // deeper input could cause a StackOverflowError, which is no RuntimeException

    @Override
    public Map<String, Object> parse(String text) {
        return new Reader(text).document();
    }

    @Override
    public String write(Map<String, Object> object) {
        StringBuilder out = new StringBuilder();
        write(out, object, 0);
        return out.toString();
    }

    private static void write(StringBuilder out, Object value, int depth) {
        if (depth > MAX_DEPTH) {
            throw new IllegalArgumentException("nested too deep, or in a circle");
        }
        if (value == null || value instanceof Boolean || value instanceof Integer || value instanceof Long || value instanceof BigInteger) {
            out.append(value);
        } else if (value instanceof Double d && Double.isFinite(d)) { // JSON has no NaN and no infinity
            out.append(d);
        } else if (value instanceof String s) {
            quote(out, s);
        } else if (value instanceof Map<?, ?> map) {
            String separator = "{";
            for (Map.Entry<?, ?> entry : map.entrySet()) {
                quote(out.append(separator), (String) entry.getKey());
                write(out.append(':'), entry.getValue(), depth + 1);
                separator = ",";
            }
            out.append(map.isEmpty() ? "{}" : "}");
        } else if (value instanceof Collection<?> list) {
            String separator = "[";
            for (Object element : list) {
                write(out.append(separator), element, depth + 1);
                separator = ",";
            }
            out.append(list.isEmpty() ? "[]" : "]");
        } else {
            throw new IllegalArgumentException("no JSON for " + value.getClass().getName() + " " + value);
        }
    }

    private static void quote(StringBuilder out, String s) {
        out.append('"');
        for (int i = 0; i < s.length(); i++) {
            char c = s.charAt(i);
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c < ' ') {
                out.append(String.format("\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        out.append('"');
    }

    private static final class Reader {
        private final String text;
        private int at;

        Reader(String text) {
            this.text = text;
        }

        Map<String, Object> document() {
            space();
            if (peek() != '{') {
                throw wrong("want an object");
            }
            Map<String, Object> object = object(0);
            space();
            if (at < text.length()) {
                throw wrong("data after the end");
            }
            return object;
        }

        private Object value(int depth) {
            if (depth > MAX_DEPTH) {
                throw wrong("nested too deep");
            }
            space();
            return switch (peek()) {
                case '{' -> object(depth);
                case '[' -> array(depth);
                case '"' -> string();
                case 't' -> word("true", Boolean.TRUE);
                case 'f' -> word("false", Boolean.FALSE);
                case 'n' -> word("null", null);
                default -> number();
            };
        }

        private Map<String, Object> object(int depth) {
            Map<String, Object> object = new LinkedHashMap<>();
            at++;
            space();
            if (skip('}')) {
                return object;
            }
            do {
                space();
                String name = string();
                space();
                want(':');
                if (object.containsKey(name)) {
                    throw wrong("the name " + name + " twice");
                }
                object.put(name, value(depth + 1));
                space();
            } while (skip(','));
            want('}');
            return object;
        }

        private List<Object> array(int depth) {
            List<Object> array = new ArrayList<>();
            at++;
            space();
            if (skip(']')) {
                return array;
            }
            do {
                array.add(value(depth + 1));
                space();
            } while (skip(','));
            want(']');
            return array;
        }

        private String string() {
            want('"');
            StringBuilder out = new StringBuilder();
            for (;;) {
                char c = peek();
                if (c < ' ') { // also the end of the text
                    throw wrong("a string without end");
                }
                at++;
                if (c == '"') {
                    return out.toString();
                }
                out.append(c == '\\' ? escaped() : c);
            }
        }

        private char escaped() {
            char c = peek();
            at++;
            return switch (c) {
                case '"', '\\', '/' -> c;
                case 'b' -> '\b';
                case 'f' -> '\f';
                case 'n' -> '\n';
                case 'r' -> '\r';
                case 't' -> '\t';
                case 'u' -> {
                    int code = 0;
                    for (int i = 0; i < 4; i++, at++) {
                        int digit = peek() < 128 ? Character.digit(peek(), 16) : -1;
                        if (digit < 0) {
                            throw wrong("want four hexadecimal digits");
                        }
                        code = code << 4 | digit;
                    }
                    yield (char) code;
                }
                default -> throw wrong("no such escape");
            };
        }

        private Object number() {
            int start = at;
            skip('-');
            if (!skip('0')) {
                digits();
            }
            int end = at;
            if (skip('.')) {
                digits();
            }
            if (skip('e') || skip('E')) {
                if (!skip('+')) {
                    skip('-');
                }
                digits();
            }
            String number = text.substring(start, at);
            if (at > end) {
                return Double.valueOf(number);
            }
            return number.length() < 19 ? (Object) Long.valueOf(number) : new BigInteger(number);
        }

        private void digits() {
            int start = at;
            while (peek() >= '0' && peek() <= '9') {
                at++;
            }
            if (at == start) {
                throw wrong("want a value");
            }
        }

        private Object word(String word, Object value) {
            if (!text.startsWith(word, at)) {
                throw wrong("want a value");
            }
            at += word.length();
            return value;
        }

        private void space() {
            while (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r') {
                at++;
            }
        }

        /** The next character. At the end it is NUL, which JSON text never contains. */
        private char peek() {
            return at < text.length() ? text.charAt(at) : '\0';
        }

        private boolean skip(char c) {
            if (peek() != c) {
                return false;
            }
            at++;
            return true;
        }

        private void want(char c) {
            if (!skip(c)) {
                throw wrong("want '" + c + "'");
            }
        }

        private IllegalArgumentException wrong(String what) {
            return new IllegalArgumentException("JSON: " + what + ", at character " + at);
        }
    }
}
