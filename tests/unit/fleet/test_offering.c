/* Offerings: a type's line says who is offered its new images, all others go by the fallback, and a wrong line changes
 * nothing. */
#include "fleet/offering.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])
#define TEXT_64         "0123456789012345678901234567890123456789012345678901234567890123"

static void add(struct offerings *offerings, const char *type, const char *word)
{
    const char *why = "";
    enum status status = offerings_add_line(offerings, slice_of(type), slice_of(word), &why);
    if (status != STATUS_OK) {
        fail_msg("%s = %s: %s", type, word, why);
    }
}

/* Else a fleet gets an image before its operator has said so, or never. */
static void test_a_line_wins_over_the_fallback(void **state)
{
    (void)state;
    for (enum offering fallback = OFFER_NEWEST_TO_ALL; fallback <= OFFER_PUBLISHED; fallback++) {
        struct offerings *offerings = offerings_new(fallback);
        assert_int_equal(offerings_of(offerings, slice_of("door")), fallback);
        add(offerings, "door", "published");
        add(offerings, "gate", "newest");
        add(offerings, TEXT_64, "published");
        assert_int_equal(offerings_of(offerings, slice_of("door")), OFFER_PUBLISHED);
        assert_int_equal(offerings_of(offerings, slice_of("gate")), OFFER_NEWEST_TO_ALL);
        assert_int_equal(offerings_of(offerings, slice_of(TEXT_64)), OFFER_PUBLISHED);
        assert_int_equal(offerings_of(offerings, (struct slice){ "doors", 4 }), OFFER_PUBLISHED); /* not terminated */
        assert_int_equal(offerings_of(offerings, slice_of("Door")), fallback);
        assert_int_equal(offerings_of(offerings, slice_of("doors")), fallback);
        assert_int_equal(offerings_of(offerings, slice_of("")), fallback);
        assert_int_equal(offerings_of(offerings, (struct slice){ NULL, 0 }), fallback);
        offerings_free(offerings);
    }
    offerings_free(NULL);
}

static const struct {
    const char *type, *word;
    enum status status;
    const char *why;
} refused[] = {
    { "gate", "", STATUS_INVALID, "write newest or published" },
    { "gate", "Published", STATUS_INVALID, "write newest or published" },
    { "gate", "newest published", STATUS_INVALID, "write newest or published" },
    { "", "newest", STATUS_TOO_LONG, "a type has 1 to 64 characters" },
    { TEXT_64 "x", "newest", STATUS_TOO_LONG, "a type has 1 to 64 characters" },
    { "door", "newest", STATUS_BUSY, "this type stands in [offer] already: delete one of the two lines" },
};

static void test_refused_lines_change_nothing(void **state)
{
    (void)state;
    struct offerings *offerings = offerings_new(OFFER_NEWEST_TO_ALL);
    add(offerings, "door", "published");
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        const char *why = "";
        enum status status = offerings_add_line(offerings, slice_of(refused[i].type), slice_of(refused[i].word), &why);
        if (status != refused[i].status || strcmp(why, refused[i].why) != 0) {
            fail_msg("%s = %s: %s, \"%s\"", refused[i].type, refused[i].word, status_name(status), why);
        }
    }
    assert_int_equal(offerings_of(offerings, slice_of("door")), OFFER_PUBLISHED); /* the first line stands */
    assert_int_equal(offerings_of(offerings, slice_of("gate")), OFFER_NEWEST_TO_ALL);
    offerings_free(offerings);
}

static void gather(void *owner, const char *type, enum offering offering)
{
    char *seen = owner;
    size_t used = strlen(seen);
    snprintf(seen + used, 200 - used, "%s %s;", type, offering_word(offering));
}

/* A file says its lines before the flags say the fallback. */
static void test_the_fallback_may_come_last(void **state)
{
    (void)state;
    char seen[200] = "";
    struct offerings *offerings = offerings_new(OFFER_NEWEST_TO_ALL);
    add(offerings, "gate", "newest");
    add(offerings, "door", "published");
    offerings_set_fallback(offerings, OFFER_PUBLISHED);
    assert_int_equal(offerings_of(offerings, slice_of("gate")), OFFER_NEWEST_TO_ALL);
    assert_int_equal(offerings_of(offerings, slice_of("porch")), OFFER_PUBLISHED);
    offerings_each(offerings, gather, seen);
    assert_string_equal(seen, "gate newest;door published;");
    offerings_free(offerings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_line_wins_over_the_fallback),
        cmocka_unit_test(test_refused_lines_change_nothing),
        cmocka_unit_test(test_the_fallback_may_come_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
