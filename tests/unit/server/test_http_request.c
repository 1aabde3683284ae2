/* A request's head: where it ends, however it arrives; what it may be; and what is refused before anything believes it.
 *
 * The hard thing is what two programs on one way could read differently: where a line, a name or a body ends.
 */
#include "server/http_request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])
/* With the NULs in it. */
/* clang-format off */
#define BYTES(literal) { literal, sizeof(literal) - 1 }
/* clang-format on */

/* --- scanning, at once and byte by byte -------------------------------------------------------------------------- */

struct scanned {
    unsigned status;
    size_t start, head_bytes;
    const char *why;
};

static struct scanned scan_once(struct slice bytes)
{
    struct http_scan scan = { 0 };
    struct scanned got = { .head_bytes = 4711, .why = "" };
    got.status = http_request_scan(&scan, bytes.at, bytes.len, &got.head_bytes, &got.why);
    got.start = scan.start;
    return got;
}

static struct scanned scan_bytewise(struct slice bytes, size_t step)
{
    struct http_scan scan = { 0 };
    struct scanned got = { .head_bytes = 4711, .why = "" };
    for (size_t n = 0; n < bytes.len && got.status == 0;) {
        n = n + step < bytes.len ? n + step : bytes.len;
        got.status = http_request_scan(&scan, bytes.at, n, &got.head_bytes, &got.why);
    }
    got.start = scan.start;
    return got;
}

/* Scans in every way; all must agree. */
static struct scanned scan(struct slice bytes)
{
    struct scanned once = scan_once(bytes);
    for (size_t step = 1; step <= 17; step += 8) {
        struct scanned pieces = scan_bytewise(bytes, step);
        if (pieces.status != once.status || strcmp(pieces.why, once.why) != 0) {
            fail_msg("%.60s: at once %u %s, in pieces of %zu %u %s", bytes.at, once.status, once.why, step,
                     pieces.status, pieces.why);
        }
        assert_true(once.status != 200 || (pieces.head_bytes == once.head_bytes && pieces.start == once.start));
    }
    return once;
}

static const struct {
    const char *what;
    struct slice bytes;
    unsigned status;
    size_t head_bytes;
} scans[] = {
    { "nothing", BYTES(""), 0, 0 },
    { "a method under way", BYTES("GE"), 0, 0 },
    { "a line under way", BYTES("GET / HTTP/1.0\r"), 0, 0 },
    { "no blank line yet", BYTES("GET / HTTP/1.0\r\nHost: a\r\n"), 0, 0 },
    { "half a blank line", BYTES("GET / HTTP/1.0\r\nHost: a\r\n\r"), 0, 0 },
    { "a head", BYTES("GET / HTTP/1.0\r\n\r\n"), 200, 18 },
    { "a head and the next one", BYTES("GET / HTTP/1.0\r\n\r\nGET /b HTTP/1.0\r\n\r\n"), 200, 18 },
    { "empty lines before it", BYTES("\r\n\r\nGET / HTTP/1.0\r\n\r\n"), 200, 22 },
    { "an empty line alone", BYTES("\r\n"), 0, 0 },
    { "empty lines for ever", BYTES("\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n"), 400, 0 },
    { "a bare line feed", BYTES("GET / HTTP/1.0\n\n"), 400, 0 },
    { "a bare line feed behind a header", BYTES("GET / HTTP/1.0\r\nHost: a\n\r\n"), 400, 0 },
    { "a bare line feed for a blank line", BYTES("GET / HTTP/1.0\r\nHost: a\r\n\n"), 400, 0 },
    { "a line feed first", BYTES("\nGET / HTTP/1.0\r\n\r\n"), 400, 0 },
    { "a folded header", BYTES("GET / HTTP/1.0\r\nHost: a\r\n b\r\n\r\n"), 400, 0 },
    { "a header folded by a tab", BYTES("GET / HTTP/1.0\r\nHost: a\r\n\tb\r\n\r\n"), 400, 0 },
    { "a header without a name", BYTES("GET / HTTP/1.0\r\n: a\r\n\r\n"), 400, 0 },
    { "a method in small letters", BYTES("get / HTTP/1.0\r\n\r\n"), 400, 0 },
    { "TLS on the plain port", BYTES("\x16\x03\x01\x02\x00"), 400, 0 },
    { "a NUL", BYTES("\0"), 400, 0 },
};

