/* Heads are put together from pieces by copying, without formatting: this runs for every answer. */
#include "server/http_reply.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const struct {
    unsigned status;
    const char *line;
} status_lines[] = {
    { 200, "HTTP/1.1 200 OK\r\n" },
    { 201, "HTTP/1.1 201 Created\r\n" },
    { 202, "HTTP/1.1 202 Accepted\r\n" },
    { 206, "HTTP/1.1 206 Partial Content\r\n" },
    { 304, "HTTP/1.1 304 Not Modified\r\n" },
    { 400, "HTTP/1.1 400 Bad Request\r\n" },
    { 401, "HTTP/1.1 401 Unauthorized\r\n" },
    { 403, "HTTP/1.1 403 Forbidden\r\n" },
    { 404, "HTTP/1.1 404 Not Found\r\n" },
    { 405, "HTTP/1.1 405 Method Not Allowed\r\n" },
    { 408, "HTTP/1.1 408 Request Timeout\r\n" },
    { 409, "HTTP/1.1 409 Conflict\r\n" },
    { 411, "HTTP/1.1 411 Length Required\r\n" },
    { 413, "HTTP/1.1 413 Content Too Large\r\n" },
    { 414, "HTTP/1.1 414 URI Too Long\r\n" },
    { 416, "HTTP/1.1 416 Range Not Satisfiable\r\n" },
    { 422, "HTTP/1.1 422 Unprocessable Content\r\n" },
    { 429, "HTTP/1.1 429 Too Many Requests\r\n" },
    { 431, "HTTP/1.1 431 Request Header Fields Too Large\r\n" },
    { 500, "HTTP/1.1 500 Internal Server Error\r\n" },
    { 503, "HTTP/1.1 503 Service Unavailable\r\n" },
    { 505, "HTTP/1.1 505 HTTP Version Not Supported\r\n" },
};

static const char *status_line(unsigned status)
{
    for (size_t i = 0; i < sizeof status_lines / sizeof status_lines[0]; i++) {
        if (status_lines[i].status == status) {
            return status_lines[i].line;
        }
    }
    assert(!"a status without a line");
    return "";
}

void http_answer_text(struct http_answer *answer, unsigned status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(answer->text, sizeof answer->text, format, args);
    va_end(args);
    answer->status = status;
    answer->image = NULL;
    answer->text_bytes = n < 0 ? 0 : (size_t)n < sizeof answer->text ? (size_t)n : sizeof answer->text - 1;
}

/* --- conditions and ranges ---------------------------------------------------------------------------------------- */

#define ETAG_SIZE 35 /* quotes, 32 digits, NUL */

static void image_etag(const struct image *image, char etag[ETAG_SIZE])
{
    etag[0] = '"';
    hex_encode(image->build.facts.md5, 16, etag + 1);
    memcpy(etag + 33, "\"", 2);
}

/* Whether a list of entity tags has ours; a weak mark says nothing against equality here (RFC 9110, 13.1.2). */
static bool matches_etag(struct slice list, const char *etag)
{
    while (list.len > 0) {
        const char *comma = memchr(list.at, ',', list.len);
        struct slice tag = { list.at, comma != NULL ? (size_t)(comma - list.at) : list.len };
        list.at += tag.len + (comma != NULL);
        list.len -= tag.len + (comma != NULL);
        tag = slice_trim(tag);
        if (slice_starts_with(tag, "W/")) {
            tag.at += 2;
            tag.len -= 2;
        }
        if (slice_is(tag, "*") || slice_is(tag, etag)) {
            return true;
        }
    }
    return false;
}

enum range { RANGE_NONE, RANGE_PART, RANGE_UNSATISFIABLE };

/* One range of bytes. Several at once, other units and nonsense count as no Range (RFC 9110, 14.2 allows to ignore it).
 * An end behind the last byte is cut: esp_https_ota asks one byte too far when it resumes. */
static enum range read_range(struct slice value, uint64_t size, uint64_t *first, uint64_t *length)
{
    uint64_t from = 0, to = 0;
    if (!slice_starts_with(value, "bytes=") || memchr(value.at, ',', value.len) != NULL) {
        return RANGE_NONE;
    }
    struct slice spec = { value.at + 6, value.len - 6 };
    const char *dash = memchr(spec.at, '-', spec.len);
    if (dash == NULL) {
        return RANGE_NONE;
    }
    struct slice left = slice_trim((struct slice){ spec.at, (size_t)(dash - spec.at) });
    struct slice right = slice_trim((struct slice){ dash + 1, (size_t)(spec.at + spec.len - dash) - 1 });
    bool has_left = number_parse(left, UINT64_MAX, &from);
    bool has_right = number_parse(right, UINT64_MAX, &to);
    if ((left.len > 0 && !has_left) || (right.len > 0 && !has_right) || (!has_left && !has_right) ||
        (has_left && has_right && to < from)) {
        return RANGE_NONE;
    }
    if (!has_left) { /* the last `to` bytes */
        from = to < size ? size - to : 0;
        if (to == 0) {
            return RANGE_UNSATISFIABLE;
        }
        to = size - 1;
    }
    if (from >= size) {
        return RANGE_UNSATISFIABLE;
    }
    to = has_right || !has_left ? to : size - 1;
    *first = from;
    *length = (to < size ? to : size - 1) - from + 1;
    return RANGE_PART;
}

