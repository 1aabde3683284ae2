/* What an operator types, and what of it a verb gets to see.
 *
 * The hard thing is the border between flag, value and word; and that a MAC typed in any usual form is one and the
 * same.
 */
#include "cli/args.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct flag flags[] = {
    { "type", FLAG_TEXT, "T", "" },       { "mode", FLAG_CHOICE, "sketch|fs", "" },
    { "mac", FLAG_MAC, "MAC", "" },       { "to", FLAG_MACS, "MAC,...", "" },
    { "md5", FLAG_MD5, "MD5", "" },       { "sha256", FLAG_SHA256, "S", "" },
    { "flash", FLAG_BYTES, "SIZE", "" },  { "timeout", FLAG_TIMEOUT, "S", "" },
    { "window", FLAG_SECONDS, "S", "" },  { "expires", FLAG_SPAN, "TIME", "" },
    { "percent", FLAG_PERCENT, "P", "" }, { "max-failures", FLAG_SHARE, "P", "" },
    { "few", FLAG_FEW, "N", "" },         { "many", FLAG_MANY, "N", "" },
    { "plan", FLAG_SWITCH, "", "" },      COMMON_FLAGS,
};

static struct args args;
static bool dash_words;
static char message[1024];

#define PARSE(...) parse((const char *[]){ __VA_ARGS__, NULL })

static bool parse(const char *const *argv)
{
    int argc = 0;
    while (argv[argc] != NULL) {
        argc++;
    }
    args_close(&args);
    return args_parse(&args, flags, dash_words, argc, argv, message, sizeof message);
}

static int teardown(void **state)
{
    (void)state;
    args_close(&args);
    return 0;
}

/* Else a verb would send what the server does not know the device by. */
static void test_every_usual_form_of_a_mac_is_one(void **state)
{
    (void)state;
    static const char *const forms[] = {
        "5c:cf:7f:b1:e0:42", "5C:CF:7F:B1:E0:42", "5C-CF-7F-b1-e0-42",
        "5ccf.7fb1.e042",    "5c.cf.7f.b1.e0.42", "5ccf7fb1e042",
    };
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        char form[32];
        snprintf(form, sizeof form, "%s", forms[i]);
        assert_true(PARSE("--mac", form));
        assert_string_equal(args_get(&args, "mac"), "5ccf7fb1e042");
    }
}

/* Else a slip of the finger would update another device, or all of a group. */
static void test_what_is_no_mac_is_refused(void **state)
{
    (void)state;
    static const char *const slips[] = {
        "5c:cf:7f:b1:e0:4",   "5c:cf:7f:b1:e0:421", "5c:cf-7f:b1:e0:42", "5c:cf:7f:b1:e0:4g", "5ccf7fb1e04",
        "5ccf:7fb1:e042",     "00:00:00:00:00:00",  "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "5c cf 7f b1 e0 42",
        "5c:cf:7f:b1:e0::42", "5cxcfx7fxb1xe0x42",  "5c:cf:7f:b1:e042:", ":5:cf:7f:b1:e0:42", "d1_mini",
    };
    for (size_t i = 0; i < sizeof slips / sizeof slips[0]; i++) {
        char slip[32];
        snprintf(slip, sizeof slip, "%s", slips[i]);
        assert_false(PARSE("--mac", slip));
        assert_non_null(strstr(message, "such as 5c:cf:7f:b1:e0:42"));
    }
}

static void test_several_macs_each_once(void **state)
{
    (void)state;
    assert_true(PARSE("--to", "5c:cf:7f:b1:e0:42, 5CCF7FB1E043,5c-cf-7f-b1-e0-42"));
    assert_string_equal(args_get(&args, "to"), "5ccf7fb1e042,5ccf7fb1e043");
    assert_false(PARSE("--to", "5c:cf:7f:b1:e0:42,"));
    assert_false(PARSE("--to", ",5c:cf:7f:b1:e0:42"));
    assert_false(PARSE("--to", "5c:cf:7f:b1:e0:42;5c:cf:7f:b1:e0:43"));
}

static void test_values_come_in_one_form(void **state)
{
    (void)state;
    assert_true(PARSE("--flash", "4M", "--timeout=5m", "--md5", "E4FE53CB9D0F50D4A7B639CDA839C186", "--mode", "fs"));
    assert_string_equal(args_get(&args, "flash"), "4194304");
    assert_string_equal(args_get(&args, "timeout"), "300");
    assert_string_equal(args_get(&args, "md5"), "e4fe53cb9d0f50d4a7b639cda839c186");
    assert_string_equal(args_get(&args, "mode"), "fs");
    assert_true(PARSE("--timeout", "90"));
    assert_string_equal(args_get(&args, "timeout"), "90");
    assert_true(PARSE("--timeout", "1", "--window", "0"));
    assert_string_equal(args_get(&args, "window"), "0");
    assert_true(PARSE("--timeout", "24h", "--window", "86400s"));
    assert_string_equal(args_get(&args, "timeout"), args_get(&args, "window"));
    assert_true(PARSE("--expires", "90d"));
    assert_string_equal(args_get(&args, "expires"), "7776000");
    assert_true(PARSE("--expires=36h"));
    assert_string_equal(args_get(&args, "expires"), "129600");
    assert_true(PARSE("--percent", "100%", "--max-failures=0", "--few", "0", "--many", "100000"));
    assert_string_equal(args_get(&args, "percent"), "100");
    assert_string_equal(args_get(&args, "max-failures"), "0");
    assert_true(PARSE("--percent", "1", "--max-failures=20%"));
    assert_string_equal(args_get(&args, "max-failures"), "20");
}