/* Else what a head is would depend on how the network cut it. */
static void test_scans(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(scans); i++) {
        struct scanned got = scan(scans[i].bytes);
        if (got.status != scans[i].status || (got.status == 200 && got.head_bytes != scans[i].head_bytes)) {
            fail_msg("%s: %u \"%s\", %zu bytes", scans[i].what, got.status, got.why, got.head_bytes);
        }
        assert_true((got.status >= 400) == (got.why[0] != '\0'));
    }
}

/* --- limits ------------------------------------------------------------------------------------------------------ */

static char text[40000];
static size_t text_used;

static void begin(void)
{
    text_used = 0;
}

static void append(const char *piece)
{
    size_t n = strlen(piece);
    assert_true(text_used + n < sizeof text);
    memcpy(text + text_used, piece, n);
    text_used += n;
}

static void fill(char c, size_t n)
{
    assert_true(text_used + n < sizeof text);
    memset(text + text_used, c, n);
    text_used += n;
}

static struct slice so_far(void)
{
    return (struct slice){ text, text_used };
}

static void request_with_target(size_t target_bytes)
{
    begin();
    append("GET /");
    fill('a', target_bytes - 1);
    append(" HTTP/1.0\r\n");
}

/* Else a long address would be refused that is allowed, or take more memory than was meant. */
static void test_target_limit(void **state)
{
    (void)state;
    request_with_target(HTTP_TARGET_MAX);
    append("\r\n");
    assert_int_equal(scan(so_far()).status, 200);
    request_with_target(HTTP_TARGET_MAX + 1);
    append("\r\n");
    assert_int_equal(scan(so_far()).status, 414);
    begin();
    append("GET /");
    fill('a', HTTP_LINE_MAX); /* and no end in sight */
    assert_int_equal(scan(so_far()).status, 414);
    begin();
    fill('A', HTTP_LINE_MAX); /* not even a target */
    assert_int_equal(scan(so_far()).status, 0);
    fill('A', 1);
    assert_int_equal(scan(so_far()).status, 414);
}

/* A header block of exactly `bytes`, the blank line included. */
static void header_block(size_t bytes, bool blank_line)
{
    append("A: ");
    fill('b', bytes - strlen("A: \r\n\r\n"));
    append(blank_line ? "\r\n\r\n" : "\r\n");
}

static void test_header_limit(void **state)
{
    (void)state;
    for (size_t target = 10; target <= HTTP_TARGET_MAX; target += HTTP_TARGET_MAX - 10) {
        request_with_target(target); /* the two limits do not share */
        header_block(HTTP_HEADERS_MAX, true);
        struct scanned most = scan(so_far());
        assert_int_equal(most.status, 200);
        assert_true(most.head_bytes == text_used && text_used <= HTTP_HEAD_MAX);
        request_with_target(target);
        header_block(HTTP_HEADERS_MAX + 1, true);
        assert_int_equal(scan(so_far()).status, 431);
    }
    request_with_target(10);
    header_block(HTTP_HEADERS_MAX + 2, false);
    assert_int_equal(scan(so_far()).status, 0); /* all of them are there, but the end may still come: it cannot fit */
    append("\r");
    assert_int_equal(scan(so_far()).status, 431);
    request_with_target(10);
    append("A: ");
    fill('b', 30000); /* one line that never ends */
    assert_int_equal(scan(so_far()).status, 431);
}

/* Of two mistakes the first counts, else the answer would depend on how the bytes arrived. */
static void test_first_mistake_counts(void **state)
{
    (void)state;
    request_with_target(10);
    fill('A', 1);
    append(": ");
    fill('b', HTTP_HEADERS_MAX);
    append("\r\n folded\r\n\r\n");
    assert_int_equal(scan(so_far()).status, 431);
    request_with_target(10);
    append(" folded\r\nA: ");
    fill('b', HTTP_HEADERS_MAX);
    append("\r\n\r\n");
    assert_int_equal(scan(so_far()).status, 400);
}

/* --- parsing ----------------------------------------------------------------------------------------------------- */

static struct http_request request; /* large, and the server has one of its own too */

