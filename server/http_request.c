/* Finding a head and reading it. llhttp does the grammar; what it lets pass in one version or another is checked here,
 * so that 8.1 (Debian 12) and 9.x (Debian 13, Alpine) answer alike. */
#include "server/http_request.h"

#include <llhttp.h>
#include <string.h>

#define EMPTY_BYTES_MAX 16 /* of empty lines before a request */

/* --- the end of the head ----------------------------------------------------------------------------------------- */

static unsigned refuse(unsigned status, const char *text, const char **why)
{
    *why = text;
    return status;
}

static unsigned check_request_line(const char *line, size_t len, const char **why)
{
    const char *target = memchr(line, ' ', len);
    const char *end = target != NULL ? memchr(target + 1, ' ', len - (size_t)(target + 1 - line)) : NULL;
    size_t target_bytes = target == NULL ? 0 : (size_t)((end != NULL ? end : line + len) - target) - 1;
    return target_bytes > HTTP_TARGET_MAX ? refuse(414, "request target over 2048 bytes", why) : 200;
}

/* Up to the end of the request line. Returns 0 where more is needed, 200 behind it. */
static unsigned scan_request_line(struct http_scan *scan, const char *bytes, size_t n, const char **why)
{
    while (scan->headers_start == 0 && scan->looked < n) {
        const char *newline = memchr(bytes + scan->looked, '\n', n - scan->looked);
        const char *line = bytes + scan->start;
        size_t end = newline != NULL ? (size_t)(newline - bytes) : n;
        if ((*line < 'A' || *line > 'Z') && *line != '\r') {
            return refuse(400, "not HTTP: a request begins with a method in capitals", why);
        }
        if (end - scan->start > HTTP_LINE_MAX) {
            return refuse(414, "request target over 2048 bytes", why);
        }
        scan->looked = end;
        if (newline == NULL) {
            return 0;
        }
        if (newline == line || newline[-1] != '\r') {
            return refuse(400, "line ends without a carriage return", why);
        }
        scan->looked = end + 1;
        if (newline - 1 > line) {
            scan->headers_start = scan->line_start = end + 1;
            return check_request_line(line, (size_t)(newline - 1 - line), why);
        }
        scan->start = end + 1; /* empty lines before a request are passed over (RFC 9112, 2.2) */
        if (scan->start > EMPTY_BYTES_MAX) {
            return refuse(400, "empty lines instead of a request", why);
        }
    }
    return scan->headers_start != 0 ? 200 : 0;
}

/* Up to the empty line that ends the head. Returns 0 where more is needed, 200 behind it. */
static unsigned scan_headers(struct http_scan *scan, const char *bytes, size_t n, const char **why)
{
    const char *looked = bytes + scan->looked, *line = bytes + scan->line_start, *end = bytes + n;
    const char *last = bytes + scan->headers_start + HTTP_HEADERS_MAX;
    while (looked < end) {
        const char *newline = memchr(looked, '\n', (size_t)(end - looked));
        looked = newline != NULL ? newline + 1 : end;
        if (looked > last) {
            return refuse(431, "header block over 8192 bytes", why);
        }
        if (newline == NULL) {
            break;
        }
        if (newline[-1] != '\r') {
            return refuse(400, "line ends without a carriage return", why);
        }
        if (newline - 1 == line) {
            scan->looked = (size_t)(looked - bytes);
            return 200;
        }
        if (*line == ' ' || *line == '\t') {
            return refuse(400, "folded header line", why);
        }
        if (*line == ':') {
            return refuse(400, "header without a name", why);
        }
        line = looked;
    }
    scan->looked = n;
    scan->line_start = (size_t)(line - bytes);
    return 0;
}

/* Every check is made where the bytes before it are all that is known, so the answer does not depend on how they
 * arrive. */
unsigned http_request_scan(struct http_scan *scan, const char *bytes, size_t n, size_t *head_bytes, const char **why)
{
    unsigned status = scan_request_line(scan, bytes, n, why);
    if (status == 200) {
        status = scan_headers(scan, bytes, n, why);
    }
    *head_bytes = status == 200 ? scan->looked : 0;
    return status;
}

/* --- what it says ------------------------------------------------------------------------------------------------ */

struct parse {
    struct http_request *request;
    struct slice target;
    bool complete;
    bool keep_alive;
    bool too_many;
};

static int on_url(llhttp_t *parser, const char *at, size_t n)
{
    struct parse *parse = parser->data;
    parse->target = (struct slice){ at, n };
    return 0;
}

