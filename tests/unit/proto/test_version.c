/* The order of versions: the cases people complained about, and the laws of an order over strings that nearly
 * collide.
 *
 * Where a case here fails, a fleet is downgraded or flashed in a circle.
 */
#include "proto/version.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

static struct version parsed(const char *text)
{
    struct version version;
    if (version_parse(slice_of(text), &version) != STATUS_OK) {
        fail_msg("\"%s\" is no version", text);
    }
    return version;
}

static int sign(int order)
{
    return (order > 0) - (order < 0);
}

static int order_of(const char *a, const char *b)
{
    struct version left = parsed(a);
    struct version right = parsed(b);
    int order = sign(version_compare(&left, &right));
    assert_int_equal(sign(version_compare(&right, &left)), -order);
    return order;
}

static const char *const ascending[][2] = {
    /* numbers are numbers, never strings or floats */
    { "0_4_9", "0_4_10" },
    { "0_4_10", "0_5_0" },
    { "1.6.0", "1.11.0" },
    { "3.9", "3.11" },
    { "9", "10" },
    { "1.2", "1.2.1" },
    { "1.2.9", "1.3" },
    { "2.0", "10.0" },
    /* pre-releases precede */
    { "3.2.2beta", "3.2.2" },
    { "3.2.1", "3.2.2beta" },
    { "1.0-rc2", "1.0" },
    { "1.0rc2", "1.0rc10" },
    { "1.0alpha1", "1.0beta1" },
    { "1.2a1", "1.2" },
    { "1.2b2", "1.2" },
    { "1_0_dev", "1_0" },
    { "1.0-unheardof", "1.0" },
    { "1.0~rc1", "1.0" },
    /* what follows follows */
    { "1.2", "1.2a" },
    { "1.2a", "1.2b" },
    { "1.2b", "1.2.1" },
    { "1.2", "1.2p1" },
    { "1.2p1", "1.2p10" },
    { "1.2", "1.2-patch3" },
    { "1.2", "1.2.post1" },
    { "1.2", "1.2r7" },
    { "1.2", "1.2_rev2" },
    { "1.2", "1.2 Hotfix" },
    { "1.2", "1.2SP1" },
    { "1.2rc9", "1.2final" },
    { "1.2final", "1.2.1rc1" },
    { "1.2beta", "1.2a" },
    { "1.0-3-g14f53a19", "1.0-4-g14f53a19" },
    /* dates */
    { "2024-01-09", "2024-01-10" },
    { "20231231", "20240101" },
    { "2024.9.1", "2024.10.1" },
    { "2024_01_15", "2024_01_15_2" },
    /* numbers of any length */
    { "1.99999999999999999999", "1.100000000000000000000" },
    { "18446744073709551615", "18446744073709551616" },
    { "4294967295.1", "4294967296.0" },
    /* names without a number in front come before all numbers */
    { "DOOR-7-g14f53a19", "DOOR-8-g00000000" },
    { "DOOR-7-g14f53a19", "0" },
    { "DOOR-7-g14f53a19", "0.0.1-alpha" },
    { "door7", "0beta" },
    /* semver.org, precedence, and its whole identifiers */
    { "1.0.0", "2.0.0" },
    { "2.0.0", "2.1.0" },
    { "2.1.0", "2.1.1" },
    { "1.0.0-alpha", "1.0.0-alpha.1" },
    { "1.0.0-alpha.1", "1.0.0-alpha.beta" },
    { "1.0.0-alpha.beta", "1.0.0-beta" },
    { "1.0.0-beta", "1.0.0-beta.2" },
    { "1.0.0-beta.2", "1.0.0-beta.11" },
    { "1.0.0-beta.11", "1.0.0-rc.1" },
    { "1.0.0-rc.1", "1.0.0" },
    { "1.0.0-rc10", "1.0.0-rc2" },
    { "1.0.0-0", "1.0.0-1" },
    { "1.0.0-999", "1.0.0-a" },
    { "1.0.0-patch1", "1.0.0" },
    { "1.0.0-a-b", "1.0.0-a-c" },
    { "v1.0.0-rc.2", "1.0.0-rc.10" },
    { "1.0.0", "1.0.0-01" }, /* a leading zero is no semantic version: it reads 1.0.0.1 */
    /* Tasmota */
    { "13.3.0.1(tasmota)", "13.4.0(tasmota)" },
    { "13.4.0(sensors)", "13.4.0.2(tasmota)" },
};

static void test_ascending(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(ascending); i++) {
        if (order_of(ascending[i][0], ascending[i][1]) >= 0) {
            fail_msg("\"%s\" does not come before \"%s\"", ascending[i][0], ascending[i][1]);
        }
    }
}

