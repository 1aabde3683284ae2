/* Words: one number for one text as long as somebody holds it, and nothing left of it afterwards. */
#include "fleet/words.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LONG_65 "0123456789012345678901234567890123456789012345678901234567890123X"

static struct slice text(const char *of)
{
    return slice_of(of);
}

/* Else two types become one, or one two. */
static void test_one_number_for_one_text(void **state)
{
    (void)state;
    struct words *words = words_new();
    word_id porch = words_take(words, text("porch")), garage = words_take(words, text("garage"));
    assert_int_not_equal(porch, garage);
    assert_int_equal(words_take(words, text("porch")), porch);
    assert_int_equal(words_find(words, text("porch")), porch);
    assert_string_equal(words_text(words, porch), "porch");
    assert_int_equal(words_find(words, text("Porch")), 0);
    assert_int_equal(words_take(words, text("")), 0);
    assert_string_equal(words_text(words, 0), "");
    assert_int_equal(words_find(words, text("")), 0);
    assert_int_equal(words_count(words), 2);
    words_free(words);
}

/* Else memory fills with what nobody holds, or what somebody holds is gone. */
static void test_counted(void **state)
{
    (void)state;
    struct words *words = words_new();
    word_id porch = words_take(words, text("porch"));
    (void)words_take(words, text("porch"));
    words_drop(words, porch);
    assert_string_equal(words_text(words, porch), "porch");
    words_drop(words, porch);
    words_drop(words, 0);
    assert_int_equal(words_count(words), 0);
    assert_int_equal(words_find(words, text("porch")), 0);
    assert_int_equal(words_take(words, text("garage")), porch); /* its number is used again */
    words_free(words);
}

/* Else a version is lost while it is written over itself. */
static void test_set(void **state)
{
    (void)state;
    struct words *words = words_new();
    word_id place = 0;
    words_set(words, &place, text("1.0"));
    word_id first = place;
    words_set(words, &place, text("1.0"));
    assert_int_equal(place, first);
    words_set(words, &place, (struct slice){ words_text(words, place), 1 }); /* a part of itself */
    assert_string_equal(words_text(words, place), "1");
    words_set(words, &place, text(""));
    assert_int_equal(place, 0);
    assert_int_equal(words_count(words), 0);
    words_free(words);
}

static void test_long_ones_are_cut(void **state)
{
    (void)state;
    struct words *words = words_new();
    word_id place = 0;
    words_set(words, &place, text(LONG_65));
    word_id first = place;
    assert_int_equal(strlen(words_text(words, place)), WORD_TEXT_MAX);
    words_set(words, &place, text(LONG_65)); /* the same, though longer than what is kept */
    assert_int_equal(place, first);
    assert_int_equal(words_find(words, text(LONG_65)), 0);
    assert_int_equal(words_find(words, (struct slice){ LONG_65, WORD_TEXT_MAX }), first);
    words_drop(words, place);
    words_free(words);
}

/* Against a plain count of each. */
static void test_against_counts(void **state)
{
    (void)state;
    enum { TEXTS = 500 };
    struct words *words = words_new();
    word_id ids[TEXTS] = { 0 };
    unsigned held[TEXTS] = { 0 };
    size_t distinct = 0;
    srand(1);
    for (int step = 0; step < 40000; step++) {
        unsigned i = (unsigned)rand() % TEXTS;
        char name[16];
        snprintf(name, sizeof name, "v%u", i);
        if (rand() % 2 == 0) {
            word_id id = words_take(words, text(name));
            assert_true(held[i] == 0 || id == ids[i]);
            ids[i] = id;
            distinct += held[i]++ == 0;
        } else if (held[i] > 0) {
            words_drop(words, ids[i]);
            distinct -= --held[i] == 0;
        }
        assert_int_equal(words_find(words, text(name)), held[i] > 0 ? ids[i] : 0);
        assert_int_equal(words_count(words), distinct);
    }
    words_free(words);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_number_for_one_text),
        cmocka_unit_test(test_counted),
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_long_ones_are_cut),
        cmocka_unit_test(test_against_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
