#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#define QUEUE_BYTES_MAX (1u << 20)
#define GATHER_NS       10000000u /* the writer waits so long for more lines: one write for many */
#define STOP_NS_MAX     2000000000u
#define TAIL_BYTES      32 /* kept free in a line for the closing of a cut value */

static const char *const level_names[] = { "error", "warn", "info", "debug" };
static const char *const format_names[] = { "logfmt", "json" };

static _Atomic int current_level = LOG_INFO;
static _Atomic int current_format = LOG_LOGFMT;

/* The queue between callers and the writing thread: one side fills while the other is written. */
static struct {
    uv_mutex_t mutex;
    uv_cond_t filled;
    uv_thread_t thread;
    char *side;
    char *writing;
    size_t used;
    uint64_t dropped;
    bool stopping;
    bool finished;
    uv_cond_t ended;
    _Atomic bool running;
} queue;

void log_configure(enum log_level level, enum log_format format)
{
    atomic_store(&current_level, (int)level);
    atomic_store(&current_format, (int)format);
}

bool log_enabled(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&current_level, memory_order_relaxed);
}

static void write_all(const char *bytes, size_t n)
{
    while (n > 0) {
        ssize_t written = write(STDERR_FILENO, bytes, n);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written < 0 && errno == EAGAIN) { /* whoever shares stderr made it non-blocking */
            struct pollfd room = { .fd = STDERR_FILENO, .events = POLLOUT };
            (void)poll(&room, 1, -1);
            continue;
        }
        if (written <= 0) {
            return; /* nobody can be told */
        }
        bytes += written;
        n -= (size_t)written;
    }
}

static void say_dropped(uint64_t dropped)
{
    struct log_line line;
    log_begin(&line, LOG_WARN, "log_dropped");
    log_number(&line, "lines", (int64_t)dropped);
    log_text(&line, "remedy", "read stderr faster or lower --log-level");
    if (line.enabled) {
        if (atomic_load(&current_format) == LOG_JSON) {
            line.bytes[line.used++] = '}';
        }
        line.bytes[line.used++] = '\n';
        write_all(line.bytes, line.used);
    }
}

static void writer_main(void *unused)
{
    (void)unused;
    uv_mutex_lock(&queue.mutex);
    for (;;) {
        while (queue.used == 0 && !queue.stopping) {
            uv_cond_wait(&queue.filled, &queue.mutex);
        }
        if (queue.used == 0) {
            break;
        }
        if (!queue.stopping && queue.used < QUEUE_BYTES_MAX / 2) {
            (void)uv_cond_timedwait(&queue.filled, &queue.mutex, GATHER_NS);
        }
        char *full = queue.side;
        size_t used = queue.used;
        uint64_t dropped = queue.dropped;
        queue.side = queue.writing;
        queue.writing = full;
        queue.used = 0;
        queue.dropped = 0;
        uv_mutex_unlock(&queue.mutex);
        write_all(full, used);
        if (dropped > 0) {
            say_dropped(dropped);
        }
        uv_mutex_lock(&queue.mutex);
    }
    queue.finished = true;
    uv_cond_signal(&queue.ended);
    uv_mutex_unlock(&queue.mutex);
}

void log_start(void)
{
    assert(!queue.running);
    queue.side = malloc(QUEUE_BYTES_MAX);
    queue.writing = malloc(QUEUE_BYTES_MAX);
    queue.stopping = queue.finished = false;
    bool ready = queue.side != NULL && queue.writing != NULL && uv_mutex_init(&queue.mutex) == 0 &&
                 uv_cond_init(&queue.filled) == 0 && uv_cond_init(&queue.ended) == 0 &&
                 uv_thread_create(&queue.thread, writer_main, NULL) == 0;
    assert(ready);
    (void)ready;
    atomic_store(&queue.running, true);
}

