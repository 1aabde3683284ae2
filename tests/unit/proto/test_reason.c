/* The reasons: words that scripts may rely on, statuses that these clients understand, and a page for people that has
 * them all. */
#include "proto/reason.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Else a metric, a log search or a script would take one reason for another. */
static void test_words_are_unique_and_plain(void **state)
{
    (void)state;
    for (enum reason i = 0; i < REASON_COUNT; i++) {
        const char *word = reason_word(i);
        size_t n = strlen(word);
        assert_true(n > 0 && word[0] != '-' && word[n - 1] != '-');
        if (strspn(word, "abcdefghijklmnopqrstuvwxyz-") != n) {
            fail_msg("\"%s\" is not lower case with dashes", word);
        }
        for (enum reason k = 0; k < i; k++) {
            assert_string_not_equal(word, reason_word(k));
        }
    }
}

/* Else a client would take the answer for a failed update: it knows these four, and 401 as a password that is wrong
 * (ESP8266 core 3.0 on). */
static void test_statuses_are_those_that_updaters_know(void **state)
{
    (void)state;
    for (enum reason i = 0; i < REASON_COUNT; i++) {
        unsigned status = reason_http_status(i);
        bool of_password = i == REASON_NO_PASSWORD || i == REASON_WRONG_PASSWORD;
        assert_int_equal(status == 401, of_password);
        if (status != 200 && status != 304 && status != 403 && status != 404 && !of_password) {
            fail_msg("%s: status %u", reason_word(i), status);
        }
        /* what is sent or refused is the day's story; only "nothing to do" is routine */
        assert_true(!reason_is_routine(i) || status == 304);
    }
}

static void test_the_words_of_the_contract(void **state)
{
    (void)state;
    assert_string_equal(reason_word(REASON_NEWER), "newer");
    assert_string_equal(reason_word(REASON_UP_TO_DATE), "up-to-date");
    assert_string_equal(reason_word(REASON_LOOP_GUARD), "loop-guard");
    assert_int_equal(reason_http_status(REASON_NEWER), 200);
    assert_int_equal(reason_http_status(REASON_LOOP_GUARD), 304);
    assert_int_equal(reason_http_status(REASON_UNKNOWN_TYPE), 404);
    assert_int_equal(reason_http_status(REASON_MISSING_HEADER), 403);
}

/* Else somebody hears why, and not what to do. */
static void test_every_reason_has_a_next_step(void **state)
{
    (void)state;
    for (enum reason i = 0; i < REASON_COUNT; i++) {
        const char *next = reason_next(i);
        if (next == NULL || next[0] == '\0') {
            fail_msg("%s: proto/reason.c has no next step", reason_word(i));
        }
        /* what was refused is never right as it is */
        bool refused = reason_http_status(i) != 200 && !reason_is_routine(i);
        assert_false(refused && strncmp(next, "nothing", 7) == 0);
    }
}

static FILE *open_page(void)
{
    static const char here[] = "tests/unit/proto/test_reason.c";
    char path[4096];
    size_t root = strlen(__FILE__) - strlen(here);
    assert_string_equal(&__FILE__[root], here);
    snprintf(path, sizeof path, "%.*sdocs/reasons.md", (int)root, __FILE__);
    FILE *page = fopen(path, "r");
    if (page == NULL) {
        fail_msg("%s cannot be read", path);
    }
    return page;
}

static bool find_word(const char *word, enum reason *reason)
{
    for (*reason = 0; *reason < REASON_COUNT; ++*reason) {
        if (strcmp(reason_word(*reason), word) == 0) {
            return true;
        }
    }
    return false;
}

/* Else an operator would look up a word and find nothing, or a status that it no longer has. */
static void test_the_page_has_every_word(void **state)
{
    (void)state;
    unsigned rows[REASON_COUNT] = { 0 };
    char line[2000];
    FILE *page = open_page();
    while (fgets(line, sizeof line, page) != NULL) {
        char word[100], meaning[4];
        unsigned status;
        enum reason reason;
        if (strncmp(line, "| `", 3) != 0) {
            continue;
        }
        if (sscanf(line, "| `%99[^`]` | %u | %3c", word, &status, meaning) != 3) {
            fail_msg("not `| word | status | meaning | remedy |`: %s", line);
        }
        if (!find_word(word, &reason)) {
            fail_msg("docs/reasons.md explains \"%s\", which proto/reason.h has not", word);
        }
        if (status != reason_http_status(reason)) {
            fail_msg("docs/reasons.md gives %s the status %u, proto/reason.h %u", word, status,
                     reason_http_status(reason));
        }
        rows[reason]++;
    }
    fclose(page);
    for (enum reason i = 0; i < REASON_COUNT; i++) {
        if (rows[i] != 1) {
            fail_msg("docs/reasons.md has %u rows for \"%s\": add what it means and what to do", rows[i],
                     reason_word(i));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_are_unique_and_plain), cmocka_unit_test(test_statuses_are_those_that_updaters_know),
        cmocka_unit_test(test_the_words_of_the_contract),  cmocka_unit_test(test_every_reason_has_a_next_step),
        cmocka_unit_test(test_the_page_has_every_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
