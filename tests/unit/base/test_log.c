/* The log: whatever a device sends, a line stays one line, and a JSON line JSON; a loss is said, never silent.
 *
 * stderr is a pipe or a memory file while a test writes; what arrived there is what is judged.
 */
#include "base/log.h"

#include <assert.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

/* --- what reaches stderr ----------------------------------------------------------------------------------------- */

static int saved_stderr, memory_file;

static void capture(enum log_level level, enum log_format format)
{
    log_configure(level, format);
    fflush(stderr);
    saved_stderr = dup(STDERR_FILENO);
    memory_file = memfd_create("test_log", MFD_CLOEXEC);
    assert_true(saved_stderr >= 0 && memory_file >= 0);
    assert_true(dup2(memory_file, STDERR_FILENO) >= 0);
}

/* What was written, to be freed; stderr is what it was. */
static char *captured(void)
{
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    off_t size = lseek(memory_file, 0, SEEK_END);
    char *text = calloc(1, (size_t)size + 1);
    assert_non_null(text);
    assert_int_equal(pread(memory_file, text, (size_t)size, 0), size);
    close(memory_file);
    return text;
}

/* One captured line without its changing part: what stands behind `event=`, or behind the key "event". */
static void assert_line(char *text, const char *expected)
{
    char *newline = strchr(text, '\n');
    assert_true(newline != NULL && newline[1] == '\0');
    *newline = '\0';
    const char *from = strstr(text, "event");
    assert_non_null(from);
    assert_string_equal(from, expected);
    free(text);
}

static void test_logfmt_line(void **state)
{
    (void)state;
    capture(LOG_INFO, LOG_LOGFMT);
    LOG_EVENT(LOG_WARN, "repo_unreadable", "dir", "/srv/firm ware", "why", "no", "void", "", "none", (char *)NULL);
    char *text = captured();
    int year, month, day, hour, minute, second, ms, end = 0;
    sscanf(text, "time=%4d-%2d-%2dT%2d:%2d:%2d.%3dZ level=warn event=%n", &year, &month, &day, &hour, &minute, &second,
           &ms, &end);
    assert_true(end > 0 && year >= 2024);
    assert_line(text, "event=repo_unreadable dir=\"/srv/firm ware\" why=no void=\"\"");
}

static void test_json_line(void **state)
{
    (void)state;
    capture(LOG_INFO, LOG_JSON);
    struct log_line line;
    log_begin(&line, LOG_INFO, "update_sent");
    log_text(&line, "device", "5ccf7fb1e042");
    log_number(&line, "ms", -1);
    log_number(&line, "bytes", INT64_MAX);
    log_format(&line, "peer", "%s:%d", "192.0.2.7", 49152);
    log_end(&line);
    char *text = captured();
    assert_true(strncmp(text, "{\"time\":\"20", 11) == 0);
    assert_non_null(strstr(text, "Z\",\"level\":\"info\",\"event\":"));
    assert_line(text, "event\":\"update_sent\",\"device\":\"5ccf7fb1e042\",\"ms\":-1,\"bytes\":9223372036854775807,"
                      "\"peer\":\"192.0.2.7:49152\"}");
}

static const struct {
    const char *value;
    const char *logfmt, *json;
} values[] = {
    { "plain-1.0_x:y/z", "plain-1.0_x:y/z", "\"plain-1.0_x:y/z\"" },
    { "a b", "\"a b\"", "\"a b\"" },
    { "a=b", "\"a=b\"", "\"a=b\"" }, /* else it would forge a key */
    { "a\"b", "\"a\\\"b\"", "\"a\\\"b\"" },
    { "a\\b", "\"a\\\\b\"", "\"a\\\\b\"" },
    { "a\nb", "\"a\\x0ab\"", "\"a\\u000ab\"" }, /* else it would forge a line */
    { "a\rb", "\"a\\x0db\"", "\"a\\u000db\"" },
    { "\x1b[2J", "\"\\x1b[2J\"", "\"\\u001b[2J\"" }, /* else it would clear the operator's screen */
    { "\x7f", "\"\\x7f\"", "\"\\u007f\"" },
    { "\xc3\xa4", "\"\\xc3\\xa4\"", "\"\\u00c3\\u00a4\"" }, /* bytes, for nobody says that they are UTF-8 */
    { "\xff", "\"\\xff\"", "\"\\u00ff\"" },
    { "", "\"\"", "\"\"" },
};