static const char *const equal[][2] = {
    { "1.2", "1_2" },
    { "1.2", "1-2" },
    { "v1.2", "1.2" },
    { "V1.2", "1.2" },
    { "v1.5.0", "1.5.0" },
    { "1.2", "1.2.0" },
    { "1", "1.0.0.0" },
    { "0", "0.0.0" },
    { "01.02", "1.2" },
    { "0_4_99", "0.4.99" },
    { "2024-01-05", "2024.1.5" },
    { "1.000000000000000000000000000002", "1.2" },
    { "1.0.0+build.5", "1.0.0" },
    { "1.0.0-rc.1+exp.sha.5114f85", "1.0.0-rc.1" },
    { "1.0.0-rc.1", "1.0rc1" },
    { "1.0rc01", "1.0rc1" },
    { "13.4.0(tasmota)", "13.4.0" },
    { "13.4.0(tasmota)", "13.4.0 (tasmota-sensors)" },
    { " 1.2 ", "1.2" },
};

static void test_equal(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(equal); i++) {
        if (order_of(equal[i][0], equal[i][1]) != 0) {
            fail_msg("\"%s\" does not equal \"%s\"", equal[i][0], equal[i][1]);
        }
    }
}

static const char *const different[][2] = {
    { "1.2", "12" },       { "1.2.0", "1.2.0-0" }, { "DOOR-7-g14f53a19", "DOOR-7-g14f53a18" },
    { "0beta1", "beta1" }, { "1.20", "1.2" },      { "1.2a", "1.2a1" },
};

/* A pinned version is compared for equality: two builds taken for one would leave the pin unheeded. */
static void test_different(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(different); i++) {
        if (order_of(different[i][0], different[i][1]) == 0) {
            fail_msg("\"%s\" equals \"%s\"", different[i][0], different[i][1]);
        }
    }
}

static const struct {
    const char *text;
    enum status status;
} not_parsed[] = {
    { "", STATUS_INVALID },
    { "   ", STATUS_INVALID },
    { "beta", STATUS_INVALID },
    { "(13.4.0)", STATUS_INVALID },
    { "tasmota(13)", STATUS_INVALID },
    { "...", STATUS_INVALID },
    { "1.2\n", STATUS_INVALID },
    { "1.2\x7f", STATUS_INVALID },
    { "1.2\xc3\xa4", STATUS_INVALID },
    { "12345678901234567890123456789012345678901234567890123456789012345", STATUS_TOO_LONG },
    { "1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1", STATUS_TOO_LONG },
    { "1.0.0-a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a", STATUS_TOO_LONG },
};

static void test_not_parsed(void **state)
{
    (void)state;
    struct version untouched;
    memset(&untouched, 0x5a, sizeof untouched);
    for (size_t i = 0; i < COUNT_OF(not_parsed); i++) {
        struct version version = untouched;
        enum status status = version_parse(slice_of(not_parsed[i].text), &version);
        if (status != not_parsed[i].status) {
            fail_msg("\"%s\": %s", not_parsed[i].text, status_name(status));
        }
        assert_memory_equal(&version, &untouched, sizeof version);
    }
    assert_int_equal(version_parse((struct slice){ NULL, 0 }, &untouched), STATUS_INVALID);
}

/* The longest text and the most parts still count, or a limit would be one off. */
static void test_limits(void **state)
{
    (void)state;
    const char *longest = "1234567890123456789012345678901234567890123456789012345678901234";
    assert_int_equal(strlen(longest), VERSION_TEXT_MAX);
    assert_string_equal(parsed(longest).text, longest);
    assert_int_equal(parsed("1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1").token_count, VERSION_TOKEN_MAX);
}

static void test_text_is_kept(void **state)
{
    (void)state;
    assert_string_equal(parsed("v13.4.0(tasmota)").text, "v13.4.0(tasmota)");
}

static const char *const plain[] = {
    "0_4_99",         "0.4.99",     "1.0rc2",     "1.0-rc.2", "v1_0_0",          "1",      "1.2a",
    "1.2b3",          "2024-01-15", "1.2_hotfix", "1.2-dev",  "1.0-3-g14f53a19", "1.2SP1", "1.0.0-anything.goes",
    "1.0.0+anything",
};

static const char *const not_plain[] = {
    "32_cam_1_0", "cam_1_0", "",      "beta",        "1.2_", "1..2", "_1.2",   "1.2 beta",       "1.2(tasmota)",
    "1.2-blue",   "1.2~rc1", "v.1.2", "DOOR-7-g14f", " 1.2", "1.2 ", "1.2.3 ", "1.2.3-a_b-blue",
};

/* repo/filename splits project from version by this: what is wrongly plain becomes a version that no one
 * wrote. */
static void test_plain(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(plain); i++) {
        if (!version_is_plain(slice_of(plain[i]))) {
            fail_msg("\"%s\" is plain", plain[i]);
        }
    }
    for (size_t i = 0; i < COUNT_OF(not_plain); i++) {
        if (version_is_plain(slice_of(not_plain[i]))) {
            fail_msg("\"%s\" is not plain", not_plain[i]);
        }
    }
}

/* ---- the laws of an order ---- */

static uint64_t random_state;

static uint64_t random_next(uint64_t below)
{
    /* xorshift64*: G. Marsaglia, "Xorshift RNGs", 2003; S. Vigna's multiplier */
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (random_state * 0x2545f4914f6cdd1d >> 16) % below;
}

