/* Any bytes as requests on a connection: however they arrive the answer is the same, the limits hold, and what is
 * believed lies in the bytes that were judged. */
#include "server/http_request.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool lies_in(struct slice slice, const char *at, size_t n)
{
    return slice.at == NULL || (slice.at >= at && slice.at + slice.len <= at + n);
}

/* A value that could break out of its line would be a header of its own in a log or an answer. */
static void check_value(struct slice value)
{
    for (size_t i = 0; i < value.len; i++) {
        assert(value.at[i] != '\r' && value.at[i] != '\n' && value.at[i] != '\0');
    }
    assert(value.len == 0 || (value.at[0] != ' ' && value.at[0] != '\t'));
    assert(value.len == 0 || (value.at[value.len - 1] != ' ' && value.at[value.len - 1] != '\t'));
}

static void check_request(const struct http_request *request, const char *head, size_t n)
{
    assert(request->path.at == request->path_bytes && request->path.len <= HTTP_TARGET_MAX);
    assert(memchr(request->path.at, '\0', request->path.len) == NULL);
    assert(request->path_bytes[request->path.len] == '\0');
    assert(!request->get || request->path_bytes[0] == '/');
    assert(!request->head_only || request->get);
    assert(request->minor_version <= 1 && request->header_count <= HTTP_HEADER_COUNT_MAX);
    assert(lies_in(request->method, head, n) && request->method.len > 0);
    for (size_t i = 0; i < request->header_count; i++) {
        const struct header *header = &request->headers[i];
        assert(lies_in(header->name, head, n) && header->name.len > 0);
        assert(header->value.len == 0 || lies_in(header->value, head, n));
        check_value(header->name);
        check_value(header->value);
        assert(http_request_header(request, "host").at != NULL || request->minor_version == 0);
    }
    const struct slice known[] = { request->range, request->if_range, request->if_none_match };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        assert(known[i].len == 0 || lies_in(known[i], head, n));
    }
}

/* In memory of exactly its size, so that a step beyond it is seen. */
static void parse_head(const char *bytes, size_t n)
{
    static struct http_request request;
    const char *why = NULL;
    char *head = malloc(n);
    assert(head != NULL);
    memcpy(head, bytes, n);
    memset(&request, 0x5a, sizeof request);
    unsigned status = http_request_parse(head, n, &request, &why);
    if (status == 200) {
        check_request(&request, head, n);
    } else {
        assert((status == 400 || status == 414 || status == 431 || status == 505) && why != NULL);
    }
    free(head);
}

/* Returns the bytes of the head, 0 where there is none (yet). */
static size_t scan(const char *bytes, size_t n)
{
    struct http_scan once = { 0 }, steps = { 0 };
    size_t head_bytes = 0, steps_bytes = 0;
    const char *why = NULL, *steps_why = NULL;
    unsigned status = http_request_scan(&once, bytes, n, &head_bytes, &why), steps_status = 0;
    for (size_t i = 1; i <= n && steps_status == 0; i++) {
        steps_status = http_request_scan(&steps, bytes, i, &steps_bytes, &steps_why);
    }
    assert(status == steps_status && why == steps_why);
    if (status == 0) {
        assert(n <= once.start + HTTP_HEAD_MAX && once.looked == n); /* for ever more is never the answer */
        return 0;
    }
    if (status != 200) {
        assert((status == 400 || status == 414 || status == 431) && why != NULL);
        return 0;
    }
    assert(head_bytes == steps_bytes && once.start == steps.start && head_bytes <= n);
    assert(once.start < once.headers_start && once.headers_start < head_bytes);
    assert(head_bytes - once.start <= HTTP_HEAD_MAX);
    assert(memcmp(bytes + head_bytes - 4, "\r\n\r\n", 4) == 0);
    parse_head(bytes + once.start, head_bytes - once.start);
    return head_bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (size_t used = 0, head; used < size; used += head) {
        head = scan((const char *)data + used, size - used);
        if (head == 0) {
            break;
        }
    }
    return 0;
}