static void test_hostile_values_stay_values(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(values); i++) {
        char expected[200];
        capture(LOG_INFO, LOG_LOGFMT);
        LOG_EVENT(LOG_INFO, "check", "from", values[i].value, "to", "x");
        snprintf(expected, sizeof expected, "event=check from=%s to=x", values[i].logfmt);
        assert_line(captured(), expected);
        capture(LOG_INFO, LOG_JSON);
        LOG_EVENT(LOG_INFO, "check", "from", values[i].value, "to", "x");
        snprintf(expected, sizeof expected, "event\":\"check\",\"from\":%s,\"to\":\"x\"}", values[i].json);
        assert_line(captured(), expected);
    }
}

/* A slice is not terminated, may hold a NUL, and may be absent: then its key is not there either. */
static void test_slices(void **state)
{
    (void)state;
    struct log_line line;
    capture(LOG_INFO, LOG_LOGFMT);
    log_begin(&line, LOG_INFO, "check");
    log_slice(&line, "nul", (struct slice){ "a\0bc", 3 });
    log_slice(&line, "absent", (struct slice){ NULL, 0 });
    log_text(&line, "null", NULL);
    log_end(&line);
    assert_line(captured(), "event=check nul=\"a\\x00b\"");
}

static void test_levels(void **state)
{
    (void)state;
    capture(LOG_WARN, LOG_LOGFMT);
    struct log_line line;
    log_begin(&line, LOG_INFO, "quiet");
    log_text(&line, "a", "b");
    log_number(&line, "n", 1);
    log_format(&line, "f", "%d", 1);
    log_end(&line);
    LOG_EVENT(LOG_DEBUG, "quiet", "a", "b");
    LOG_EVENT(LOG_WARN, "loud", "a", "b");
    assert_true(log_enabled(LOG_ERROR) && !log_enabled(LOG_INFO));
    assert_line(captured(), "event=loud a=b");
}

/* --- lines that are too long ------------------------------------------------------------------------------------- */

/* Whether a line is one JSON object of texts and numbers, to its last byte. */
static bool is_json_object(const char *at)
{
    if (*at++ != '{') {
        return false;
    }
    for (;;) {
        for (int part = 0; part < 2; part++) {
            if (*at == '"') {
                for (at++; *at != '"'; at++) {
                    size_t escape = *at != '\\' ? 0 : at[1] == 'u' ? strspn(at + 2, "0123456789abcdef") : 1;
                    if ((unsigned char)*at < 0x20 || (*at == '\\' && at[1] == 'u' && escape < 4)) {
                        return false;
                    }
                    at += *at != '\\' ? 0 : at[1] == 'u' ? 5 : 1;
                }
                at++;
            } else if (part == 0 || (at += strspn(at, "-0123456789")) == NULL) {
                return false;
            }
            if (part == 0 && *at++ != ':') {
                return false;
            }
        }
        if (*at == '}') {
            return strcmp(at, "}\n") == 0;
        }
        if (*at++ != ',') {
            return false;
        }
    }
}

static void test_json_judge(void **state)
{
    (void)state;
    assert_true(is_json_object("{\"a\":1,\"b\":\"x\\u0000\\\"\"}\n"));
    assert_false(is_json_object("{\"a\":1,\"b\":\"x\\u00\"}\n"));
    assert_false(is_json_object("{\"a\":\"x}\n"));
    assert_false(is_json_object("{\"a\":1}"));
}

