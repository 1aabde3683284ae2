/* Answers: heads byte for byte, for devices search them as text; ranges, conditions, dates; and nothing that a file or
 * a device is called may become a header.
 *
 * What makes it hard is the clients: a Content-Length too many or too few bricks an update, see each test.
 */
#include "server/http_reply.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])
#define DATE            "Sun, 06 Nov 1994 08:49:37 GMT"
#define ETAG            "\"00112233445566778899aabbccddeeff\""

static char path_bytes[300];

/* An image of 1000 bytes. */
static struct image image_of(const char *path)
{
    struct image image = { .build.facts.file_bytes = 1000 };
    for (uint8_t i = 0; i < 16; i++) {
        image.build.facts.md5[i] = (uint8_t)(i * 0x11);
    }
    snprintf(path_bytes, sizeof path_bytes, "%s", path);
    image.path = path_bytes;
    return image;
}

static const char *head_of(const struct http_answer *answer, bool keep_alive)
{
    static char head[HTTP_REPLY_HEAD_MAX + 1];
    memset(head, 0x5a, sizeof head);
    size_t n = http_reply_head(answer, keep_alive, DATE, head);
    assert_true(n <= HTTP_REPLY_HEAD_MAX);
    head[n] = '\0';
    assert_int_equal(strlen(head), n);
    return head;
}

/* --- texts ------------------------------------------------------------------------------------------------------- */

static const struct {
    unsigned status;
    const char *line;
} statuses[] = {
    { 200, "HTTP/1.1 200 OK" },
    { 201, "HTTP/1.1 201 Created" },
    { 202, "HTTP/1.1 202 Accepted" },
    { 400, "HTTP/1.1 400 Bad Request" },
    { 401, "HTTP/1.1 401 Unauthorized" },
    { 403, "HTTP/1.1 403 Forbidden" },
    { 404, "HTTP/1.1 404 Not Found" },
    { 405, "HTTP/1.1 405 Method Not Allowed" },
    { 408, "HTTP/1.1 408 Request Timeout" },
    { 409, "HTTP/1.1 409 Conflict" },
    { 411, "HTTP/1.1 411 Length Required" },
    { 413, "HTTP/1.1 413 Content Too Large" },
    { 414, "HTTP/1.1 414 URI Too Long" },
    { 422, "HTTP/1.1 422 Unprocessable Content" },
    { 431, "HTTP/1.1 431 Request Header Fields Too Large" },
    { 500, "HTTP/1.1 500 Internal Server Error" },
    { 503, "HTTP/1.1 503 Service Unavailable" },
    { 505, "HTTP/1.1 505 HTTP Version Not Supported" },
};

static void test_text_heads(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(statuses); i++) {
        char expected[400];
        struct http_answer answer = { .status = 0 };
        http_answer_text(&answer, statuses[i].status, "%s\n", "twelve bytes");
        snprintf(expected, sizeof expected,
                 "%s\r\nContent-Type: text/plain\r\nContent-Length: 13\r\nDate: " DATE "\r\nConnection: close\r\n\r\n",
                 statuses[i].line);
        assert_string_equal(head_of(&answer, false), expected);
        assert_int_equal(answer.text_bytes, 13);
        assert_memory_equal(answer.text, "twelve bytes\n", 13);
    }
}

/* "Nothing for you": without Content-Length, for it would have to be the image's, and a client might wait for that. */
static void test_not_now(void **state)
{
    (void)state;
    struct http_answer answer = { .status = 304, .has_reason = true, .reason = REASON_LOOP_GUARD };
    assert_string_equal(head_of(&answer, true), "HTTP/1.1 304 Not Modified\r\nX-Updraft-Reason: loop-guard\r\n"
                                                "Date: " DATE "\r\nConnection: keep-alive\r\n\r\n");
}

static void test_every_extra(void **state)
{
    (void)state;
    struct http_answer answer = {
        .has_reason = true,
        .reason = REASON_NEWER,
        .content_type = "application/json",
        .allow = "GET, HEAD",
        .retry_after_s = 120,
        .version = "1.2.3",
    };
    http_answer_text(&answer, 503, "%s", "");
    assert_string_equal(head_of(&answer, false),
                        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 0\r\n"
                        "x-version: 1.2.3\r\nX-Updraft-Reason: newer\r\nAllow: GET, HEAD\r\nRetry-After: 120\r\n"
                        "Date: " DATE "\r\nConnection: close\r\n\r\n");
}

