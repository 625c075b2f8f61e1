"""Writes frame.json, the test vectors of docs/abi-frame.md.

Written from the specification alone, so that no reader or writer of this
repository checks itself. Run it from anywhere; it takes no arguments.

inputs          frames exactly as the host writes them, and what is in them
other_inputs    input frames that no host writes but every reader must read
refused_inputs  input frames that are wrong: a reader refuses the frame, or reads
                what is wrong as empty, and never reads outside the frame
outputs         output frames and what they mean: `status` as in the frame, 0 for
                none; names of `ops` in lower case; `body` and `context` null when
                the frame has none
refused         output frames that the host must refuse; what `vortex_handle`
                returned is the number of the bytes given
Bytes are base64 (standard, padded), frames hexadecimal.
"""

import base64
import json
import pathlib
import struct

PHASES = ["pre_request", "post_response", "on_connect", "on_close"]
KINDS = ["set", "append", "remove"]
LEVELS = ["error", "warning", "info", "debug", "trace"]


def b64(data):
    return None if data is None else base64.b64encode(data).decode()


def pattern(length, step=31):
    return bytes(i * step % 251 for i in range(length))


# Input frames.

TEXTS = ["method", "path", "query", "scheme", "authority", "remote", "route"]


def input_of(name, phase="pre_request", status=0, headers=None, body=None,
             body_len=None, config=b"", context=b"", **texts):
    """One entry of `inputs`: the fields, and the frame as the host writes it."""
    fixed = 104 + 16 * len(headers or [])
    data = b""

    def span(value):
        nonlocal data
        if not value:
            return struct.pack("<II", 0, 0)
        at = fixed + len(data)
        data += value
        return struct.pack("<II", at, len(value))

    records = b"".join(span(n.encode()) + span(v) for n, v in headers or [])
    spans = b"".join(span(texts.get(t, "").encode()) for t in TEXTS)
    spans += span(body) + span(config) + span(context)
    if body_len is None:
        body_len = len(body or b"")
    flags = (headers is not None) | (body is not None) << 1
    head = struct.pack("<IHBBHHIQ", fixed + len(data), 2, PHASES.index(phase), flags,
                       status, 0, len(headers or []), body_len)
    frame = head + spans + records + data
    return entry(name, frame, phase, status, headers, body, body_len, config, context, texts)


def entry(name, frame, phase, status, headers, body, body_len, config, context, texts):
    fields = {"name": name, "phase": phase, "status": status}
    fields.update((t, texts.get(t, "")) for t in TEXTS)
    fields.update(
        headers=None if headers is None else [[n, b64(v)] for n, v in headers],
        body=b64(body), body_len=body_len, config=b64(config), context=b64(context),
        frame=frame.hex())
    return fields


TWELVE = [
    ("host", b"api.example.com"),
    ("user-agent", b"curl/8.5.0"),
    ("accept", b"application/json"),
    ("accept-encoding", b"gzip, br"),
    ("accept-language", b"en-GB,en;q=0.8"),
    ("cache-control", b"no-cache"),
    ("content-type", b"application/json"),
    ("cookie", b"session=0123456789abcdef"),
    ("referer", b"https://example.com/orders?page=2"),
    ("x-api-key", b"k-demo-123"),
    ("x-forwarded-for", b"203.0.113.7, 198.51.100.2"),
    ("x-request-id", b"7b2c0f4e-6a51-4d7c-9f0e-1d2c3b4a5f60"),
]