static unsigned parse(struct slice head, const char **why)
{
    *why = "";
    memset(&request, 0x5a, sizeof request); /* what was there before says nothing */
    return http_request_parse(head.at, head.len, &request, why);
}

/* Parses a head and its headers; the request line ends the first piece. */
static unsigned parse_text(const char *head)
{
    const char *why;
    struct scanned got = scan_once(slice_of(head));
    if (got.status != 200) {
        return got.status;
    }
    return parse((struct slice){ head + got.start, got.head_bytes - got.start }, &why);
}

static void test_a_device_s_request(void **state)
{
    (void)state;
    static const char head[] = "GET /update/d1_mini?x=1 HTTP/1.0\r\n"
                               "Host: 192.168.1.10:8080\r\n"
                               "User-Agent: ESP8266-http-Update\r\n"
                               "Connection: close\r\n"
                               "x-ESP8266-STA-MAC: \t 5C:CF:7F:B1:E0:42 \t\r\n"
                               "x-ESP8266-version:\r\n"
                               "x-ESP8266-mode:sketch\r\n"
                               "Content-Length: 0\r\n\r\n";
    assert_int_equal(parse_text(head), 200);
    assert_true(request.get && !request.head_only && !request.has_body && !request.keep_alive);
    assert_int_equal(request.minor_version, 0);
    assert_true(slice_is(request.method, "GET"));
    assert_true(slice_is(request.path, "/update/d1_mini"));
    assert_int_equal(request.header_count, 7);
    assert_true(slice_is(request.headers[0].name, "Host"));
    assert_true(slice_is(http_request_header(&request, "x-esp8266-sta-mac"), "5C:CF:7F:B1:E0:42")); /* trimmed */
    assert_true(slice_is(http_request_header(&request, "x-ESP8266-mode"), "sketch"));
    assert_true(slice_is(http_request_header(&request, "x-ESP8266-version"), "")); /* there, and empty */
    assert_null(http_request_header(&request, "x-ESP8266-free-space").at);
    assert_null(request.range.at);
    assert_null(request.if_none_match.at);
    assert_null(request.if_range.at);
}

static void test_known_headers(void **state)
{
    (void)state;
    assert_int_equal(parse_text("HEAD /fw.bin HTTP/1.1\r\nhost: a\r\nRANGE: bytes=0-\r\nif-none-match: \"x\"\r\n"
                                "If-Range: \"y\"\r\n\r\n"),
                     200);
    assert_true(request.get && request.head_only);
    assert_true(slice_is(request.range, "bytes=0-"));
    assert_true(slice_is(request.if_none_match, "\"x\""));
    assert_true(slice_is(request.if_range, "\"y\""));
    assert_int_equal(parse_text("POST /update HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"), 200);
    assert_true(!request.get && request.has_body && !request.chunked);
    assert_int_equal(parse_text("POST /update HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"), 200);
    assert_true(request.has_body && request.chunked && request.body_bytes == 0);
    assert_int_equal(parse_text("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), 200);
    assert_true(!request.get && slice_is(request.method, "OPTIONS"));
}

static const struct {
    const char *version, *connection;
    bool keep_alive;
} connections[] = {
    { "1.0", NULL, false },        { "1.0", "close", false }, { "1.0", "keep-alive", true },
    { "1.0", "Keep-Alive", true }, { "1.1", NULL, true },     { "1.1", "keep-alive", true },
    { "1.1", "close", false },     { "1.1", "Close", false }, { "1.1", "keep-alive, close", false },
    { "1.1", "x, close", false },  { "1.1", "TE", true },
};

/* Else a client of 1.0 would wait for an end that does not come, or one of 1.1 lose its connection. */
static void test_keep_alive(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(connections); i++) {
        char head[200];
        snprintf(head, sizeof head, "GET / HTTP/%s\r\nHost: a\r\n%s%s%s\r\n", connections[i].version,
                 connections[i].connection != NULL ? "Connection: " : "",
                 connections[i].connection != NULL ? connections[i].connection : "",
                 connections[i].connection != NULL ? "\r\n" : "");
        assert_int_equal(parse_text(head), 200);
        if (request.keep_alive != connections[i].keep_alive) {
            fail_msg("HTTP/%s, Connection: %s", connections[i].version, connections[i].connection);
        }
    }
}

static const struct {
    const char *version, *headers;
    bool has_body, keep_alive, expects_continue;
    uint64_t body_bytes;
} bodies[] = {
    { "1.1", "Content-Length: 5\r\n", true, true, false, 5 },
    { "1.1", "Content-Length: 0\r\n", false, true, false, 0 },
    { "1.1", "Content-Length: 00\r\n", false, true, false, 0 },
    { "1.1", "", false, true, false, 0 },
    { "1.1", "Content-Length: 5\r\nConnection: close\r\n", true, false, false, 5 },
    { "1.0", "Content-Length: 5\r\n", true, false, false, 5 },
    { "1.0", "Content-Length: 5\r\nConnection: keep-alive\r\n", true, true, false, 5 },
    { "1.1", "Content-Length: 18446744073709551615\r\n", true, true, false, UINT64_MAX },
    { "1.1", "Content-Length: 5\r\nExpect: 100-Continue\r\n", true, true, true, 5 },
    { "1.0", "Content-Length: 5\r\nExpect: 100-continue\r\n", true, false, false, 5 }, /* 1.0 knows no such answer */
    { "1.1", "Content-Length: 5\r\nExpect: tea\r\n", true, true, false, 5 },
};

/* Else who takes bodies would wait for bytes that do not come, take the next request for one, or lose the connection
 * behind each. */
static void test_announced_bodies(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(bodies); i++) {
        char head[300];
        snprintf(head, sizeof head, "POST / HTTP/%s\r\nHost: a\r\n%s\r\n", bodies[i].version, bodies[i].headers);
        assert_int_equal(parse_text(head), 200);
        if (request.has_body != bodies[i].has_body || request.keep_alive != bodies[i].keep_alive ||
            request.expects_continue != bodies[i].expects_continue || request.body_bytes != bodies[i].body_bytes ||
            request.chunked || request.body.at != NULL) {
            fail_msg("HTTP/%s, %s", bodies[i].version, bodies[i].headers);
        }
    }
}