/* What only the operator's side says. A body of its own counts, not the text beside it. */
static void test_admin_heads(void **state)
{
    (void)state;
    char body[2000] = "";
    struct http_answer answer = {
        .status = 201,
        .content_type = "application/json",
        .body = body,
        .body_bytes = sizeof body,
        .text_bytes = 5,
        .location = "/api/v1/rollouts/0123456789abcdef",
    };
    assert_string_equal(head_of(&answer, true),
                        "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 2000\r\n"
                        "Location: /api/v1/rollouts/0123456789abcdef\r\nDate: " DATE "\r\n"
                        "Connection: keep-alive\r\n\r\n");
    struct http_answer stranger = { .status = 401, .challenge = "Bearer", .body = body, .body_bytes = 0 };
    assert_string_equal(head_of(&stranger, false),
                        "HTTP/1.1 401 Unauthorized\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n"
                        "WWW-Authenticate: Bearer\r\nDate: " DATE "\r\nConnection: close\r\n\r\n");
}

/* Else a long text would be announced with more bytes than are there. */
static void test_long_text_is_cut(void **state)
{
    (void)state;
    struct http_answer answer = { .status = 0 };
    http_answer_text(&answer, 404, "%600d", 1);
    assert_int_equal(answer.text_bytes, sizeof answer.text - 1);
    assert_non_null(strstr(head_of(&answer, false), "\r\nContent-Length: 511\r\n"));
}

/* --- images ------------------------------------------------------------------------------------------------------ */

static struct http_answer answer_image(struct image *image, const char *range, const char *if_none_match,
                                       const char *if_range)
{
    struct http_request request = {
        .range = slice_of(range),
        .if_none_match = slice_of(if_none_match),
        .if_range = slice_of(if_range),
    };
    struct http_answer answer = { .has_reason = true, .reason = REASON_NEWER };
    http_answer_image(&answer, image, &request);
    return answer;
}

static void test_image_heads(void **state)
{
    (void)state;
    struct image image = image_of("d1_mini/truc_0_4_10.ino.d1_mini.bin");
    struct http_answer whole = answer_image(&image, NULL, NULL, NULL);
    assert_string_equal(head_of(&whole, false),
                        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 1000\r\n"
                        "Content-Disposition: attachment; filename=\"truc_0_4_10.ino.d1_mini.bin\"\r\n"
                        "x-MD5: 00112233445566778899aabbccddeeff\r\nETag: " ETAG "\r\nAccept-Ranges: bytes\r\n"
                        "X-Updraft-Reason: newer\r\nDate: " DATE "\r\nConnection: close\r\n\r\n");
    /* x-MD5 is of all the bytes: with a part it would fail every device that checks it */
    struct http_answer part = answer_image(&image, "bytes=10-19", NULL, NULL);
    assert_string_equal(head_of(&part, true),
                        "HTTP/1.1 206 Partial Content\r\nContent-Type: application/octet-stream\r\n"
                        "Content-Length: 10\r\nContent-Disposition: attachment; filename="
                        "\"truc_0_4_10.ino.d1_mini.bin\"\r\nContent-Range: bytes 10-19/1000\r\nETag: " ETAG "\r\n"
                        "Accept-Ranges: bytes\r\nX-Updraft-Reason: newer\r\nDate: " DATE "\r\n"
                        "Connection: keep-alive\r\n\r\n");
    struct http_answer beyond = answer_image(&image, "bytes=1000-", NULL, NULL);
    assert_string_equal(head_of(&beyond, true),
                        "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */1000\r\nContent-Length: 0\r\n"
                        "ETag: " ETAG "\r\nAccept-Ranges: bytes\r\nX-Updraft-Reason: newer\r\nDate: " DATE "\r\n"
                        "Connection: keep-alive\r\n\r\n");
    struct http_answer same = answer_image(&image, NULL, ETAG, NULL);
    assert_string_equal(head_of(&same, true), "HTTP/1.1 304 Not Modified\r\nETag: " ETAG "\r\nAccept-Ranges: bytes\r\n"
                                              "X-Updraft-Reason: newer\r\nDate: " DATE "\r\n"
                                              "Connection: keep-alive\r\n\r\n");
}