inputs = [
    input_of("nothing but a phase"),
    input_of("no headers is not empty headers", headers=[]),
    input_of("no body is not an empty body", body=b""),
    input_of("every field", phase="pre_request", method="POST", path="/v1/orders/täglich",
             query="page=2&q=%C3%A4", scheme="https", authority="api.example.com:8443",
             remote="203.0.113.7:51514", route="orders",
             headers=[("host", b"api.example.com:8443"), ("content-length", b"9")],
             body=b'{"k":"v"}', config=b'{"keys":["k-demo-123"]}', context=b"\x00\x01ctx"),
    input_of("twelve headers", method="GET", path="/v1/orders", query="page=2", scheme="https",
             authority="api.example.com", remote="203.0.113.7:51514", route="api",
             headers=TWELVE),
    input_of("several values of a header", method="GET", path="/", headers=[
        ("accept", b"text/html"), ("x-a", b"1"), ("x-a", b""), ("x-a", b"3"), ("via", b"1.1 a"),
        ("via", b"1.1 b")]),
    input_of("an empty value", method="GET", path="/", headers=[("x-empty", b""), ("z", b"1")]),
    input_of("values that are not UTF-8", method="GET", path="/", headers=[
        ("x-latin", b"caf\xe9"), ("x-bytes", bytes([0x80, 0xFF, 0xC3, 0x28, 0x09, 0x20, 0x7E])),
        ("x-utf8", "käse ☃".encode())]),
    input_of("every character of a name", headers=[
        ("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz", b"v")]),
    input_of("a response", phase="post_response", status=200, method="GET", path="/y",
             scheme="https", authority="a.example", remote="[2001:db8::1]:443", route="r",
             headers=[("content-type", b"application/json"), ("set-cookie", b"a=1"),
                      ("set-cookie", b"b=2")], body=b'{"k":"v"}', context=b"from the request"),
    input_of("the lowest status", phase="post_response", status=100, method="GET", path="/"),
    input_of("the highest status", phase="post_response", status=999, method="GET", path="/"),
    input_of("a connection", phase="on_connect", remote="203.0.113.7:51514"),
    input_of("the end of a connection", phase="on_close", remote="[2001:db8::1]:443",
             context=b"kept"),
    input_of("an unusual method and no path", method="M-SEARCH", query="*"),
    input_of("a NUL and a quote in a path", method="GET", path='/a\0b"c\\d'),
    input_of("a configuration alone", config=b"limit = 5\n"),
    input_of("the largest context", context=pattern(4096)),
    input_of("a body longer than its window", method="PUT", path="/big", headers=[],
             body=b"first bytes", body_len=5_000_000_000),
    input_of("the greatest length of a body", method="PUT", path="/", body=b"",
             body_len=2**64 - 1),
    input_of("a length without a body", phase="post_response", status=204, body_len=77),
    input_of("all byte values in a body", method="PUT", path="/", body=bytes(range(256))),
    input_of("the largest window", method="PUT", path="/", headers=[("x-a", b"1")],
             body=pattern(65536), body_len=65537, config=b"c", context=b"x"),
    input_of("a hundred headers", method="GET", path="/",
             headers=[(f"x-header-{i}", b"v" * i) for i in range(100)]),
]


def raw_input(spans, records=b"", data=b"", n=0, phase=0, flags=0, status=0, reserved=0,
              body_len=0, length=None, version=2):
    """An input frame of which every field is free. Spans are ten pairs."""
    size = 104 + len(records) + len(data)
    head = struct.pack("<IHBBHHIQ", size if length is None else length, version, phase, flags,
                       status, reserved, n, body_len)
    return head + b"".join(struct.pack("<II", *s) for s in spans) + records + data


NONE = [(0, 0)] * 10


def with_spans(**at):
    names = TEXTS + ["body", "config", "context"]
    return [at.get(name, (0, 0)) for name in names]


shared = raw_input(
    with_spans(method=(120, 3), path=(123, 2), query=(120, 5), body=(120, 5), config=(104, 16),
               context=(125, 0)),
    records=struct.pack("<IIII", 124, 1, 120, 3), data=b"GET/x", n=1, flags=3, body_len=5)
backwards = raw_input(
    with_spans(method=(118, 3), path=(117, 1), scheme=(113, 4), route=(112, 1), body=(108, 4),
               config=(107, 1), context=(104, 3)),
    data=b"ctxCbodyrhttp/GET", flags=2, body_len=4)
reserved = raw_input(with_spans(method=(104, 3)), data=b"GET", flags=0xFC, reserved=0xFFFF)
gaps = raw_input(with_spans(method=(108, 3), path=(115, 1)), data=b"....GET..../....")
plain = dict(phase="pre_request", status=0, headers=None, body=None, body_len=0, config=b"",
             context=b"")
other_inputs = [
    entry("spans that overlap, the table included", shared, **{
        **plain, "headers": [("x", b"GET")], "body": b"GET/x", "body_len": 5,
        "config": struct.pack("<IIII", 124, 1, 120, 3)},
        texts=dict(method="GET", path="/x", query="GET/x")),
    entry("fields from the last to the first", backwards, **{
        **plain, "body": b"body", "body_len": 4, "config": b"C", "context": b"ctx"},
        texts=dict(method="GET", path="/", scheme="http", route="r")),
    entry("reserved bits are ignored", reserved, **plain, texts=dict(method="GET")),
    entry("bytes between the fields", gaps, **plain, texts=dict(method="GET", path="/")),
    entry("empty spans at the end", raw_input([(104, 0)] * 10), **plain, texts={}),
]