static void test_values_that_cannot_be_used(void **state)
{
    (void)state;
    static const struct {
        const char *argument, *said;
    } cases[] = {
        { "--mode=s", "give one of sketch|fs" },
        { "--mode=sketch|fs", "give one of sketch|fs" },
        { "--mode=", "--mode is empty" },
        { "--timeout=1.5", "give whole seconds" },
        { "--timeout=500ms", "give whole seconds" },
        { "--timeout=-1", "give whole seconds" },
        { "--timeout=99999999999999999999", "give whole seconds" },
        { "--timeout=0", "from 1s to 24h" },
        { "--timeout=0ms", "from 1s to 24h" },
        { "--timeout=86401", "from 1s to 24h" },
        { "--window=86401s", "from 0 to 24h" },
        { "--flash=0", "from 1 to" },
        { "--expires=90", "such as 30m" },
        { "--expires=0d", "such as 30m" },
        { "--expires=d", "such as 30m" },
        { "--expires=36501d", "such as 30m" },
        { "--expires=-1d", "such as 30m" },
        { "--expires=1500ms", "such as 30m" },
        { "--percent=0", "from 1 to 100" },
        { "--percent=101%", "from 1 to 100" },
        { "--percent=%", "from 1 to 100" },
        { "--percent=10%%", "from 1 to 100" },
        { "--max-failures=-1", "from 0 to 100" },
        { "--few=10001", "from 0 to 10000" },
        { "--few=5%", "from 0 to 10000" },
        { "--many=0", "from 1 to 100000" },
        { "--flash=8G", "give a size" },
        { "--md5=e4fe53cb9d0f50d4a7b639cda839c18", "32 hexadecimal digits" },
        { "--sha256=e4fe53cb9d0f50d4a7b639cda839c186", "64 hexadecimal digits" },
        { "--plan=yes", "takes no value: leave \"=yes\" out" },
        { "--type", "--type needs a value: --type T" },
        { "--tpye=x", "unknown flag --tpye: did you mean --type?" },
        { "--pl", "did you mean --plan?" },
        { "--canary=1", "unknown flag --canary: --help" },
        { "-t", "unknown flag -t" },
        { "--", NULL },
        { "-", NULL }, /* a word: files are called so */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char argument[64];
        snprintf(argument, sizeof argument, "%s", cases[i].argument);
        message[0] = '\0';
        assert_int_equal(PARSE(argument), cases[i].said == NULL);
        assert_true(cases[i].said == NULL || strstr(message, cases[i].said) != NULL);
    }
}

/* Else `--type --plan` would publish to a type called "--plan". */
static void test_a_flag_is_no_value(void **state)
{
    (void)state;
    assert_false(PARSE("--type", "--plan"));
    assert_true(PARSE("--type=--plan"));
    assert_string_equal(args_get(&args, "type"), "--plan");
    assert_false(args_has(&args, "plan"));
}

static void test_given_twice_is_a_mistake(void **state)
{
    (void)state;
    assert_false(PARSE("--type", "a", "--type", "b"));
    assert_non_null(strstr(message, "--type is given twice"));
    assert_false(PARSE("--to", "5ccf7fb1e042", "--to", "5ccf7fb1e043"));
    assert_non_null(strstr(message, "commas"));
}

static void test_words_stand_anywhere(void **state)
{
    (void)state;
    assert_true(PARSE("a", "--type", "t", "b", "--plan", "c", "--", "--mode", "-x"));
    assert_int_equal(args.word_count, 5);
    assert_string_equal(args.words[2], "c");
    assert_string_equal(args.words[3], "--mode");
    assert_false(args_has(&args, "mode"));
    assert_true(args_has(&args, "plan"));
    assert_true(PARSE("1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18",
                      "19", "20"));
    assert_false(PARSE("1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17",
                       "18", "19", "20", "21"));
}

/* Else nobody could take a device out of a group: "-kitchen" would be a flag that there is none of. */
static void test_a_dash_may_begin_a_word(void **state)
{
    (void)state;
    dash_words = true;
    assert_true(PARSE("+a", "-type", "--type", "t", "-"));
    assert_int_equal(args.word_count, 3);
    assert_string_equal(args.words[1], "-type");
    assert_false(PARSE("--typ", "x")); /* two are still a flag's */
    dash_words = false;
    assert_false(PARSE("+a", "-type"));
}

/* Else the value of a flag that stands before the verb would be taken for the verb. */
static void test_the_first_word_is_no_value(void **state)
{
    (void)state;
    const char *line[] = { "--type", "a", "--plan", "--mode=fs", "verb", "x" };
    assert_int_equal(args_first_word(flags, 6, line), 4);
    assert_int_equal(args_first_word(flags, 4, line), 4);
    const char *ended[] = { "--plan", "--", "--verb" };
    assert_int_equal(args_first_word(flags, 3, ended), 2);
    assert_int_equal(args_first_word(flags, 2, ended), 2);
    assert_int_equal(args_first_word(flags, 0, ended), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_usual_form_of_a_mac_is_one), cmocka_unit_test(test_what_is_no_mac_is_refused),
        cmocka_unit_test(test_several_macs_each_once),           cmocka_unit_test(test_values_come_in_one_form),
        cmocka_unit_test(test_values_that_cannot_be_used),       cmocka_unit_test(test_a_flag_is_no_value),
        cmocka_unit_test(test_given_twice_is_a_mistake),         cmocka_unit_test(test_words_stand_anywhere),
        cmocka_unit_test(test_a_dash_may_begin_a_word),          cmocka_unit_test(test_the_first_word_is_no_value),
    };
    return cmocka_run_group_tests(tests, NULL, teardown);
}