static const struct {
    const char *range;
    unsigned status;
    uint64_t first, length;
} ranges[] = {
    { "bytes=0-", 206, 0, 1000 }, /* esp_https_ota resuming from nothing: a 200 would make it start over */
    { "bytes=0-0", 206, 0, 1 },
    { "bytes=0-999", 206, 0, 1000 },
    { "bytes=500-1000", 206, 500, 500 }, /* esp_https_ota asks one byte too far */
    { "bytes=500-18446744073709551615", 206, 500, 500 },
    { "bytes=999-", 206, 999, 1 },
    { "bytes=999-999", 206, 999, 1 },
    { "bytes=-1", 206, 999, 1 },
    { "bytes=-1000", 206, 0, 1000 },
    { "bytes=-1001", 206, 0, 1000 }, /* more than there is: all of it */
    { "bytes=-18446744073709551615", 206, 0, 1000 },
    { "bytes= 10 - 19 ", 206, 10, 10 },
    { "bytes=1000-", 416, 0, 0 },
    { "bytes=1000-1000", 416, 0, 0 },
    { "bytes=18446744073709551615-", 416, 0, 0 },
    { "bytes=-0", 416, 0, 0 },
    /* what cannot be read, or is not served, is as good as not asked for */
    { "bytes=", 200, 0, 1000 },
    { "bytes=-", 200, 0, 1000 },
    { "bytes=5", 200, 0, 1000 },
    { "bytes=20-10", 200, 0, 1000 },
    { "bytes=0-1,5-6", 200, 0, 1000 },
    { "bytes=0-1-2", 200, 0, 1000 },
    { "bytes=a-b", 200, 0, 1000 },
    { "bytes=+1-2", 200, 0, 1000 },
    { "bytes=0x1-2", 200, 0, 1000 },
    { "bytes=--1", 200, 0, 1000 },
    { "bytes=18446744073709551616-", 200, 0, 1000 }, /* else it would wrap round to the first byte */
    { "sectors=0-1", 200, 0, 1000 },
    { "", 200, 0, 1000 },
};

/* Else a resumed image would be put together from wrong pieces, or a read go beyond the image. */
static void test_ranges(void **state)
{
    (void)state;
    struct image image = image_of("a.bin");
    for (size_t i = 0; i < COUNT_OF(ranges); i++) {
        struct http_answer answer = answer_image(&image, ranges[i].range, NULL, NULL);
        bool same = answer.status == ranges[i].status &&
                    (answer.status == 416 || (answer.first == ranges[i].first && answer.length == ranges[i].length));
        if (!same) {
            fail_msg("%s: %u, %lu bytes from %lu", ranges[i].range, answer.status, (unsigned long)answer.length,
                     (unsigned long)answer.first);
        }
        assert_true(answer.image == &image);
    }
}

static const struct {
    const char *range, *if_none_match, *if_range;
    unsigned status;
} conditions[] = {
    { NULL, ETAG, NULL, 304 },
    { NULL, "W/" ETAG, NULL, 304 }, /* proxies that compress make it weak */
    { NULL, "*", NULL, 304 },
    { NULL, "\"x\", " ETAG, NULL, 304 },
    { NULL, " " ETAG "\t,\"x\"", NULL, 304 },
    { NULL, ",," ETAG, NULL, 304 },
    { "bytes=0-1", ETAG, NULL, 304 }, /* the condition comes first */
    { NULL, "\"00112233445566778899aabbccddeef0\"", NULL, 200 },
    { NULL, "00112233445566778899aabbccddeeff", NULL, 200 }, /* a tag has quotes */
    { NULL, "\"00112233445566778899AABBCCDDEEFF\"", NULL, 200 },
    { NULL, "", NULL, 200 },
    { NULL, ",", NULL, 200 },
    { NULL, "W/", NULL, 200 },
    { "bytes=0-1", NULL, ETAG, 206 },
    { "bytes=0-1", NULL, "W/" ETAG, 200 }, /* a weak tag does not vouch for bytes */
    { "bytes=0-1", NULL, "\"x\"", 200 },   /* another image meanwhile: else the pieces would not fit together */
    { "bytes=0-1", NULL, DATE, 200 },
    { "bytes=0-1", NULL, "", 200 },
    { "bytes=2000-", NULL, "\"x\"", 200 },
};

