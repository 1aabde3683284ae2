/* What a check-in proves about the transfer before it: the digest alone is proof, and silence proves nothing. */
#include "fleet/outcome.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const uint8_t old_md5[16] = { 1 }, new_md5[16] = { 2 }, third_md5[16] = { 3 };

/* What it is; what it was before; what it says now. */
static const struct {
    const char *name;
    enum outcome before;
    bool transfer, fs;
    const uint8_t *md5; /* NULL = not said */
    bool runs_sent;
    const char *version, *version_before;
    enum outcome proves;
    bool wrong_label;
} cases[] = {
    { "nothing was sent", OUTCOME_NONE, false, false, new_md5, false, "2.0", "1.0", OUTCOME_NONE, false },
    { "it runs it", OUTCOME_OPEN, true, false, new_md5, true, "2.0", "1.0", OUTCOME_CONFIRMED, false },
    { "and calls itself otherwise", OUTCOME_OPEN, true, false, new_md5, true, "1.0", "1.0", OUTCOME_CONFIRMED, true },
    { "or spells it otherwise", OUTCOME_OPEN, true, false, new_md5, true, "v2_0", "1.0", OUTCOME_CONFIRMED, false },
    { "or calls itself nothing", OUTCOME_OPEN, true, false, new_md5, true, "", "1.0", OUTCOME_CONFIRMED, false },
    { "the old build, by the new name", OUTCOME_OPEN, true, false, old_md5, false, "2.0", "1.0", OUTCOME_OLD_BUILD,
      false },
    { "the old build", OUTCOME_OPEN, true, false, old_md5, false, "1.0", "1.0", OUTCOME_OLD_BUILD, false },
    { "a third build", OUTCOME_OPEN, true, false, third_md5, false, "3.0", "1.0", OUTCOME_OTHER_BUILD, false },
    { "confirmed again", OUTCOME_CONFIRMED, true, false, new_md5, true, "2.0", "2.0", OUTCOME_NONE, false },
    { "it went back", OUTCOME_CONFIRMED, true, false, old_md5, false, "1.0", "2.0", OUTCOME_ROLLED_BACK, false },
    { "somebody flashed it", OUTCOME_CONFIRMED, true, false, third_md5, false, "3.0", "2.0", OUTCOME_NONE, false },
    { "the old build again", OUTCOME_OLD_BUILD, true, false, old_md5, false, "1.0", "1.0", OUTCOME_NONE, false },
    { "back for good", OUTCOME_ROLLED_BACK, true, false, old_md5, false, "1.0", "1.0", OUTCOME_NONE, false },
    { "after all", OUTCOME_OLD_BUILD, true, false, new_md5, true, "2.0", "1.0", OUTCOME_CONFIRMED, false },
    { "though it said it failed", OUTCOME_REPORTED, true, false, new_md5, true, "2.0", "1.0", OUTCOME_CONFIRMED,
      false },
    { "cut, and asks again", OUTCOME_CUT, true, false, old_md5, false, "1.0", "1.0", OUTCOME_NONE, false },
    { "cut, and has it all the same", OUTCOME_CUT, true, false, new_md5, true, "2.0", "1.0", OUTCOME_CONFIRMED, false },
    { "the file system sent", OUTCOME_OPEN, true, true, NULL, true, "2.0", "1.0", OUTCOME_CONFIRMED, false },
    { "its version as before", OUTCOME_OPEN, true, true, NULL, false, "1.0", "1.0", OUTCOME_OLD_BUILD, false },
    { "the sketch's digest tells nothing of it", OUTCOME_OPEN, true, true, old_md5, true, "2.0", "1.0",
      OUTCOME_CONFIRMED, false },
    { "a file system without a version", OUTCOME_OPEN, true, true, NULL, false, "", "", OUTCOME_NONE, false },
    { "no digest, the version sent", OUTCOME_OPEN, true, false, NULL, true, "2.0", "1.0", OUTCOME_CONFIRMED, false },
    { "no digest, the version before", OUTCOME_OPEN, true, false, NULL, false, "1.0", "1.0", OUTCOME_OLD_BUILD, false },
    { "no digest, a third version", OUTCOME_OPEN, true, false, NULL, false, "3.0", "1.0", OUTCOME_OTHER_BUILD, false },
    { "neither digest nor version", OUTCOME_OPEN, true, false, NULL, false, "", "1.0", OUTCOME_NONE, false },
};

