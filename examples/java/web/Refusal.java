package web;

/** An HTTP status other than 200, with a text for the caller that tells an attacker nothing. */
final class Refusal extends Exception {
    private static final long serialVersionUID = 1;
    final int status;

    Refusal(int status, String message) {
        super(message, null, false, false);
        this.status = status;
    }

    /** The one answer to every credential that is wrong, whatever is wrong with it. */
    static Refusal unauthorized() {
        return new Refusal(401, "the credential is missing or not accepted");
    }
}