/* --- queries ------------------------------------------------------------------------------------------------------ */

static const struct {
    const char *target, *query; /* NULL: there is none */
} queries[] = {
    { "/a", NULL },      { "/a?", "" },       { "/a?b=c", "b=c" },     { "/a?b=c#d", "b=c" },
    { "/a#b?c", NULL },  { "/a?b?c", "b?c" }, { "/a?b=%zz", "b=%zz" }, { "http://h/a?b=c", "b=c" },
    { "/a%3Fb?c", "c" },
};

static void test_queries_are_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(queries); i++) {
        char head[200];
        snprintf(head, sizeof head, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", queries[i].target);
        assert_int_equal(parse_text(head), 200);
        bool same = queries[i].query == NULL ? request.query.at == NULL
                                             : request.query.at != NULL && slice_is(request.query, queries[i].query);
        if (!same) {
            fail_msg("%s: %.*s", queries[i].target, (int)request.query.len, request.query.at);
        }
    }
}

/* All pairs, as "name:value;"; "!" at the end where one cannot be read. */
static const char *pairs_of(const char *query)
{
    static char pairs[2000];
    struct slice rest = slice_of(query);
    struct http_parameter parameter;
    bool good = false;
    pairs[0] = '\0';
    while (http_query_next(&rest, &parameter, &good)) {
        assert_true(good);
        snprintf(pairs + strlen(pairs), sizeof pairs - strlen(pairs), "%s:%s;", parameter.name, parameter.value);
    }
    return good ? pairs : strcat(pairs, "!");
}

static void test_pairs(void **state)
{
    (void)state;
    static const struct {
        const char *query, *pairs;
    } rows[] = {
        { "", "" },
        { "a=b", "a:b;" },
        { "a=b&c=d", "a:b;c:d;" },
        { "&&a=b&&c=d&", "a:b;c:d;" },
        { "a", "a:;" },
        { "a=", "a:;" },
        { "=b", ":b;" },
        { "a=b=c", "a:b=c;" },
        { "a+b=c+d", "a b:c d;" },
        { "a%2Bb=c%26d", "a+b:c&d;" },
        { "%61=%e4%F6", "a:\xe4\xf6;" },
        { "a=%", "!" },
        { "a=%4", "!" },
        { "a=%4g", "!" },
        { "a=%00", "!" },
        { "x=y&a%=b", "x:y;!" },
        { "a=%2500", "a:%00;" }, /* decoded once */
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        if (strcmp(pairs_of(rows[i].query), rows[i].pairs) != 0) {
            fail_msg("%s: %s", rows[i].query, pairs_of(rows[i].query));
        }
    }
}