def wrong(name, frame, rule):
    return {"name": name, "frame": frame.hex(), "rule": rule}


RECORD = struct.pack("<IIII", 120, 1, 121, 1)
refused_inputs = [
    wrong("no frame", b"", "an input frame has 104 bytes at least"),
    wrong("three bytes", b"\x03\0\0", "an input frame has 104 bytes at least"),
    wrong("a byte too few", raw_input(NONE, length=103)[:103],
          "an input frame has 104 bytes at least"),
    wrong("longer than it is", raw_input(NONE, length=105), "the length is that of the frame"),
    wrong("shorter than it is", raw_input(NONE, data=b"x", length=104),
          "the length is that of the frame"),
    wrong("the greatest length", raw_input(NONE, length=2**32 - 1),
          "the length is that of the frame"),
    wrong("version 1", raw_input(NONE, version=1), "the version is 2"),
    wrong("version 3", raw_input(NONE, version=3), "the version is 2"),
    wrong("phase 4", raw_input(NONE, phase=4), "the phase is 0 to 3"),
    wrong("a header that is not there", raw_input(NONE, n=1, flags=1),
          "the headers lie inside the frame"),
    wrong("a header cut short", raw_input(NONE, records=RECORD[:15], n=1, flags=1),
          "the headers lie inside the frame"),
    wrong("headers that wrap around", raw_input(NONE, records=RECORD, n=2**28 + 1, flags=1),
          "the headers lie inside the frame"),
    wrong("the greatest number of headers", raw_input(NONE, n=2**32 - 1, flags=1),
          "the headers lie inside the frame"),
]
for field in TEXTS + ["body", "config", "context"]:
    refused_inputs.append(wrong(
        f"{field} ends past the end",
        raw_input(with_spans(**{field: (104, 2)}), data=b"x", flags=2, body_len=2),
        "a span lies inside its frame"))
for name, span in [("begins past the end", (106, 1)), ("is empty past the end", (106, 0)),
                   ("wraps around", (104, 2**32 - 103)), ("wraps to its end", (2**32 - 1, 2)),
                   ("is as long as can be", (0, 2**32 - 1))]:
    refused_inputs.append(wrong(
        f"a span that {name}", raw_input(with_spans(method=span), data=b"x"),
        "a span lies inside its frame"))
for name, record in [("name", (121, 2, 120, 1)), ("value", (120, 1, 122, 1)),
                     ("name wraps around", (2**32 - 4, 8, 120, 1)),
                     ("value wraps around", (120, 1, 2**32 - 4, 8))]:
    refused_inputs.append(wrong(
        f"a header's {name} outside", raw_input(
            NONE, records=struct.pack("<IIII", *record), data=b"ab", n=1, flags=1),
        "a span lies inside its frame"))


# Output frames.

def raw_output(ops=(), logs=(), data=b"", verdict=0, flags=0, status=0, reserved=0, reserved2=0,
               n=None, m=None, body=(0, 0), context=(0, 0), length=None, version=2):
    """An output frame of which every field is free. Operations are five
    numbers, log lines three."""
    records = b"".join(struct.pack("<IIIII", *op) for op in ops)
    records += b"".join(struct.pack("<III", *log) for log in logs)
    size = 40 + len(records) + len(data)
    head = struct.pack("<IHBBHHIIIIIII", size if length is None else length, version, verdict,
                       flags, status, reserved, len(ops) if n is None else n,
                       len(logs) if m is None else m, reserved2, *body, *context)
    return head + records + data


def frame_of(ops=(), logs=(), body=None, context=None, allow=True, status=0):
    """An output frame with everything in order, each field after the other."""
    fixed = 40 + 20 * len(ops) + 12 * len(logs)
    data = b""

    def span(value):
        nonlocal data
        at = fixed + len(data)
        data += value
        return at, len(value)

    op_records = [(KINDS.index(k), *span(n), *span(v)) for k, n, v in ops]
    log_records = [(LEVELS.index(level), *span(text)) for level, text in logs]
    spans = {}
    if body is not None:
        spans["body"] = span(body)
    if context is not None:
        spans["context"] = span(context)
    return raw_output(op_records, log_records, data, verdict=int(not allow), status=status,
                      flags=(body is not None) | (context is not None) << 1, **spans)