static void test_conditions(void **state)
{
    (void)state;
    struct image image = image_of("a.bin");
    for (size_t i = 0; i < COUNT_OF(conditions); i++) {
        struct http_answer answer =
            answer_image(&image, conditions[i].range, conditions[i].if_none_match, conditions[i].if_range);
        if (answer.status != conditions[i].status) {
            fail_msg("Range %s, If-None-Match %s, If-Range %s: %u", conditions[i].range, conditions[i].if_none_match,
                     conditions[i].if_range, answer.status);
        }
    }
}

/* --- names of files ---------------------------------------------------------------------------------------------- */

static const struct {
    const char *path, *name;
} names[] = {
    { "a.bin", "a.bin" },
    { "d1_mini/1.0.bin", "1.0.bin" },
    { "a/b\r\nX-Forged: 1.bin", "b__X-Forged:_1.bin" }, /* else it would be a header */
    { "a\"; filename=\"b.bin", "a_;_filename=_b.bin" },
    { "a\\b.bin", "a_b.bin" },
    { "\xc3\xa4.bin", "__.bin" },
    { "a\x7f\x01.bin", "a__.bin" },
    { "folder/", "" },
};

static void test_names_of_files(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char expected[200];
        struct image image = image_of(names[i].path);
        struct http_answer answer = answer_image(&image, NULL, NULL, NULL);
        const char *head = head_of(&answer, false);
        snprintf(expected, sizeof expected, "\r\nContent-Disposition: attachment; filename=\"%s\"\r\n", names[i].name);
        if (strstr(head, expected) == NULL) {
            fail_msg("%s: %s", names[i].path, head);
        }
    }
}

/* Everything at its longest still fits the head. */
static void test_longest_head(void **state)
{
    (void)state;
    char path[301];
    memset(path, 'a', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    struct image image = image_of(path);
    image.build.facts.file_bytes = UINT64_MAX;
    struct http_answer answer = answer_image(&image, "bytes=9999999999999999999-", NULL, NULL);
    assert_int_equal(answer.status, 206);
    answer.reason = REASON_NOT_AN_UPDATER;
    memset(answer.version, '1', sizeof answer.version - 1);
    answer.allow = "GET, HEAD";
    answer.retry_after_s = UINT32_MAX;
    answer.challenge = "Bearer";
    memset(answer.location, '/', sizeof answer.location - 1);
    const char *head = head_of(&answer, true);
    assert_non_null(strstr(head, "\r\nContent-Length: 8446744073709551616\r\n"));
    assert_non_null(strstr(head, "\r\nContent-Range: bytes 9999999999999999999-18446744073709551614/"
                                 "18446744073709551615\r\n"));
    const char *name = strstr(head, "filename=\"");
    assert_int_equal(strspn(name + strlen("filename=\""), "a"), 128);
}

/* --- dates ------------------------------------------------------------------------------------------------------- */

static const struct {
    int64_t seconds;
    const char *text;
} dates[] = {
    { 0, "Thu, 01 Jan 1970 00:00:00 GMT" },
    { 784111777, "Sun, 06 Nov 1994 08:49:37 GMT" }, /* RFC 9110's own */
    { 951827696, "Tue, 29 Feb 2000 12:34:56 GMT" },
    { 1798761599, "Thu, 31 Dec 2026 23:59:59 GMT" },
    { 4102444800, "Fri, 01 Jan 2100 00:00:00 GMT" },
    { 253402300799, "Fri, 31 Dec 9999 23:59:59 GMT" },
};

static void test_dates(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(dates); i++) {
        char date[HTTP_DATE_SIZE];
        http_date(dates[i].seconds, date);
        assert_string_equal(date, dates[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_heads),
        cmocka_unit_test(test_not_now),
        cmocka_unit_test(test_every_extra),
        cmocka_unit_test(test_admin_heads),
        cmocka_unit_test(test_long_text_is_cut),
        cmocka_unit_test(test_image_heads),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_conditions),
        cmocka_unit_test(test_names_of_files),
        cmocka_unit_test(test_longest_head),
        cmocka_unit_test(test_dates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
