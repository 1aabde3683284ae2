/* A client in four steps: address, connection, head, body. What makes it hard is time: a single timer is in turn the
 * patience for the head, the patience for the body, and the pause that keeps to a rate. */
#include "tests/sim/http_client.h"

#include "base/text.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define HEAD_BYTES_MAX 2048
#define SMALL_READ     1460 /* one segment, as lwIP hands it on */
#define SMALL_WINDOW   4096 /* about what lwIP offers; the kernel doubles it */
#define REST_MIN_MS    20   /* a rate is kept in breaths of this length */

struct http_get {
    uv_tcp_t tcp;
    uv_timer_t timer;
    uv_connect_t connect;
    uv_write_t write;
    uv_getaddrinfo_t resolve;
    const struct http_hooks *hooks;
    void *owner;
    uint64_t rate, head_ms, body_ms, body_since_ms;
    uint64_t received, length;
    unsigned open_handles;
    int error; /* of the first step, to be told later */
    uint16_t port;
    bool over, resolving, in_body, small_window, tcp_open;
    size_t head_used, request_bytes;
    char *request;
    char head[HEAD_BYTES_MAX];
};

/* All reads of the one thread land here: libuv asks for the buffer just before it fills it. */
static uint8_t shared[65536];

static const struct {
    const char *word;
    const char *text;
} end_facts[] = {
#define X(name, word, text) { word, text },
    HTTP_END_LIST(X)
#undef X
};

const char *http_end_word(enum http_end end)
{
    assert(end < HTTP_END_COUNT);
    return end_facts[end].word;
}

const char *http_end_text(enum http_end end)
{
    assert(end < HTTP_END_COUNT);
    return end_facts[end].text;
}

/* --- the end ------------------------------------------------------------------------------------------------------ */

static void free_when_closed(struct http_get *get)
{
    if (get->over && get->open_handles == 0 && !get->resolving) {
        free(get->request);
        free(get);
    }
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct http_get *get = handle->data;
    get->open_handles--;
    free_when_closed(get);
}

void http_abort(struct http_get *get)
{
    assert(!get->over);
    get->over = true;
    if (get->tcp_open) {
        uv_close((uv_handle_t *)&get->tcp, on_handle_closed);
    }
    uv_close((uv_handle_t *)&get->timer, on_handle_closed);
    if (get->resolving) {
        uv_cancel((uv_req_t *)&get->resolve); /* its callback comes in either case */
    }
}

static void finish_with(struct http_get *get, enum http_end end, int error)
{
    http_abort(get);
    get->hooks->on_end(get->owner, end, error);
}

static void finish(struct http_get *get, enum http_end end)
{
    finish_with(get, end, 0);
}

static void on_patience_over(uv_timer_t *timer)
{
    struct http_get *get = timer->data;
    finish(get, get->in_body ? HTTP_END_SILENT : HTTP_END_TIMEOUT);
}

/* --- head --------------------------------------------------------------------------------------------------------- */

static void take_length(struct http_head *head, struct slice value)
{
    head->has_length = number_parse(value, UINT64_MAX / 2, &head->length);
}

static void take_md5(struct http_head *head, struct slice value)
{
    slice_copy(value, head->md5, sizeof head->md5);
}

static void take_reason(struct http_head *head, struct slice value)
{
    slice_copy(value, head->reason, sizeof head->reason);
}

static void take_file(struct http_head *head, struct slice value)
{
    static const char start[] = "attachment; filename=\"";
    if (slice_starts_with(value, start) && value.len > sizeof start) {
        struct slice name = { value.at + sizeof start - 1, value.len - sizeof start };
        slice_copy(name, head->file, sizeof head->file);
    }
}

static const struct {
    const char *name;
    void (*take)(struct http_head *head, struct slice value);
} headers[] = {
    { "Content-Length", take_length },
    { "x-MD5", take_md5 },
    { "X-Updraft-Reason", take_reason },
    { "Content-Disposition", take_file },
};

static void read_header(struct http_head *head, struct slice line)
{
    const char *colon = memchr(line.at, ':', line.len);
    for (size_t i = 0; colon != NULL && i < sizeof headers / sizeof headers[0]; i++) {
        struct slice name = { line.at, (size_t)(colon - line.at) };
        struct slice value = { colon + 1, line.len - name.len - 1 };
        if (slice_is_nocase(name, headers[i].name)) {
            headers[i].take(head, slice_trim(value));
        }
    }
}