/* A piece longer than its room is refused, not cut: half a name may be another's. */
static void test_longest_pair(void **state)
{
    (void)state;
    for (size_t n = HTTP_PARAMETER_MAX; n <= HTTP_PARAMETER_MAX + 1; n++) {
        for (int is_value = 0; is_value <= 1; is_value++) {
            struct http_parameter parameter;
            bool good;
            begin();
            append(is_value ? "a=" : "");
            fill('b', n);
            struct slice rest = so_far();
            bool found = http_query_next(&rest, &parameter, &good);
            assert_true(found == (n == HTTP_PARAMETER_MAX) && good == found);
            assert_true(!found || strlen(is_value ? parameter.value : parameter.name) == n);
        }
    }
}

static const struct {
    const char *target, *path; /* NULL: refused */
} targets[] = {
    { "/", "/" },
    { "/update/d1_mini", "/update/d1_mini" },
    { "/update/d1%5Fmini", "/update/d1_mini" },
    { "/firmware/a%20b.bin", "/firmware/a b.bin" },
    { "/%c3%A4.bin", "/\xc3\xa4.bin" },
    { "/a?b=%zz", "/a" }, /* the query is read by whoever wants one */
    { "/a?", "/a" },
    { "/a%3Fb", "/a?b" },
    { "/a+b", "/a+b" },
    { "//a/../b", "//a/../b" }, /* nothing is opened by a path: nothing is resolved */
    { "/%", NULL },
    { "/%4", NULL },
    { "/a%4", NULL },
    { "/%4?1", NULL },
    { "/%zz", NULL },
    { "/%+1", NULL },
    { "/%0x1", NULL },
    { "/a%00b", NULL },
    { "/%2500", "/%00" },     /* decoded once */
    { "http://a/b?c", "/b" }, /* the absolute form */
    { "HTTP://a", "/" },
    { "https://a/b", NULL }, /* no proxy for other schemes */
    { "*", NULL },
    { "a", NULL },
};

static void test_targets(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(targets); i++) {
        char head[200];
        snprintf(head, sizeof head, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", targets[i].target);
        unsigned status = parse_text(head);
        if (status != (targets[i].path != NULL ? 200 : 400) ||
            (status == 200 && (!slice_is(request.path, targets[i].path) || request.path.at != request.path_bytes))) {
            fail_msg("%s: %u, %.*s", targets[i].target, status, (int)request.path.len, request.path.at);
        }
    }
}

/* Else the largest address that the scan lets pass would not fit where it is decoded to. */
static void test_longest_target(void **state)
{
    (void)state;
    const char *why;
    request_with_target(HTTP_TARGET_MAX);
    append("\r\n");
    assert_int_equal(parse(so_far(), &why), 200);
    assert_int_equal(request.path.len, HTTP_TARGET_MAX);
    assert_int_equal(request.path_bytes[HTTP_TARGET_MAX], '\0');
    request_with_target(HTTP_TARGET_MAX + 1); /* a scan would have refused it */
    append("\r\n");
    assert_int_equal(parse(so_far(), &why), 414);
}

static void test_header_count(void **state)
{
    (void)state;
    for (size_t extra = 0; extra <= 1; extra++) {
        const char *why;
        begin();
        append("GET / HTTP/1.0\r\n");
        for (size_t i = 0; i < HTTP_HEADER_COUNT_MAX + extra; i++) {
            append("A: b\r\n");
        }
        append("\r\n");
        assert_int_equal(parse(so_far(), &why), extra == 0 ? 200 : 431);
        assert_int_equal(request.header_count, HTTP_HEADER_COUNT_MAX);
    }
}

/* --- what two programs could read differently -------------------------------------------------------------------- */

