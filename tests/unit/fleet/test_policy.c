/* What an operator has said of devices: who is in which group, and what goes for one device when it asks. */
#include "fleet/policy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct book {
    struct words *words;
    struct policies *policies;
};

static struct book book_new(void)
{
    struct book book = { .words = words_new() };
    book.policies = policies_new(book.words);
    return book;
}

static void book_free(struct book *book)
{
    policies_free(book->policies);
    assert_int_equal(words_count(book->words), 0); /* whoever took a word let go of it */
    words_free(book->words);
}

static struct mac mac_of(unsigned i)
{
    return (struct mac){ { 0x5c, 0xcf, 0x7f, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i } };
}

static const struct policy_entry *find(const struct book *book, unsigned i)
{
    struct mac mac = mac_of(i);
    return policies_find(book->policies, &mac);
}

/* As the server does: the entry as it is, changed, and set. */
static struct policy_entry entry_of(const struct book *book, unsigned i)
{
    const struct policy_entry *found = find(book, i);
    return found != NULL ? *found : (struct policy_entry){ .mac = mac_of(i) };
}

/* Sets it, and lets go of the words that were taken for it. */
static enum status set(const struct book *book, const struct policy_entry *entry, word_id taken)
{
    enum status status = policies_set(book->policies, entry);
    words_drop(book->words, taken);
    return status;
}

static void join(const struct book *book, unsigned i, const char *group)
{
    struct policy_entry entry = entry_of(book, i);
    word_id word = words_take(book->words, slice_of(group));
    entry.groups[entry.group_count++] = word;
    assert_int_equal(set(book, &entry, word), STATUS_OK);
}

static void leave_all(const struct book *book, unsigned i)
{
    struct policy_entry entry = entry_of(book, i);
    entry.group_count = 0;
    assert_int_equal(set(book, &entry, 0), STATUS_OK);
}

static void pin(const struct book *book, unsigned i, const char *version)
{
    struct policy_entry entry = entry_of(book, i);
    entry.pin = words_take(book->words, slice_of(version));
    assert_int_equal(set(book, &entry, entry.pin), STATUS_OK);
}

static word_id word(const struct book *book, const char *text)
{
    return words_find(book->words, slice_of(text));
}

/* Else what is said of nobody grows for ever, or what was said is gone. */
static void test_entries(void **state)
{
    (void)state;
    struct book book = book_new();
    assert_null(find(&book, 1));
    pin(&book, 1, "1.0");
    join(&book, 1, "upstairs");
    pin(&book, 1, "1.1");
    assert_string_equal(words_text(book.words, find(&book, 1)->pin), "1.1");
    assert_int_equal(word(&book, "1.0"), 0);
    assert_true(policy_in_group(find(&book, 1), word(&book, "upstairs")));
    assert_int_equal(policies_set(book.policies, find(&book, 1)), STATUS_OK); /* by itself */
    assert_string_equal(words_text(book.words, find(&book, 1)->pin), "1.1");
    struct policy_entry nothing = { .mac = mac_of(1), .note = "no reason any more" };
    assert_int_equal(policies_set(book.policies, &nothing), STATUS_OK);
    assert_null(find(&book, 1));
    assert_int_equal(policies_set(book.policies, &nothing), STATUS_OK);
    assert_int_equal(policies_count(book.policies), 0);
    struct policy_entry blocked = { .mac = mac_of(2), .blocked = true, .note = "stolen" };
    assert_int_equal(policies_set(book.policies, &blocked), STATUS_OK);
    assert_string_equal(find(&book, 2)->note, "stolen");
    assert_ptr_equal(policies_next(book.policies, NULL), find(&book, 2));
    assert_null(policies_next(book.policies, find(&book, 2)));
    book_free(&book);
}

static size_t group(const struct book *book, const char *name, struct mac *macs)
{
    size_t count = 0;
    for (uint64_t after = 0; policies_group_next(book->policies, word(book, name), &after, &macs[count]);) {
        count++;
    }
    return count;
}