/* "HTTP/1.1 200 OK" */
static bool read_status_line(struct http_head *head, struct slice line)
{
    uint64_t status;
    bool ok = line.len >= 12 && (slice_starts_with(line, "HTTP/1.1 ") || slice_starts_with(line, "HTTP/1.0 ")) &&
              number_parse((struct slice){ line.at + 9, 3 }, 999, &status) && (line.len == 12 || line.at[12] == ' ');
    if (ok) {
        head->status = (unsigned)status;
    }
    return ok && head->status >= 100;
}

static bool read_head(struct slice bytes, struct http_head *head)
{
    bool first = true;
    while (bytes.len > 0) {
        const char *end = memmem(bytes.at, bytes.len, "\r\n", 2);
        struct slice line = { bytes.at, end != NULL ? (size_t)(end - bytes.at) : bytes.len };
        if (first && !read_status_line(head, line)) {
            return false;
        }
        if (!first) {
            read_header(head, line);
        }
        first = false;
        size_t used = line.len + (end != NULL ? 2 : 0);
        bytes.at += used;
        bytes.len -= used;
    }
    return !first;
}

/* --- body --------------------------------------------------------------------------------------------------------- */

static void on_readable(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf);

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct http_get *get = handle->data;
    size_t rate_read = get->rate == 0 ? sizeof shared : get->rate * REST_MIN_MS / 1000;
    size_t size = get->small_window ? SMALL_READ : sizeof shared;
    size = rate_read < size ? rate_read : size;
    (void)suggested;
    *buf = uv_buf_init((char *)shared, (unsigned)(size < 64 ? 64 : size));
}

static void on_rested(uv_timer_t *timer)
{
    struct http_get *get = timer->data;
    uv_timer_start(&get->timer, on_patience_over, get->body_ms, 0);
    uv_read_start((uv_stream_t *)&get->tcp, on_alloc, on_readable);
}

/* Rests until the bytes that have come are no more than the rate allows; true where that is now. */
static bool keeps_rate(struct http_get *get)
{
    if (get->rate == 0) {
        return true;
    }
    uint64_t due_ms = get->body_since_ms + get->received * 1000 / get->rate;
    uint64_t now_ms = uv_now(get->timer.loop);
    if (due_ms <= now_ms) {
        return true;
    }
    uv_read_stop((uv_stream_t *)&get->tcp);
    uv_timer_start(&get->timer, on_rested, due_ms - now_ms, 0);
    return false;
}

static void take_body(struct http_get *get, uint8_t *bytes, size_t n)
{
    uint64_t left = get->length - get->received;
    size_t own = n < left ? n : (size_t)left;
    get->received += own;
    if (own > 0 && !get->hooks->on_body(get->owner, bytes, own)) {
        if (!get->over) {
            http_abort(get);
        }
        return;
    }
    if (get->over || !uv_is_active((uv_handle_t *)&get->timer)) {
        return; /* ended, or paused, by the hook */
    }
    if (get->received == get->length) {
        finish(get, n > own ? HTTP_END_EXCESS : HTTP_END_WHOLE);
        return;
    }
    if (keeps_rate(get)) {
        uv_timer_start(&get->timer, on_patience_over, get->body_ms, 0);
    }
}

void http_pause(struct http_get *get)
{
    uv_read_stop((uv_stream_t *)&get->tcp);
    uv_timer_stop(&get->timer);
}

static void take_head(struct http_get *get, uint8_t *bytes, size_t n)
{
    size_t room = sizeof get->head - get->head_used;
    size_t part = n < room ? n : room;
    memcpy(get->head + get->head_used, bytes, part);
    size_t had = get->head_used;
    get->head_used += part;
    const char *end = memmem(get->head, get->head_used, "\r\n\r\n", 4);
    if (end == NULL) {
        if (get->head_used == sizeof get->head) {
            finish(get, HTTP_END_BAD_HEAD);
        }
        return;
    }
    struct http_head head = { 0 };
    size_t head_bytes = (size_t)(end - get->head) + 4;
    if (!read_head((struct slice){ get->head, head_bytes - 4 }, &head)) {
        finish(get, HTTP_END_BAD_HEAD);
        return;
    }
    if (!get->hooks->on_head(get->owner, &head)) {
        http_abort(get);
        return;
    }
    assert(head.has_length && head.length > 0);
    get->in_body = true;
    get->length = head.length;
    get->body_since_ms = uv_now(get->timer.loop);
    uv_timer_start(&get->timer, on_patience_over, get->body_ms, 0);
    size_t body_at = head_bytes - had;
    if (n > body_at) {
        take_body(get, bytes + body_at, n - body_at);
    }
}