/* Of every length and every kind of byte, the cut line is whole, says that it was cut, and holds no half key. */
static void test_cut_lines_stay_valid(void **state)
{
    (void)state;
    static const char fillers[] = { 'x', '"', '\n', '\xff', ' ' };
    char value[2000];
    for (size_t f = 0; f < sizeof fillers; f++) {
        memset(value, fillers[f], sizeof value);
        size_t n = 200;
        while (n < 1700) {
            n += (n > 1350 && n < 1480) ? 1 : 31;
            for (int format = LOG_LOGFMT; format <= LOG_JSON; format++) {
                capture(LOG_INFO, (enum log_format)format);
                struct log_line line;
                log_begin(&line, LOG_INFO, "check");
                log_slice(&line, "from", (struct slice){ value, n });
                log_number(&line, "status", 1234567890);
                log_text(&line, "type", "door");
                log_end(&line);
                char *text = captured();
                char *newline = strchr(text, '\n');
                assert_true(newline != NULL && newline[1] == '\0' && strlen(text) <= sizeof line.bytes);
                bool whole = strstr(text, "door") != NULL;
                bool marked = strstr(text, format == LOG_JSON ? ",\"cut\":1}\n" : " cut=1\n") != NULL;
                assert_true(whole != marked);
                if (format == LOG_JSON) {
                    assert_true(is_json_object(text));
                } else {
                    assert_null(strstr(text, "= "));
                    assert_null(strstr(text, "type=cut"));
                }
                free(text);
            }
        }
    }
}

/* Else a formatted value would end in mid-air with nothing to say so. */
static void test_long_format_is_marked(void **state)
{
    (void)state;
    struct log_line line;
    capture(LOG_INFO, LOG_LOGFMT);
    log_begin(&line, LOG_INFO, "check");
    log_format(&line, "why", "%600d", 1);
    log_end(&line);
    char *text = captured();
    assert_non_null(strstr(text, " cut=1\n"));
    free(text);
}

/* --- the writing thread ------------------------------------------------------------------------------------------ */

struct reader {
    int fd;
    char *bytes;
    size_t used, size;
};

static void read_all(void *data)
{
    struct reader *reader = data;
    for (ssize_t n; (n = read(reader->fd, reader->bytes + reader->used, reader->size - reader->used - 1)) > 0;) {
        reader->used += (size_t)n;
        assert(reader->used + 1 < reader->size);
    }
    reader->bytes[reader->used] = '\0';
}

/* stderr becomes a pipe; returns its reading end, to be read at the test's own pace. */
static int capture_in_pipe(int flags)
{
    int ends[2];
    log_configure(LOG_INFO, LOG_LOGFMT);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    saved_stderr = dup(STDERR_FILENO);
    assert_true(saved_stderr >= 0 && dup2(ends[1], STDERR_FILENO) >= 0);
    assert_int_equal(fcntl(STDERR_FILENO, F_SETFL, flags | O_WRONLY), 0);
    close(ends[1]);
    return ends[0];
}

static void start_reader(uv_thread_t *thread, struct reader *reader, int fd)
{
    reader->fd = fd;
    reader->used = 0;
    reader->size = 16u << 20;
    reader->bytes = malloc(reader->size);
    assert_non_null(reader->bytes);
    assert_int_equal(uv_thread_create(thread, read_all, reader), 0);
}

static void end_reader(uv_thread_t *thread, struct reader *reader)
{
    dup2(saved_stderr, STDERR_FILENO); /* the last writing end: the reader sees the end */
    close(saved_stderr);
    uv_thread_join(thread);
    close(reader->fd);
}

/* Every line, in order; returns how many are said to have been dropped. */
static unsigned long count_lines(char *text, unsigned long *written)
{
    unsigned long next = 0, dropped = 0;
    *written = 0;
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        unsigned long number;
        const char *n = strstr(line, "event=flood n=");
        const char *lost = strstr(line, "event=log_dropped lines=");
        assert_true((n != NULL) != (lost != NULL));
        if (lost != NULL) {
            assert_int_equal(sscanf(lost, "event=log_dropped lines=%lu remedy=\"", &number), 1);
            dropped += number;
        } else {
            assert_int_equal(sscanf(n, "event=flood n=%lu", &number), 1);
            assert_true(number >= next);
            next = number + 1;
            ++*written;
        }
    }
    return dropped;
}

static void log_flood(unsigned long first, unsigned long count)
{
    static const char filler[] = "0123456789012345678901234567890123456789012345678901234567890123456789";
    for (unsigned long i = first; i < first + count; i++) {
        struct log_line line;
        log_begin(&line, LOG_INFO, "flood");
        log_number(&line, "n", (int64_t)i);
        log_text(&line, "filler", filler);
        log_end(&line);
    }
}