def output(name, frame, allow=True, status=0, ops=(), body=None, context=None, logs=()):
    return {"name": name, "frame": frame.hex(), "allow": allow, "status": status,
            "ops": [[k, n.decode().lower(), b64(v)] for k, n, v in ops], "body": b64(body),
            "context": b64(context), "logs": [[level, text.decode()] for level, text in logs]}


def in_order(name, **fields):
    return output(name, frame_of(**fields), **fields)


TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ANY = bytes([9] + [b for b in range(0x20, 0x100) if b != 0x7F])


def numbered(count):
    """Operations on names that are all different, in few bytes: `set` of
    every pair of letters, with an empty value."""
    letters = b"abcdefghijklmnopqrstuvwxyz"
    pairs = [bytes([a, b]) for a in letters for b in letters]
    return [("set", pair, b"") for pair in pairs[:count]]


def shared_ops(count, data=b"xv"):
    at = 40 + 20 * count
    return raw_output([(1, at, 1, at + 1, 1)] * count, data=data)


def shared_logs(count):
    at = 40 + 12 * count
    return raw_output((), [(2, at, 2)] * count, data=b"hi")


outputs = [
    in_order("forty bytes allow"),
    in_order("a denial", allow=False),
    in_order("a denial with a status", allow=False, status=401),
    in_order("a denial with a status below 300", allow=False, status=204),
    in_order("a denial with everything", allow=False, status=429,
             ops=[("set", b"Retry-After", b"5"), ("append", b"x-a", b"1")],
             body=b'{"error":"slow down"}', context=b"seen", logs=[("warning", b"too many")]),
    in_order("the lowest status", status=100),
    in_order("the highest status", status=999),
    in_order("set", ops=[("set", b"x-consumer", b"demo")]),
    in_order("append", ops=[("append", b"x-tag", b"a")]),
    in_order("remove", ops=[("remove", b"x-api-key", b"")]),
    in_order("operations in order", ops=[
        ("set", b"x-a", b"1"), ("append", b"X-A", b"2"), ("remove", b"x-b", b""),
        ("set", b"x-b", b"3"), ("append", b"x-b", b"4"), ("remove", b"x-c", b"")]),
    in_order("an empty value", ops=[("set", b"x-empty", b"")]),
    in_order("every character of a name", ops=[("set", TOKEN, b"v")]),
    in_order("every character of a value", ops=[("set", b"x", ANY)]),
    in_order("a value that is not UTF-8", ops=[("append", b"x-latin", b"caf\xe9 \xc3(")]),
    in_order("an empty body", body=b""),
    in_order("a body", body=b"hello"),
    in_order("a body of all bytes", body=bytes(range(256))),
    in_order("an empty context", context=b""),
    in_order("a context", context=b"\0\1\2"),
    in_order("the largest context", context=pattern(4096)),
    in_order("a line of every level", logs=[(level, level.encode()) for level in LEVELS]),
    in_order("an empty line", logs=[("info", b"")]),
    in_order("a line of UTF-8", logs=[("info", "käse ☃ 🧀".encode())]),
    in_order("the longest line", logs=[("trace", b"x" * 1024)]),
    output("a line that is not UTF-8", raw_output((), [(2, 52, 7)], b"ab\xffcd\x80e"),
           logs=[("info", "ab\ufffdcd\ufffde".encode())]),
    output("the most lines", shared_logs(64), logs=[("info", b"hi")] * 64),
    output("the most operations", shared_ops(1024), ops=[("append", b"x", b"v")] * 1024),
    in_order("the most names", ops=numbered(256)),
    in_order("the most names, one in two cases", ops=numbered(256) + [("set", b"AA", b"")]),
    output("data before the next field, last to first",
           raw_output([(0, 75, 1, 74, 1)], [(2, 72, 2)], b"hivxBODYctx", flags=3, body=(76, 4),
                      context=(80, 3)),
           ops=[("set", b"x", b"v")], logs=[("info", b"hi")], body=b"BODY", context=b"ctx"),
    output("spans that overlap",
           raw_output([(0, 80, 3, 81, 4), (1, 80, 3, 80, 5)], data=b"abcde", flags=3,
                      body=(80, 5), context=(82, 2)),
           ops=[("set", b"abc", b"bcde"), ("append", b"abc", b"abcde")], body=b"abcde",
           context=b"cd"),
    output("empty spans at the end",
           raw_output([(0, 60, 1, 61, 0)], data=b"x", flags=3, body=(61, 0),
                      context=(61, 0)),
           ops=[("set", b"x", b"")], body=b"", context=b""),
    output("a removal whose empty value is at the end",
           raw_output([(2, 60, 1, 61, 0)], data=b"x"), ops=[("remove", b"x", b"")]),
    output("spans that end at the end",
           raw_output([(0, 60, 1, 61, 1)], data=b"xv", flags=1, body=(60, 2)),
           ops=[("set", b"x", b"v")], body=b"xv"),
    output("bytes that no span names", raw_output(data=b"nobody")),
]
whole = raw_output(flags=1, body=(0, 40))
outputs.append(output("a body that is the frame", whole, body=whole))