static void on_readable(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct http_get *get = stream->data;
    if (n < 0) {
        finish_with(get, get->in_body ? HTTP_END_SHORT : HTTP_END_CLOSED, n == UV_EOF ? 0 : (int)n);
    } else if (n > 0 && get->in_body) {
        take_body(get, (uint8_t *)buf->base, (size_t)n);
    } else if (n > 0) {
        take_head(get, (uint8_t *)buf->base, (size_t)n);
    }
}

/* --- connection --------------------------------------------------------------------------------------------------- */

static void on_written(uv_write_t *write, int status)
{
    (void)write; /* what failed shows when reading */
    (void)status;
}

static void on_connected(uv_connect_t *connect, int status)
{
    struct http_get *get = connect->data;
    if (get->over) {
        return;
    }
    if (status < 0) {
        finish_with(get, HTTP_END_CONNECT, status);
        return;
    }
    uv_buf_t buf = uv_buf_init(get->request, (unsigned)get->request_bytes);
    uv_write(&get->write, (uv_stream_t *)&get->tcp, &buf, 1, on_written);
    uv_read_start((uv_stream_t *)&get->tcp, on_alloc, on_readable);
}

/* The port is that of the wish, whichever way the address was found: of both families it follows the family. */
static void set_port(struct sockaddr *address, uint16_t port)
{
    uint16_t in_order = htons(port);
    memcpy(address->sa_data, &in_order, sizeof in_order);
}

/* 0, or libuv's error: no descriptor, or no way to the address at all. */
static int connect_to(struct http_get *get, struct sockaddr *address)
{
    set_port(address, get->port);
    int error = uv_tcp_init_ex(get->timer.loop, &get->tcp, address->sa_family);
    if (error != 0) {
        return error;
    }
    get->tcp_open = true;
    get->tcp.data = get;
    get->open_handles++;
    if (get->small_window) {
        int bytes = SMALL_WINDOW; /* before the connection: the window's scale is agreed there */
        uv_recv_buffer_size((uv_handle_t *)&get->tcp, &bytes);
    }
    get->connect.data = get;
    return uv_tcp_connect(&get->connect, &get->tcp, address, on_connected);
}

static void on_resolved(uv_getaddrinfo_t *resolve, int status, struct addrinfo *found)
{
    struct http_get *get = resolve->data;
    get->resolving = false;
    if (get->over) {
        free_when_closed(get);
    } else if (status != 0 || found == NULL) {
        finish_with(get, HTTP_END_RESOLVE, status);
    } else {
        int error = connect_to(get, found->ai_addr);
        if (error != 0) {
            finish_with(get, HTTP_END_CONNECT, error);
        }
    }
    uv_freeaddrinfo(found);
}

static void on_cannot_connect(uv_timer_t *timer)
{
    struct http_get *get = timer->data;
    finish_with(get, HTTP_END_CONNECT, get->error);
}

/* A numeric address is connected to at once; a name is looked up by libuv's threads. */
static void find_address(struct http_get *get, const struct url *url)
{
    struct sockaddr_storage address;
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
    bool numeric = uv_ip4_addr(url->host, url->port, (struct sockaddr_in *)&address) == 0 ||
                   uv_ip6_addr(url->host, url->port, (struct sockaddr_in6 *)&address) == 0;
    if (numeric) {
        get->error = connect_to(get, (struct sockaddr *)&address);
    } else {
        get->resolve.data = get;
        get->error = uv_getaddrinfo(get->timer.loop, &get->resolve, on_resolved, url->host, NULL, &hints);
        get->resolving = get->error == 0;
    }
    if (get->error != 0) { /* said later: the caller does not have the pointer yet */
        uv_timer_start(&get->timer, on_cannot_connect, 0, 0);
    }
}

struct http_get *http_get(uv_loop_t *loop, const struct http_wish *wish, const struct http_hooks *hooks, void *owner)
{
    struct http_get *get = calloc(1, sizeof *get);
    assert(get != NULL);
    get->hooks = hooks;
    get->owner = owner;
    get->rate = wish->rate;
    get->head_ms = wish->head_ms;
    get->body_ms = wish->body_ms;
    get->small_window = wish->small_window || wish->rate != 0;
    get->port = wish->url->port;
    get->request_bytes = wish->request_bytes;
    get->request = malloc(wish->request_bytes);
    assert(get->request != NULL);
    memcpy(get->request, wish->request, wish->request_bytes);
    uv_timer_init(loop, &get->timer);
    get->timer.data = get;
    get->open_handles = 1;
    uv_timer_start(&get->timer, on_patience_over, get->head_ms, 0);
    find_address(get, wish->url);
    return get;
}