/* Else a terminal that nobody reads would stop every update, or lines would vanish and nobody know. */
static void test_dropped_lines_are_said(void **state)
{
    (void)state;
    enum { LINES = 30000 }; /* four times the queue */
    struct reader reader;
    uv_thread_t thread;
    int fd = capture_in_pipe(0);
    log_start();
    log_flood(0, LINES); /* returns though nobody reads */
    start_reader(&thread, &reader, fd);
    log_stop();
    log_flood(LINES, 1); /* after the end of the thread: written directly */
    end_reader(&thread, &reader);
    unsigned long written, dropped = count_lines(reader.bytes, &written);
    assert_true(dropped > 0 && written > 1000);
    assert_int_equal(written + dropped, LINES + 1);
    free(reader.bytes);
}

/* Else a stderr that some other program made non-blocking would lose lines unsaid. */
static void test_non_blocking_stderr_loses_nothing(void **state)
{
    (void)state;
    enum { LINES = 5000 }; /* fits the queue, not the pipe */
    struct reader reader;
    uv_thread_t thread;
    int fd = capture_in_pipe(O_NONBLOCK);
    log_start();
    log_flood(0, LINES);
    start_reader(&thread, &reader, fd);
    log_stop();
    end_reader(&thread, &reader);
    unsigned long written, dropped = count_lines(reader.bytes, &written);
    assert_int_equal(written, LINES);
    assert_int_equal(dropped, 0);
    free(reader.bytes);
}

static void write_lines(void *data)
{
    log_flood(*(const unsigned long *)data, 1000);
}

/* Else two threads' lines could be mixed into each other. */
static void test_threads_write_whole_lines(void **state)
{
    (void)state;
    uv_thread_t threads[4];
    unsigned long first = 0, lines = 0;
    capture(LOG_INFO, LOG_LOGFMT);
    log_start();
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        assert_int_equal(uv_thread_create(&threads[i], write_lines, &first), 0);
    }
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        uv_thread_join(&threads[i]);
    }
    log_stop();
    char *text = captured();
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        int end = 0;
        assert_true(strncmp(line, "time=20", 7) == 0);
        sscanf(strstr(line, "event="), "event=flood n=%*d filler=%*[0-9]%n", &end);
        assert_true(end > 0 && strstr(line, "event=")[end] == '\0');
        lines++;
    }
    assert_int_equal(lines, 4000);
    free(text);
}

/* --- names ------------------------------------------------------------------------------------------------------- */

static void test_names(void **state)
{
    (void)state;
    for (int i = LOG_ERROR; i <= LOG_DEBUG; i++) {
        enum log_level level = LOG_ERROR;
        assert_true(log_level_parse(slice_of(log_level_name((enum log_level)i)), &level));
        assert_int_equal(level, i);
    }
    for (int i = LOG_LOGFMT; i <= LOG_JSON; i++) {
        enum log_format format = LOG_LOGFMT;
        assert_true(log_format_parse(slice_of(log_format_name((enum log_format)i)), &format));
        assert_int_equal(format, i);
    }
    enum log_level level = LOG_DEBUG;
    enum log_format format = LOG_JSON;
    assert_false(log_level_parse(slice_of("Info"), &level) || log_level_parse(slice_of(""), &level));
    assert_false(log_format_parse(slice_of("xml"), &format));
    assert_int_equal(level, LOG_DEBUG);
    assert_int_equal(format, LOG_JSON);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logfmt_line),
        cmocka_unit_test(test_json_line),
        cmocka_unit_test(test_hostile_values_stay_values),
        cmocka_unit_test(test_slices),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_json_judge),
        cmocka_unit_test(test_cut_lines_stay_valid),
        cmocka_unit_test(test_long_format_is_marked),
        cmocka_unit_test(test_dropped_lines_are_said),
        cmocka_unit_test(test_non_blocking_stderr_loses_nothing),
        cmocka_unit_test(test_threads_write_whole_lines),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