/* Else a rollout to a group reaches others, or some of it twice. */
static void test_groups(void **state)
{
    (void)state;
    struct book book = book_new();
    struct mac macs[10];
    for (unsigned i = 0; i < 6; i++) {
        join(&book, i, i % 2 == 0 ? "upstairs" : "cellar");
        join(&book, i, "all");
        join(&book, i, "all"); /* said twice */
    }
    assert_int_equal(find(&book, 0)->group_count, 2);
    assert_int_equal(policies_group_count(book.policies, word(&book, "all")), 6);
    assert_int_equal(policies_group_count(book.policies, word(&book, "attic")), 0);
    assert_int_equal(group(&book, "upstairs", macs), 3);
    assert_true(macs[1].bytes[5] == 2 && macs[2].bytes[5] == 4);
    assert_int_equal(group(&book, "attic", macs), 0);
    assert_false(policy_in_group(find(&book, 0), word(&book, "cellar")));
    assert_false(policy_in_group(NULL, word(&book, "cellar")));
    assert_false(policy_in_group(find(&book, 0), 0));
    word_id names[2];
    size_t counts[2], total = 0;
    assert_int_equal(policies_groups(book.policies, 0, names, counts, 2, &total), 2);
    assert_int_equal(total, 3);
    assert_string_equal(words_text(book.words, names[0]), "all"); /* by name */
    assert_string_equal(words_text(book.words, names[1]), "cellar");
    assert_int_equal(counts[1], 3);
    assert_int_equal(policies_groups(book.policies, 2, names, counts, 2, &total), 1); /* the next page */
    assert_string_equal(words_text(book.words, names[0]), "upstairs");
    assert_int_equal(policies_groups(book.policies, 3, names, counts, 2, &total), 0);
    assert_int_equal(total, 3);
    leave_all(&book, 2);
    assert_int_equal(group(&book, "upstairs", macs), 2);
    assert_null(find(&book, 2));
    for (unsigned i = 0; i < 6; i++) {
        leave_all(&book, i);
    }
    assert_int_equal(policies_groups(book.policies, 0, names, counts, 2, &total), 0);
    assert_int_equal(total, 0);
    book_free(&book);
}

static unsigned next_of_all(const struct book *book, uint64_t *after)
{
    struct mac mac = { { 0 } };
    return policies_group_next(book->policies, word(book, "all"), after, &mac) ? mac.bytes[5] : 255;
}

/* Else one who is asked for in turn is passed over when another leaves, or joins, in between. */
static void test_one_after_the_other(void **state)
{
    (void)state;
    struct book book = book_new();
    uint64_t after = 0, other = 0;
    for (unsigned i = 0; i < 8; i++) {
        join(&book, i, "all");
    }
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(next_of_all(&book, &after), i);
    }
    assert_int_equal(next_of_all(&book, &other), 0); /* somebody else asks */
    leave_all(&book, 1);
    leave_all(&book, 3);
    leave_all(&book, 5);
    assert_int_equal(next_of_all(&book, &after), 4);
    leave_all(&book, 4);
    assert_int_equal(next_of_all(&book, &after), 6);
    assert_int_equal(next_of_all(&book, &other), 2);
    join(&book, 9, "all");
    assert_int_equal(next_of_all(&book, &after), 7);
    assert_int_equal(next_of_all(&book, &after), 9);
    assert_int_equal(next_of_all(&book, &after), 255);
    for (unsigned i = 0; i < 10; i++) {
        leave_all(&book, i);
    }
    assert_int_equal(next_of_all(&book, &other), 255);
    join(&book, 3, "all"); /* a new group of the name */
    assert_int_equal(next_of_all(&book, &other), 3);
    book_free(&book);
}

/* --- for one device ------------------------------------------------------------------------------------------------
 */