/* Else devices fail that run it, or are confirmed that do not. */
static void test_proofs(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct device_transfer sent = { .outcome = (uint8_t)cases[i].before, .unix_s = cases[i].transfer ? 1000 : 0 };
        memcpy(sent.before, old_md5, sizeof sent.before);
        struct outcome_case the_case = { .sent = &sent,
                                         .md5_before = cases[i].before == OUTCOME_CONFIRMED ? new_md5 : old_md5,
                                         .fs = cases[i].fs,
                                         .md5 = cases[i].md5,
                                         .runs_sent = cases[i].runs_sent,
                                         .version = slice_of(cases[i].version),
                                         .version_before = slice_of(cases[i].version_before),
                                         .sent_version = slice_of("2.0"),
                                         .knows_sent = true };
        struct outcome_verdict verdict;
        outcome_judge(&the_case, &verdict);
        if (verdict.outcome != cases[i].proves || verdict.wrong_label != cases[i].wrong_label) {
            fail_msg("%s: %s%s, not %s", cases[i].name, outcome_word(verdict.outcome),
                     verdict.wrong_label ? " by a wrong label" : "", outcome_word(cases[i].proves));
        }
        bool says = outcome_is_failure(verdict.outcome) || verdict.wrong_label;
        assert_int_equal(verdict.detail[0] != '\0', says);
    }
}

/* Else a device without a record of its digest before counts as rolled back when it is flashed by cable. */
static void test_nothing_known_before(void **state)
{
    (void)state;
    struct device_transfer sent = { .outcome = OUTCOME_OPEN, .unix_s = 1000 };
    struct outcome_case the_case = { .sent = &sent, .md5 = old_md5, .sent_version = slice_of("2.0") };
    struct outcome_verdict verdict;
    outcome_judge(&the_case, &verdict);
    assert_int_equal(verdict.outcome, OUTCOME_OTHER_BUILD);
    assert_non_null(strstr(verdict.detail, "nobody can tell"));
}

/* Else hostile texts break the line of a log. */
static void test_texts_are_escaped(void **state)
{
    (void)state;
    char version[WORD_TEXT_MAX + 1];
    memset(version, '\n', WORD_TEXT_MAX);
    version[WORD_TEXT_MAX] = '\0';
    struct device_transfer sent = { .outcome = OUTCOME_OPEN, .unix_s = 1000 };
    struct outcome_case the_case = { .sent = &sent,
                                     .md5_before = old_md5,
                                     .md5 = third_md5,
                                     .version = slice_of(version),
                                     .sent_version = slice_of(version),
                                     .knows_sent = true };
    struct outcome_verdict verdict;
    outcome_judge(&the_case, &verdict);
    assert_null(strchr(verdict.detail, '\n'));
}

static void test_faults(void **state)
{
    (void)state;
    assert_true(outcome_is_failure(OUTCOME_CUT) && !outcome_is_images_fault(OUTCOME_CUT));
    assert_true(outcome_is_images_fault(OUTCOME_OLD_BUILD) && outcome_is_images_fault(OUTCOME_ROLLED_BACK));
    assert_false(outcome_is_failure(OUTCOME_CONFIRMED) || outcome_is_failure(OUTCOME_SILENT));
    assert_false(outcome_is_failure(OUTCOME_NONE) || outcome_is_failure(OUTCOME_OPEN));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_proofs),
        cmocka_unit_test(test_nothing_known_before),
        cmocka_unit_test(test_texts_are_escaped),
        cmocka_unit_test(test_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