static int on_header_field(llhttp_t *parser, const char *at, size_t n)
{
    struct parse *parse = parser->data;
    if (parse->request->header_count == HTTP_HEADER_COUNT_MAX) {
        parse->too_many = true;
        return -1;
    }
    struct header *header = &parse->request->headers[parse->request->header_count++];
    header->name = (struct slice){ at, n };
    header->value = (struct slice){ "", 0 };
    return 0;
}

static int on_header_value(llhttp_t *parser, const char *at, size_t n)
{
    struct parse *parse = parser->data;
    struct header *header = &parse->request->headers[parse->request->header_count - 1];
    header->value = slice_trim((struct slice){ at, n });
    return 0;
}

static int on_message_complete(llhttp_t *parser)
{
    struct parse *parse = parser->data;
    parse->complete = true;
    parse->keep_alive = llhttp_should_keep_alive(parser) != 0;
    return HPE_PAUSED;
}

static const llhttp_settings_t *parser_settings(void)
{
    static llhttp_settings_t settings;
    if (settings.on_url == NULL) {
        llhttp_settings_init(&settings);
        settings.on_header_field = on_header_field;
        settings.on_header_value = on_header_value;
        settings.on_message_complete = on_message_complete;
        settings.on_url = on_url;
    }
    return &settings;
}

static int hex_digit(char c)
{
    uint8_t byte;
    char two[2] = { '0', c };
    return hex_decode((struct slice){ two, 2 }, &byte, 1) ? byte : -1;
}

/* Percent-decodes into `to`, of at least from.len + 1 bytes. Returns false on a bad escape or a NUL. */
static bool percent_decode(struct slice from, bool plus_is_blank, char *to, size_t *n)
{
    size_t used = 0;
    for (size_t i = 0; i < from.len; i++) {
        char c = plus_is_blank && from.at[i] == '+' ? ' ' : from.at[i];
        if (c == '%') {
            int high = i + 2 < from.len ? hex_digit(from.at[i + 1]) : -1;
            int low = i + 2 < from.len ? hex_digit(from.at[i + 2]) : -1;
            if (high < 0 || low < 0) {
                return false;
            }
            c = (char)(high << 4 | low);
            i += 2;
        }
        if (c == '\0') {
            return false;
        }
        to[used++] = c;
    }
    to[used] = '\0';
    *n = used;
    return true;
}

/* The path of the target into request->path_bytes, and where the query lies. Returns false on a bad escape or a NUL. */
static bool decode_target(struct slice target, struct http_request *request)
{
    const char *fragment = memchr(target.at, '#', target.len);
    target.len = fragment != NULL ? (size_t)(fragment - target.at) : target.len;
    const char *mark = memchr(target.at, '?', target.len);
    size_t path_len = mark != NULL ? (size_t)(mark - target.at) : target.len;
    if (mark != NULL) {
        request->query = (struct slice){ mark + 1, target.len - path_len - 1 };
    }
    request->path.at = request->path_bytes;
    return percent_decode((struct slice){ target.at, path_len }, false, request->path_bytes, &request->path.len);
}

bool http_query_next(struct slice *query, struct http_parameter *parameter, bool *good)
{
    *good = true;
    while (query->len > 0 && query->at[0] == '&') {
        query->at++;
        query->len--;
    }
    if (query->len == 0) {
        return false;
    }
    const char *end = memchr(query->at, '&', query->len);
    struct slice pair = { query->at, end != NULL ? (size_t)(end - query->at) : query->len };
    query->at += pair.len;
    query->len -= pair.len;
    const char *equals = memchr(pair.at, '=', pair.len);
    struct slice name = { pair.at, equals != NULL ? (size_t)(equals - pair.at) : pair.len };
    struct slice value = { pair.at + name.len + (equals != NULL), pair.len - name.len - (equals != NULL) };
    size_t n;
    *good = name.len <= HTTP_PARAMETER_MAX && value.len <= HTTP_PARAMETER_MAX &&
            percent_decode(name, true, parameter->name, &n) && percent_decode(value, true, parameter->value, &n);
    return *good;
}

/* `http://host/path` as clients of proxies send it, which every server has to take (RFC 9112, 3.2.2). */
static struct slice without_authority(struct slice target)
{
    static const char scheme[] = "http://";
    size_t n = sizeof scheme - 1;
    if (target.len <= n || !slice_is_nocase((struct slice){ target.at, n }, scheme)) {
        return target;
    }
    const char *slash = memchr(target.at + n, '/', target.len - n);
    return slash == NULL ? slice_of("/") : (struct slice){ slash, (size_t)(target.at + target.len - slash) };
}