static const struct {
    const char *name;
    const char *own_type, *own_label, *pin; /* an operator's; "" = none */
    const char *config_type, *config_label; /* the configuration's; NULL = no line */
    const char *asked;                      /* "" on /update */
    const char *type, *wanted;
    bool assigned, pinned, by_operator;
} cases[] = {
    { "nothing is said", "", "", "", NULL, NULL, "porch", "", "", false, false, false },
    { "the configuration says a type", "", "", "", "porch", "", "", "porch", "", true, false, false },
    { "and a label", "", "", "", "porch", "1.0", "porch", "porch", "1.0", true, false, false },
    { "of another type than was asked", "", "", "", "garage", "1.0", "porch", "", "", false, false, false },
    { "a label of no type", "", "", "", "", "DOOR-7", "porch", "", "DOOR-7", true, false, false },
    { "the operator goes before", "garage", "2.0", "", "porch", "1.0", "", "garage", "2.0", true, false, true },
    { "as a whole: a type alone is its newest", "garage", "", "", "garage", "1.0", "", "garage", "", true, false,
      true },
    { "also where it does not speak", "garage", "2.0", "", "porch", "1.0", "porch", "", "", false, false, false },
    { "a pin goes before any label", "", "", "0.9", "porch", "1.0", "porch", "porch", "0.9", true, true, true },
    { "and before the operator's own", "porch", "2.0", "0.9", NULL, NULL, "porch", "porch", "0.9", true, true, true },
    { "a pin names no type", "", "", "0.9", NULL, NULL, "", "", "0.9", false, true, true },
};

/* Else a device runs what nobody said, or a word in the configuration undoes an operator's. */
static void test_for_one_device(void **state)
{
    (void)state;
    struct book book = book_new();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct policy_entry entry = { .type = words_take(book.words, slice_of(cases[i].own_type)),
                                      .label = words_take(book.words, slice_of(cases[i].own_label)),
                                      .pin = words_take(book.words, slice_of(cases[i].pin)) };
        struct assignment assignment = { .type = "" };
        struct policy policy;
        if (cases[i].config_type != NULL) {
            snprintf(assignment.type, sizeof assignment.type, "%s", cases[i].config_type);
            snprintf(assignment.label, sizeof assignment.label, "%s", cases[i].config_label);
        }
        bool any = entry.type != 0 || entry.label != 0 || entry.pin != 0;
        policy_of(book.words, any ? &entry : NULL, cases[i].config_type != NULL ? &assignment : NULL,
                  slice_of(cases[i].asked), false, &policy);
        if (strcmp(policy.type, cases[i].type) != 0 || strcmp(policy.wanted, cases[i].wanted) != 0 ||
            policy.assigned != cases[i].assigned || policy.pinned != cases[i].pinned ||
            policy.by_operator != cases[i].by_operator) {
            fail_msg("%s: %s %s%s%s%s", cases[i].name, policy.type, policy.wanted, policy.assigned ? " assigned" : "",
                     policy.pinned ? " pinned" : "", policy.by_operator ? " by an operator" : "");
        }
        assert_false(policy.blocked || policy.unapproved);
        words_drop(book.words, entry.type);
        words_drop(book.words, entry.label);
        words_drop(book.words, entry.pin);
    }
    book_free(&book);
}

/* Else a stranger is served where strangers are to be held, or a known device is held. */
static void test_who_is_held(void **state)
{
    (void)state;
    struct book book = book_new();
    struct policy policy;
    struct policy_entry entry = { .approved = false };
    struct assignment assignment = { .type = "porch" };
    policy_of(book.words, NULL, NULL, slice_of("porch"), true, &policy);
    assert_true(policy.unapproved);
    policy_of(book.words, NULL, NULL, slice_of("porch"), false, &policy);
    assert_false(policy.unapproved);
    policy_of(book.words, &entry, NULL, slice_of("porch"), true, &policy); /* in a group: that approves nothing */
    assert_true(policy.unapproved);
    policy_of(book.words, &entry, &assignment, slice_of("porch"), true, &policy);
    assert_false(policy.unapproved);
    entry.approved = entry.blocked = true;
    policy_of(book.words, &entry, NULL, slice_of("porch"), true, &policy);
    assert_true(!policy.unapproved && policy.blocked);
    book_free(&book);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entries),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_one_after_the_other),
        cmocka_unit_test(test_for_one_device),
        cmocka_unit_test(test_who_is_held),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