void log_stop(void)
{
    if (!atomic_exchange(&queue.running, false)) {
        return;
    }
    uv_mutex_lock(&queue.mutex);
    queue.stopping = true;
    uv_cond_signal(&queue.filled);
    /* Where nobody reads stderr, the writer is stuck for good: the process ends without it. */
    while (!queue.finished && uv_cond_timedwait(&queue.ended, &queue.mutex, STOP_NS_MAX) == 0) {
    }
    bool finished = queue.finished;
    uv_mutex_unlock(&queue.mutex);
    if (!finished) {
        return;
    }
    uv_thread_join(&queue.thread);
    uv_cond_destroy(&queue.ended);
    uv_cond_destroy(&queue.filled);
    uv_mutex_destroy(&queue.mutex);
    free(queue.side);
    free(queue.writing);
    queue.side = queue.writing = NULL;
}

static void enqueue(const char *bytes, size_t n)
{
    uv_mutex_lock(&queue.mutex);
    if (queue.used + n > QUEUE_BYTES_MAX) {
        queue.dropped++;
    } else {
        size_t before = queue.used;
        memcpy(queue.side + before, bytes, n);
        queue.used += n;
        /* The first line wakes the writer; half a queue ends its gathering. */
        if (before == 0 || (before < QUEUE_BYTES_MAX / 2 && queue.used >= QUEUE_BYTES_MAX / 2)) {
            uv_cond_signal(&queue.filled);
        }
    }
    uv_mutex_unlock(&queue.mutex);
}

static bool add(struct log_line *line, const char *bytes, size_t n)
{
    if (line->used + n > sizeof line->bytes - TAIL_BYTES) {
        line->cut = true;
        return false;
    }
    memcpy(line->bytes + line->used, bytes, n);
    line->used += n;
    return true;
}

static void add_text(struct log_line *line, const char *text)
{
    add(line, text, strlen(text));
}

static bool is_json(void)
{
    return atomic_load_explicit(&current_format, memory_order_relaxed) == LOG_JSON;
}

static void add_key(struct log_line *line, const char *key)
{
    if (is_json()) {
        add_text(line, line->used > 1 ? ",\"" : "\"");
        add_text(line, key);
        add_text(line, "\":");
    } else {
        add_text(line, line->used > 0 ? " " : "");
        add_text(line, key);
        add_text(line, "=");
    }
}

static bool is_plain(char c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

/* One byte that is not plain; JSON knows \u00HH where logfmt is read by people as \xHH. */
static void add_escaped(struct log_line *line, char c)
{
    char form[8];
    int n = c == '"' || c == '\\' ? snprintf(form, sizeof form, "\\%c", c)
                                  : snprintf(form, sizeof form, is_json() ? "\\u%04x" : "\\x%02x", (unsigned char)c);
    add(line, form, (size_t)n);
}

/* As much of the value as fits; the room of TAIL_BYTES lets the quote always close. */
static void add_quoted(struct log_line *line, struct slice value)
{
    while (value.len > 0 && !line->cut) {
        size_t room = sizeof line->bytes - TAIL_BYTES - line->used, n = 0;
        while (n < value.len && n < room && is_plain(value.at[n])) {
            n++;
        }
        add(line, value.at, n);
        if (n < value.len && !is_plain(value.at[n])) {
            add_escaped(line, value.at[n++]);
        }
        line->cut = line->cut || n == 0;
        value.at += n;
        value.len -= n;
    }
    line->bytes[line->used++] = '"';
}

static bool needs_quotes(struct slice value)
{
    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.at[i];
        if (c <= 0x20 || c >= 0x7f || c == '"' || c == '=' || c == '\\') {
            return true;
        }
    }
    return value.len == 0;
}

void log_slice(struct log_line *line, const char *key, struct slice value)
{
    if (!line->enabled || line->cut || value.at == NULL) {
        return;
    }
    size_t before = line->used;
    add_key(line, key);
    bool plain = !is_json() && !needs_quotes(value);
    if (plain) {
        add(line, value.at, value.len);
    } else {
        add_text(line, "\"");
    }
    if (line->cut) {
        line->used = before; /* no key without its value */
    }
    if (!plain && !line->cut) {
        add_quoted(line, value);
    }
}