/* The headers that mean something to HTTP itself. Returns 200 or a refusal. */
static unsigned read_known_headers(struct http_request *request, const char **why)
{
    unsigned hosts = 0;
    for (size_t i = 0; i < request->header_count; i++) {
        const struct header *header = &request->headers[i];
        uint64_t length = 0;
        if (header->name.at[0] == 'x' || header->name.at[0] == 'X') {
            continue; /* none of HTTP's own: with these the updaters say nearly all that they say */
        }
        if (slice_is_nocase(header->name, "Host")) {
            hosts++;
        } else if (slice_is_nocase(header->name, "If-None-Match")) {
            request->if_none_match = header->value;
        } else if (slice_is_nocase(header->name, "If-Range")) {
            request->if_range = header->value;
        } else if (slice_is_nocase(header->name, "Range")) {
            request->range = header->value;
        } else if (slice_is_nocase(header->name, "Content-Length")) {
            request->has_body = !number_parse(header->value, UINT64_MAX, &length) || length > 0;
            request->body_bytes = length;
        } else if (slice_is_nocase(header->name, "Transfer-Encoding")) {
            if (request->minor_version == 0 || !slice_is_nocase(header->value, "chunked")) {
                return refuse(400, "Transfer-Encoding other than chunked, or on HTTP/1.0", why);
            }
            request->has_body = true;
            request->chunked = true;
        } else if (slice_is_nocase(header->name, "Expect")) {
            request->expects_continue = request->minor_version == 1 && slice_is_nocase(header->value, "100-continue");
        }
    }
    if (hosts > 1 || (hosts == 0 && request->minor_version == 1)) {
        return refuse(400, "HTTP/1.1 needs exactly one Host header", why);
    }
    return 200;
}

/* llhttp takes `GET / RTSP/1.0` too. */
static bool is_http(const char *end, struct slice target)
{
    const char *behind = target.at + target.len;
    return target.at != NULL &&
           slice_starts_with(slice_trim((struct slice){ behind, (size_t)(end - behind) }), "HTTP/");
}

unsigned http_request_parse(const char *head, size_t n, struct http_request *request, const char **why)
{
    struct parse parse = { .request = request };
    llhttp_t parser;
    memset(request, 0, offsetof(struct http_request, headers));
    llhttp_init(&parser, HTTP_REQUEST, parser_settings());
    parser.data = &parse;
    enum llhttp_errno error = llhttp_execute(&parser, head, n);
    const char *blank = memchr(head, ' ', n);
    request->method = (struct slice){ head, blank != NULL ? (size_t)(blank - head) : 0 };
    request->minor_version = llhttp_get_http_minor(&parser);
    if (parse.too_many) {
        return refuse(431, "more than 64 headers", why);
    }
    /* A head whose body is still to come ends without completion and without an error. Of foreign versions llhttp lets
     * 2.0 and 0.9 pass and stops at others. */
    bool is_foreign =
        error == HPE_INVALID_VERSION && (llhttp_get_http_major(&parser) != 1 || request->minor_version > 1);
    if (!parse.complete && error != HPE_OK && !is_foreign) {
        return refuse(400, "malformed request", why);
    }
    if (llhttp_get_http_major(&parser) != 1 || request->minor_version > 1 || !is_http(head + n, parse.target)) {
        return refuse(505, "HTTP/1.0 and HTTP/1.1 are spoken here", why);
    }
    if (parse.target.len > HTTP_TARGET_MAX) {
        return refuse(414, "request target over 2048 bytes", why);
    }
    request->head_only = slice_is(request->method, "HEAD");
    request->get = request->head_only || slice_is(request->method, "GET");
    request->keep_alive = parse.complete ? parse.keep_alive : llhttp_should_keep_alive(&parser) != 0;
    struct slice target = without_authority(parse.target);
    if (target.len == 0 || (target.at[0] != '/' && request->get) || !decode_target(target, request)) {
        return refuse(400, "the request target is not a path", why);
    }
    return read_known_headers(request, why);
}

struct slice http_request_header(const struct http_request *request, const char *name)
{
    for (size_t i = 0; i < request->header_count; i++) {
        if (slice_is_nocase(request->headers[i].name, name)) {
            return request->headers[i].value;
        }
    }
    return (struct slice){ NULL, 0 };
}