refused = [
    wrong("no frame", b"", "an output frame has 40 bytes at least"),
    wrong("three bytes", b"\x03\0\0", "an output frame has 40 bytes at least"),
    wrong("a byte too few", raw_output(length=39)[:39], "an output frame has 40 bytes at least"),
    wrong("longer than it is", raw_output(length=41), "the length is what was returned"),
    wrong("shorter than it is", raw_output(data=b"x", length=40),
          "the length is what was returned"),
    wrong("length 0", raw_output(length=0), "the length is what was returned"),
    wrong("the greatest length", raw_output(length=2**32 - 1), "the length is what was returned"),
    wrong("version 0", raw_output(version=0), "the version is 2"),
    wrong("version 1", raw_output(version=1), "the version is 2"),
    wrong("version 3", raw_output(version=3), "the version is 2"),
    wrong("version 258", raw_output(version=258), "the version is 2"),
    wrong("verdict 2", raw_output(verdict=2), "the verdict is 0 or 1"),
    wrong("verdict 255", raw_output(verdict=255), "the verdict is 0 or 1"),
    wrong("flag 4", raw_output(flags=4), "reserved flags are zero"),
    wrong("flag 128", raw_output(flags=128), "reserved flags are zero"),
    wrong("the first reserved field", raw_output(reserved=1), "reserved fields are zero"),
    wrong("the first reserved field, high byte", raw_output(reserved=0x8000),
          "reserved fields are zero"),
    wrong("the second reserved field", raw_output(reserved2=1), "reserved fields are zero"),
    wrong("the second reserved field, high byte", raw_output(reserved2=2**31),
          "reserved fields are zero"),
    wrong("status 1", raw_output(status=1), "a status is 0 or 100 to 999"),
    wrong("status 99", raw_output(status=99), "a status is 0 or 100 to 999"),
    wrong("status 1000", raw_output(status=1000), "a status is 0 or 100 to 999"),
    wrong("status 65535", raw_output(status=65535), "a status is 0 or 100 to 999"),
    wrong("a denial with status 99", raw_output(verdict=1, status=99),
          "a status is 0 or 100 to 999"),
    wrong("an operation that is not there", raw_output(n=1), "the records lie inside the frame"),
    wrong("an operation cut short", raw_output(n=1, data=bytes(19)),
          "the records lie inside the frame"),
    wrong("a line that is not there", raw_output(m=1), "the records lie inside the frame"),
    wrong("a line cut short", raw_output(m=1, data=bytes(11)),
          "the records lie inside the frame"),
    wrong("a line in the place of an operation",
          raw_output([(0, 71, 1, 71, 1)], n=1, m=1, data=b"x" * 11),
          "the records lie inside the frame"),
    wrong("1025 operations", shared_ops(1025), "there are at most 1,024 operations"),
    wrong("operations that wrap around", raw_output(n=2**32 // 20 + 1, data=bytes(20)),
          "there are at most 1,024 operations"),
    wrong("the greatest number of operations", raw_output(n=2**32 - 1),
          "there are at most 1,024 operations"),
    wrong("65 lines", shared_logs(65), "there are at most 64 log lines"),
    wrong("the greatest number of lines", raw_output(m=2**32 - 1),
          "there are at most 64 log lines"),
    wrong("257 names", frame_of(ops=numbered(257)), "there are at most 256 different names"),
    wrong("257 names, one of them removed", frame_of(ops=numbered(256) + [("remove", b"zz", b"")]),
          "there are at most 256 different names"),
    wrong("a context of 4097 bytes", frame_of(context=pattern(4097)),
          "a context has at most 4,096 bytes"),
    wrong("a line of 1025 bytes", frame_of(logs=[("info", b"x" * 1025)]),
          "a log line has at most 1,024 bytes"),
    wrong("kind 3", raw_output([(3, 60, 1, 60, 1)], data=b"x"), "a kind is 0, 1 or 2"),
    wrong("kind 256", raw_output([(256, 60, 1, 60, 1)], data=b"x"), "a kind is 0, 1 or 2"),
    wrong("the greatest kind", raw_output([(2**32 - 1, 60, 1, 60, 1)], data=b"x"),
          "a kind is 0, 1 or 2"),
    wrong("a removal with a value", raw_output([(2, 60, 1, 60, 1)], data=b"x"),
          "a removal has an empty value"),
    wrong("level 5", raw_output((), [(5, 52, 1)], b"x"), "a level is 0 to 4"),
    wrong("level 256", raw_output((), [(256, 52, 1)], b"x"), "a level is 0 to 4"),
    wrong("the second operation is wrong",
          raw_output([(0, 80, 1, 80, 1), (3, 80, 1, 80, 1)], data=b"x"), "a kind is 0, 1 or 2"),
    wrong("the last operation is wrong",
          raw_output([(0, 60 + 40, 1, 100, 1), (0, 100, 1, 100, 1), (0, 100, 1, 101, 1)],
                     data=b"x"), "a span lies inside its frame"),
]
SPANS = [("ends past the end", lambda end: (end - 1, 2)),
         ("begins at the end", lambda end: (end, 1)),
         ("begins past the end", lambda end: (end + 1, 1)),
         ("is empty past the end", lambda end: (end + 1, 0)),
         ("wraps around", lambda end: (end - 1, 2**32 - 1)),
         ("wraps to nothing", lambda end: (2**32 - 1, 1)),
         ("begins at the greatest offset", lambda end: (2**32 - 1, 0)),
         ("is as long as can be", lambda end: (0, 2**32 - 1))]
for name, span in SPANS:
    inside = "a span lies inside its frame"
    refused += [
        wrong(f"a name that {name}",
              raw_output([(0, *span(61), 60, 1)], data=b"x"), inside),
        wrong(f"a value that {name}",
              raw_output([(0, 60, 1, *span(61))], data=b"x"), inside),
        wrong(f"a line that {name}", raw_output((), [(0, *span(53))], b"x"), inside),
        wrong(f"a body that {name}", raw_output(flags=1, body=span(41), data=b"x"), inside),
        wrong(f"a context that {name}", raw_output(flags=2, context=span(41), data=b"x"), inside),
    ]
refused.append(wrong("a removal whose empty value is outside",
                     raw_output([(2, 60, 1, 62, 0)], data=b"x"), "a span lies inside its frame"))
token = "a name is a token"
refused.append(wrong("an empty name", raw_output([(0, 60, 0, 60, 1)], data=b"x"), token))
for byte in b'\0\t\n\r "(),/:;<=>?@[\\]{}\x7f\x80\xc3\xff':
    refused.append(wrong(f"byte {byte:#04x} in a name",
                         frame_of(ops=[("set", b"x" + bytes([byte]) + b"y", b"v")]), token))
refused.append(wrong("the name of a removal is no token",
                     frame_of(ops=[("remove", b"x y", b"")]), token))
for byte in [*range(9), *range(10, 32), 127]:
    refused.append(wrong(f"byte {byte:#04x} in a value",
                         frame_of(ops=[("append", b"x", b"a" + bytes([byte]) + b"b")]),
                         "a value holds no control character but the tab"))
refused.append(wrong("a line feed at the end of a value",
                     frame_of(ops=[("set", b"x", b"a\n")]),
                     "a value holds no control character but the tab"))

tables = {"inputs": inputs, "other_inputs": other_inputs, "refused_inputs": refused_inputs,
          "outputs": outputs, "refused": refused}
lines = []
for table, entries in tables.items():
    assert len({e["name"] for e in entries}) == len(entries), table
    rows = ",\n".join(json.dumps(e, separators=(",", ":"), ensure_ascii=False) for e in entries)
    lines.append(f'"{table}":[\n{rows}\n]')
path = pathlib.Path(__file__).with_name("frame.json")
path.write_text("{" + ",\n".join(lines) + "}\n", encoding="utf-8")