/* Fragments whose concatenations collide, or nearly do. */
static const char *const fragments[] = {
    "0", "1", "2", "10", "01",   "00",   "1.0",   "1.0.0", "1.0.0-", ".", ".",    "_",  "-", "+",
    "a", "b", "p", "rc", "beta", "post", "final", "v",     "(t)",    "x", "-rc.", ".0", "A", "~",
};

static struct version generated(void)
{
    for (;;) {
        char text[VERSION_TEXT_MAX + 1] = "";
        size_t used = 0;
        for (uint64_t n = 1 + random_next(7); n > 0; n--) {
            used +=
                (size_t)snprintf(text + used, sizeof text - used, "%s", fragments[random_next(COUNT_OF(fragments))]);
        }
        struct version version;
        if (version_parse(slice_of(text), &version) == STATUS_OK) {
            return version;
        }
    }
}

static int by_version(const void *a, const void *b)
{
    return version_compare(a, b);
}

static void start_random(void)
{
    const char *given = getenv("UPDRAFT_TEST_SEED");
    random_state = given != NULL ? strtoull(given, NULL, 0) | 1 : 20260115;
    print_message("seed %" PRIu64 " (UPDRAFT_TEST_SEED sets it)\n", random_state);
}

#define TRIPLE_STRINGS 160
#define SORTED_STRINGS 2500

static void check_triples(const struct version *v, size_t n)
{
    static signed char order[TRIPLE_STRINGS][TRIPLE_STRINGS];
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < n; k++) {
            order[i][k] = (signed char)sign(version_compare(&v[i], &v[k]));
        }
    }
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(order[i][i], 0);
        for (size_t k = 0; k < n; k++) {
            if (order[i][k] != -order[k][i]) {
                fail_msg("\"%s\" and \"%s\" both precede", v[i].text, v[k].text);
            }
            for (size_t m = 0; m < n; m++) {
                bool follows = order[i][k] <= 0 && order[k][m] <= 0;
                bool strictly = follows && (order[i][k] < 0 || order[k][m] < 0);
                if ((follows && order[i][m] > 0) || (strictly && order[i][m] >= 0)) {
                    fail_msg("a circle: \"%s\" \"%s\" \"%s\"", v[i].text, v[k].text, v[m].text);
                }
            }
        }
    }
}

static void test_order_over_triples(void **state)
{
    (void)state;
    start_random();
    for (int round = 0; round < 5; round++) {
        static struct version versions[TRIPLE_STRINGS];
        for (size_t i = 0; i < TRIPLE_STRINGS; i++) {
            versions[i] = generated();
        }
        check_triples(versions, TRIPLE_STRINGS);
    }
}

static void test_order_agrees_with_sorting(void **state)
{
    (void)state;
    start_random();
    static struct version versions[SORTED_STRINGS];
    for (size_t i = 0; i < SORTED_STRINGS; i++) {
        versions[i] = generated();
    }
    qsort(versions, SORTED_STRINGS, sizeof versions[0], by_version);
    size_t collisions = 0;
    for (size_t i = 0; i < SORTED_STRINGS; i++) {
        for (size_t k = i; k < SORTED_STRINGS; k++) {
            if (version_compare(&versions[i], &versions[k]) > 0) {
                fail_msg("sorted before, but follows: \"%s\" \"%s\"", versions[i].text, versions[k].text);
            }
            collisions += i != k && version_compare(&versions[i], &versions[k]) == 0;
        }
    }
    assert_true(collisions > SORTED_STRINGS); /* or the strings are too far apart to prove anything */
}

/* Else a device that writes its version otherwise than the file's name is updated for ever; or two labels that hold no
 * version are one. */
static void test_same_text(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        bool same;
    } pairs[] = {
        { "0.4.9", "0_4_9", true },
        { "v1.2", "1.2.0", true },
        { "13.4.0(tasmota)", "13.4.0", true },
        { "1.2", "1.2.1", false },
        { "1.2", "1.2beta", false },
        { "porch", "porch", true },
        { "porch", "Porch", false },
        { "porch", "1.0", false },
        { "porc", "porch", false },
        { "", "", false },
        { "", "1.0", false },
        { "DOOR-7-g14f53a19", "DOOR-7-g14f53a19", true },
        { "DOOR-7", "DOOR-8", false },
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        struct slice a = slice_of(pairs[i].a), b = slice_of(pairs[i].b);
        if (version_same_text(a, b) != pairs[i].same || version_same_text(b, a) != pairs[i].same) {
            fail_msg("%s and %s are %s", pairs[i].a, pairs[i].b, pairs[i].same ? "the same" : "different");
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ascending),          cmocka_unit_test(test_equal),
        cmocka_unit_test(test_different),          cmocka_unit_test(test_same_text),
        cmocka_unit_test(test_not_parsed),         cmocka_unit_test(test_limits),
        cmocka_unit_test(test_text_is_kept),       cmocka_unit_test(test_plain),
        cmocka_unit_test(test_order_over_triples), cmocka_unit_test(test_order_agrees_with_sorting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