static const struct {
    const char *what;
    struct slice head;
    unsigned status;
} smuggling[] = {
    { "two lengths", BYTES("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"), 400 },
    { "one length twice", BYTES("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n"), 400 },
    { "a list of lengths", BYTES("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n"), 400 },
    { "a signed length", BYTES("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n"), 400 },
    { "a negative length", BYTES("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n"), 400 },
    { "a hexadecimal length", BYTES("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\n"), 400 },
    { "a length of 2^64", BYTES("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n"), 400 },
    { "a length and chunks",
      BYTES("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"), 400 },
    { "chunks and a length",
      BYTES("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"), 400 },
    { "chunks on HTTP/1.0", BYTES("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400 },
    { "an encoding before chunks", BYTES("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
      400 },
    { "chunks, then another encoding",
      BYTES("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n"), 400 },
    { "almost chunks", BYTES("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n"), 400 },
    { "chunks behind a form feed",
      BYTES("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0b"
            "chunked\r\n\r\n"),
      400 },
    { "a blank before the colon", BYTES("GET / HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\n"), 400 },
    { "a blank in a name", BYTES("GET / HTTP/1.1\r\nHost: a\r\nContent Length: 5\r\n\r\n"), 400 },
    { "a name of foreign bytes", BYTES("GET / HTTP/1.1\r\nHost: a\r\nA\x80: 5\r\n\r\n"), 400 },
    { "no colon", BYTES("GET / HTTP/1.1\r\nHost: a\r\nA\r\n\r\n"), 400 },
    { "a NUL in a value", BYTES("GET / HTTP/1.1\r\nHost: a\r\nA: b\0c\r\n\r\n"), 400 },
    { "a NUL in a name", BYTES("GET / HTTP/1.1\r\nHost: a\r\nA\0: b\r\n\r\n"), 400 },
    { "a carriage return in a value", BYTES("GET / HTTP/1.1\r\nHost: a\r\nA: b\rC: d\r\n\r\n"), 400 },
    { "a carriage return in the target", BYTES("GET /a\rb HTTP/1.1\r\nHost: a\r\n\r\n"), 400 },
    { "a NUL in the target", BYTES("GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n"), 400 },
    { "foreign bytes in the target", BYTES("GET /\xe4 HTTP/1.1\r\nHost: a\r\n\r\n"), 400 },
    { "a tab in the line", BYTES("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"), 400 },
    { "no Host", BYTES("GET / HTTP/1.1\r\n\r\n"), 400 },
    { "two Hosts", BYTES("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), 400 },
    { "two Hosts on HTTP/1.0", BYTES("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"), 400 },
    { "a method that is none", BYTES("GETT / HTTP/1.1\r\nHost: a\r\n\r\n"), 400 },
    { "a version that is none", BYTES("GET / HTTP/1.1x\r\nHost: a\r\n\r\n"), 400 },
    { "another protocol", BYTES("GET / RTSP/1.0\r\nHost: a\r\n\r\n"), 505 },
    { "no version", BYTES("GET /\r\nHost: a\r\n\r\n"), 505 },
    { "HTTP/2", BYTES("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), 505 },
};

/* Else a second request could hide in what another program takes for a body, or a name be two. */
static void test_ambiguous_shapes_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(smuggling); i++) {
        const char *why = "";
        struct scanned got = scan(smuggling[i].head);
        unsigned status = got.status == 200 ? parse(smuggling[i].head, &why) : got.status;
        if (status != smuggling[i].status) {
            fail_msg("%s: %u %s", smuggling[i].what, status, why);
        }
        assert_true(got.status != 200 || why[0] != '\0');
    }
}

/* An empty length is neither nothing nor a number: it must not pass for a request without a body. */
static void test_empty_length(void **state)
{
    (void)state;
    unsigned status = parse_text("GET / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n");
    assert_true(status == 400 || (status == 200 && request.has_body));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scans),
        cmocka_unit_test(test_target_limit),
        cmocka_unit_test(test_header_limit),
        cmocka_unit_test(test_first_mistake_counts),
        cmocka_unit_test(test_a_device_s_request),
        cmocka_unit_test(test_known_headers),
        cmocka_unit_test(test_keep_alive),
        cmocka_unit_test(test_announced_bodies),
        cmocka_unit_test(test_queries_are_found),
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_longest_pair),
        cmocka_unit_test(test_targets),
        cmocka_unit_test(test_longest_target),
        cmocka_unit_test(test_header_count),
        cmocka_unit_test(test_ambiguous_shapes_are_refused),
        cmocka_unit_test(test_empty_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