void http_answer_image(struct http_answer *answer, struct image *image, const struct http_request *request)
{
    char etag[ETAG_SIZE];
    uint64_t size = image->build.facts.file_bytes;
    image_etag(image, etag);
    answer->status = 200;
    answer->image = image;
    answer->first = 0;
    answer->length = size;
    if (request->if_none_match.at != NULL && matches_etag(request->if_none_match, etag)) {
        answer->status = 304;
        return;
    }
    /* If-Range with a date never matches: images have no Last-Modified, the tag is exact. */
    bool applies = request->range.at != NULL && (request->if_range.at == NULL || slice_is(request->if_range, etag));
    if (!applies) {
        return;
    }
    switch (read_range(request->range, size, &answer->first, &answer->length)) {
    case RANGE_NONE:
        break;
    case RANGE_PART:
        answer->status = 206;
        break;
    case RANGE_UNSATISFIABLE:
        answer->status = 416;
        break;
    }
}

/* --- the head ----------------------------------------------------------------------------------------------------- */

struct head {
    char *at;
    size_t used;
};

static void add_bytes(struct head *head, const char *bytes, size_t n)
{
    assert(head->used + n <= HTTP_REPLY_HEAD_MAX);
    memcpy(head->at + head->used, bytes, n);
    head->used += n;
}

static inline void add(struct head *head, const char *text)
{
    add_bytes(head, text, strlen(text));
}

static inline void add_header(struct head *head, const char *name, const char *value)
{
    add(head, name);
    add(head, value);
    add(head, "\r\n");
}

static void add_number(struct head *head, uint64_t number)
{
    char digits[NUMBER_TEXT_SIZE];
    add_bytes(head, digits, number_print(number, digits));
}

static void add_length(struct head *head, uint64_t length)
{
    add(head, "Content-Length: ");
    add_number(head, length);
    add(head, "\r\n");
}

/* The file's own name; what a header could not carry becomes `_`. */
static void add_disposition(struct head *head, const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    add(head, "Content-Disposition: attachment; filename=\"");
    for (size_t i = 0; name[i] != '\0' && i < 128; i++) {
        char c = name[i];
        bool plain = c > 0x20 && c < 0x7f && c != '"' && c != '\\';
        add_bytes(head, plain ? &c : "_", 1);
    }
    add(head, "\"\r\n");
}

static void add_content_range(struct head *head, const struct http_answer *answer)
{
    add(head, "Content-Range: bytes ");
    if (answer->status == 416) {
        add(head, "*");
    } else {
        add_number(head, answer->first);
        add(head, "-");
        add_number(head, answer->first + answer->length - 1);
    }
    add(head, "/");
    add_number(head, answer->image->build.facts.file_bytes);
    add(head, "\r\n");
}

static void add_image_headers(struct head *head, const struct http_answer *answer)
{
    char etag[ETAG_SIZE];
    const struct image *image = answer->image;
    image_etag(image, etag);
    if (answer->status == 200 || answer->status == 206) {
        add(head, "Content-Type: application/octet-stream\r\n");
        add_length(head, answer->length);
        add_disposition(head, image->path);
    }
    if (answer->status == 200) {
        add(head, "x-MD5: ");
        add_bytes(head, etag + 1, 32);
        add(head, "\r\n");
    }
    if (answer->status == 206 || answer->status == 416) {
        add_content_range(head, answer);
    }
    if (answer->status == 416) {
        add_length(head, 0);
    }
    add_header(head, "ETag: ", etag);
    add(head, "Accept-Ranges: bytes\r\n");
}

size_t http_reply_head(const struct http_answer *answer, bool keep_alive, const char *date, char *to)
{
    struct head head = { to, 0 };
    add(&head, status_line(answer->status));
    if (answer->image != NULL) {
        add_image_headers(&head, answer);
    } else if (answer->status != 304) {
        add_header(&head, "Content-Type: ", answer->content_type != NULL ? answer->content_type : "text/plain");
        add_length(&head, answer->body != NULL ? answer->body_bytes : answer->text_bytes);
    }
    if (answer->version[0] != '\0') {
        add_header(&head, "x-version: ", answer->version);
    }
    if (answer->has_reason) {
        add_header(&head, "X-Updraft-Reason: ", reason_word(answer->reason));
    }
    if (answer->allow != NULL) {
        add_header(&head, "Allow: ", answer->allow);
    }
    if (answer->challenge != NULL) {
        add_header(&head, "WWW-Authenticate: ", answer->challenge);
    }
    if (answer->location[0] != '\0') {
        add_header(&head, "Location: ", answer->location);
    }
    if (answer->retry_after_s != 0) {
        add(&head, "Retry-After: ");
        add_number(&head, answer->retry_after_s);
        add(&head, "\r\n");
    }
    add(&head, "Date: ");
    add_bytes(&head, date, HTTP_DATE_SIZE - 1);
    add(&head, "\r\n");
    add(&head, keep_alive ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n");
    return head.used;
}

void http_date(int64_t seconds, char text[HTTP_DATE_SIZE])
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t time = (time_t)seconds;
    struct tm utc;
    gmtime_r(&time, &utc);
    snprintf(text, HTTP_DATE_SIZE, "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT", days + 3 * utc.tm_wday, utc.tm_mday % 100,
             months + 3 * utc.tm_mon, (utc.tm_year + 1900) % 10000, utc.tm_hour % 100, utc.tm_min % 100,
             utc.tm_sec % 100);
}

const char *http_clock_date(struct http_clock *clock)
{
    int64_t now = (int64_t)time(NULL);
    if (now != clock->second) {
        clock->second = now;
        http_date(now, clock->date);
    }
    return clock->date;
}