void log_text(struct log_line *line, const char *key, const char *value)
{
    if (value != NULL) {
        log_slice(line, key, slice_of(value));
    }
}

void log_number(struct log_line *line, const char *key, int64_t value)
{
    if (!line->enabled || line->cut) {
        return;
    }
    char digits[NUMBER_TEXT_SIZE];
    size_t n = number_print(value < 0 ? 0 - (uint64_t)value : (uint64_t)value, digits);
    size_t before = line->used;
    add_key(line, key);
    add_text(line, value < 0 ? "-" : "");
    add(line, digits, n);
    if (line->cut) {
        line->used = before;
    }
}

void log_format(struct log_line *line, const char *key, const char *format, ...)
{
    if (!line->enabled) {
        return;
    }
    char value[512];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(value, sizeof value, format, args);
    va_end(args);
    log_text(line, key, value);
    line->cut = line->cut || n >= (int)sizeof value;
}

/* "2026-11-21T17:04:37.250Z", of which all but the milliseconds is made once a second. */
static const char *stamp_now(void)
{
    static _Thread_local char stamp[64];
    static _Thread_local size_t second_bytes;
    static _Thread_local time_t second;
    struct timeval now;
    gettimeofday(&now, NULL);
    if (second_bytes == 0 || now.tv_sec != second) {
        struct tm utc;
        gmtime_r(&now.tv_sec, &utc);
        second_bytes = strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S.000Z", &utc) - strlen("000Z");
        second = now.tv_sec;
    }
    unsigned ms = (unsigned)(now.tv_usec / 1000);
    stamp[second_bytes] = (char)('0' + ms / 100);
    stamp[second_bytes + 1] = (char)('0' + ms / 10 % 10);
    stamp[second_bytes + 2] = (char)('0' + ms % 10);
    return stamp;
}

void log_begin(struct log_line *line, enum log_level level, const char *event)
{
    line->used = 0;
    line->cut = false;
    line->enabled = log_enabled(level);
    if (!line->enabled) {
        return;
    }
    if (is_json()) {
        add_text(line, "{");
    }
    log_text(line, "time", stamp_now());
    log_text(line, "level", log_level_name(level));
    log_text(line, "event", event);
}

void log_end(struct log_line *line)
{
    if (!line->enabled) {
        return;
    }
    if (line->cut) {
        const char *mark = is_json() ? ",\"cut\":1" : " cut=1";
        memcpy(line->bytes + line->used, mark, strlen(mark));
        line->used += strlen(mark);
    }
    if (is_json()) {
        line->bytes[line->used++] = '}';
    }
    line->bytes[line->used++] = '\n';
    assert(line->used <= sizeof line->bytes);
    if (atomic_load(&queue.running)) {
        enqueue(line->bytes, line->used);
    } else {
        write_all(line->bytes, line->used);
    }
}

void log_event(enum log_level level, const char *event, ...)
{
    struct log_line line;
    log_begin(&line, level, event);
    va_list pairs;
    va_start(pairs, event);
    for (const char *key; (key = va_arg(pairs, const char *)) != NULL;) {
        log_text(&line, key, va_arg(pairs, const char *));
    }
    va_end(pairs);
    log_end(&line);
}

static bool name_parse(struct slice name, const char *const *names, size_t n, size_t *index)
{
    for (size_t i = 0; i < n; i++) {
        if (slice_is(name, names[i])) {
            *index = i;
            return true;
        }
    }
    return false;
}

bool log_level_parse(struct slice name, enum log_level *level)
{
    size_t index;
    bool found = name_parse(name, level_names, sizeof level_names / sizeof level_names[0], &index);
    if (found) {
        *level = (enum log_level)index;
    }
    return found;
}

bool log_format_parse(struct slice name, enum log_format *format)
{
    size_t index;
    bool found = name_parse(name, format_names, sizeof format_names / sizeof format_names[0], &index);
    if (found) {
        *format = (enum log_format)index;
    }
    return found;
}

const char *log_level_name(enum log_level level)
{
    return level_names[level];
}

const char *log_format_name(enum log_format format)
{
    return format_names[format];
}
