"""A second verifier of proofs, made from the page `py3run help record` alone: verify_proof.py FILE K.pub

It has nothing in common with py3runctl, not even a library: Ed25519 is RFC 8032, section 5.1, by the letter."""
import base64, datetime, hashlib, json, sys

# --- Ed25519 -----------------------------------------------------------------------------------------
P = 2**255 - 19
Q = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def recover_x(y, sign):
    if y >= P:
        return None
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    if x2 == 0:
        return None if sign else 0
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * ROOT % P
    if (x * x - x2) % P:
        return None
    return P - x if x & 1 != sign else x


def decompress(b):
    y = int.from_bytes(b, "little")
    x = recover_x(y & (1 << 255) - 1, y >> 255)
    return None if x is None else (x, y & (1 << 255) - 1, 1, x * (y & (1 << 255) - 1) % P)


def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def mul(s, p):
    q = (0, 1, 1, 0)
    while s:
        if s & 1:
            q = add(q, p)
        p, s = add(p, p), s >> 1
    return q


BY = 4 * pow(5, P - 2, P) % P
BASE = (recover_x(BY, 0), BY, 1, recover_x(BY, 0) * BY % P)


def signed(public, message, signature):
    a, r = decompress(public), decompress(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= Q:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % Q
    left, right = mul(s, BASE), add(r, mul(h, a))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (left[1] * right[2] - right[1] * left[2]) % P == 0


# --- the steps of the page ---------------------------------------------------------------------------
def want(holds, what):
    if not holds:
        sys.exit("does not hold: " + what)


def H(data):
    return hashlib.sha256(data).digest()


def b64(text):
    return base64.b64decode(text, validate=True)


def moment(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def keys(path):
    for line in open(path):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        name, short, public = fields[0].split("+", 2)
        bounds = dict(f.split("=", 1) for f in fields[1:])
        public = b64(public)
        want(len(public) == 33 and public[0] == 1 and H(name.encode() + b"\n" + public)[:4].hex() == short, "the key file")
        yield name, bytes.fromhex(short), public[1:], bounds


def checkpoint(note, path):
    text, _, tail = note.rpartition("\n\n")
    text += "\n"
    want(tail.startswith("\u2014 ") and tail.endswith("\n") and tail.count("\n") == 1, "the form of the note")
    _, name, signature = tail[:-1].split(" ")
    signature = b64(signature)
    lines = text.split("\n")
    fields = dict(f.split("=", 1) for f in next(l for l in lines[3:] if l.startswith("py3run ")).split()[1:])
    at = moment(fields["time"])
    want(any(n == name and signature[:4] == short and len(signature) == 68 and signed(public, text.encode(), signature[4:])
             and ("from" not in b or at >= moment(b["from"])) and ("until" not in b or at < moment(b["until"]))
             for n, short, public, b in keys(path)), "the signature")
    print("signed by", name, "at", fields["time"])
    return int(lines[1]), b64(lines[2])


def included(line, index, path, n, root):
    h, i, n = H(b"\0" + line), index, n - 1
    if not 0 <= i <= n:
        return False
    for p in map(b64, path):
        if n == 0 or len(p) != 32:
            return False
        if i & 1 or i == n:
            h = H(b"\1" + p + h)
            while not i & 1 and i:
                i, n = i >> 1, n >> 1
        else:
            h = H(b"\1" + h + p)
        i, n = i >> 1, n >> 1
    return n == 0 and h == root


def main(file, key):
    proof = json.load(open(file, encoding="utf-8"))
    want(proof["form"] == "py3run-proof-1" and 1 <= len(proof["records"]) <= 100, "the form")
    n, root = checkpoint(proof["checkpoint"], key)
    before, records = None, [json.loads(r["line"]) for r in proof["records"]]
    for r, rec in zip(proof["records"], records):
        line = r["line"].encode()
        want(included(line, r["index"], r["path"], n, root), "record %d is in the tree" % rec["seq"])
        want(rec["run_id"] == proof["run_id"], "record %d is of the run" % rec["seq"])
        if before:
            want(r["index"] > before[0] and rec["seq"] > before[1], "the order")
            want(rec["seq"] != before[1] + 1 or rec["prev"] == H(before[2]).hex(), "the chain")
        before = r["index"], rec["seq"], line
    actions = [rec["event"]["action"] for rec in records]
    ends = {"execution-end", "execution-orphaned", "execution-denied"}
    want(actions[-1] in ends and set(actions[1:-1]) <= {"execution-cancel"} and (len(actions) == 1 or actions[0] in ("execution-start", "execution-cancel")), "the records of a run")
    first, last = records[0], records[-1]
    if first["event"]["action"] == "execution-start":
        want(first["user"]["name"] == last["user"]["name"] and first["code"] == last["code"], "the records belong together")
    if "code" in proof:
        code = b64(proof["code"])
        want(H(code).hex() == first["code"]["sha256"] and len(code) == first["code"]["bytes"], "the code")
    print("holds:", len(records), "records of run", proof["run_id"])


main(*sys.argv[1:])
