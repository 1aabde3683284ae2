/* INI files: what the operator wrote arrives as written, and a mistake is named by file, line and reason.
 *
 * The hard thing is inih beneath, which knows more syntax than we promise and cuts long lines in silence.
 */
#include "base/ini.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

/* All pairs as "section|key|value;", until a value is "fail". */
static enum status gather(void *owner, const struct ini_pair *pair, char *why, size_t size)
{
    char *seen = owner;
    size_t used = strlen(seen);
    snprintf(seen + used, 2000 - used, "%s|%s|%s;", pair->section, pair->key, pair->value);
    if (strcmp(pair->value, "fail") == 0) {
        bool has_colon = strchr(pair->key, ':') != NULL;
        snprintf(why, size, "%s%snot this one", has_colon ? pair->key : "", has_colon ? ": " : "");
        return STATUS_DENIED;
    }
    return STATUS_OK;
}

static enum status read_bytes(const char *bytes, size_t n, char seen[2000], char message[500])
{
    char path[64];
    int fd = memfd_create("test_ini", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n), n);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    seen[0] = message[0] = '\0';
    enum status status = ini_read(path, gather, seen, message, 500);
    close(fd);
    return status;
}

static const struct {
    const char *what;
    const char *text;
    const char *pairs;
} taken[] = {
    { "nothing at all", "", "" },
    { "a pair before any section", "repo = /srv\n", "|repo|/srv;" },
    { "no blanks, no line end", "repo=/srv", "|repo|/srv;" },
    { "sections", "a=1\n[assign]\nb=2\n[ other ]\nc=3\n", "|a|1;assign|b|2; other |c|3;" },
    { "a MAC for a key", "[assign]\n5C:CF:7F:B1:E0:42 = door 0.5.0\n", "assign|5C:CF:7F:B1:E0:42|door 0.5.0;" },
    { "colons of several kinds of keys", "[a:b]\n::=1\n: c : = d:e\n", "a:b|::|1;a:b|: c :|d:e;" },
    { "colons in the value", "listen = [::]:8080\n", "|listen|[::]:8080;" },
    { "a second = sign", "repo = a=b\n", "|repo|a=b;" },
    { "comments", "; a = 1\n# b = 2\nc = 3 ; said why\nd = x;y\n", "|c|3;|d|x;y;" },
    { "a ; that no blank precedes", "a =;b\nc=;d;e ;f\n", "|a|;b;|c|;d;e;" },
    { "a ; that one does", "a = ;b\nc = d\t; e\n;= 1\n", "|a|;|c|d;" },
    { "a long key", "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeee = 1\n",
      "|aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeee|1;" },
    { "a # in a value", "a = #b # c\n", "|a|#b # c;" },
    { "tabs, and letters of all languages",
      "gr\xc3\xb6\xc3\x9f"
      "e\t=\t\xe5\xa4\xa7\t!\n",
      "|gr\xc3\xb6\xc3\x9f"
      "e|\xe5\xa4\xa7\t!;" },
    { "anything in a comment", "a = 1 ; \x1b[2J\xe4\n; \x01\n# \xff\n", "|a|1;" },
    { "blanks at the beginning are no continuation", "a = 1\n   b = 2\n\t\tc = 3\n", "|a|1;|b|2;|c|3;" },
    { "nor are other blanks", "a = 1\n\rb = 2\n\v\fc = 3 ; why\n", "|a|1;|b|2;|c|3;" },
    { "lines of another system", "[s]\r\na = 1\r\n\r\nb = 2\r\n", "s|a|1;s|b|2;" },
    { "an empty value", "a =\n", "|a|;" },
    { "a byte order mark",
      "\xef\xbb\xbf"
      "a = 1\n",
      "|a|1;" },
    { "a key twice", "a = 1\na = 2\n", "|a|1;|a|2;" },
};

/* Else the server would run with another configuration than the one in the file. */
static void test_taken(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(taken); i++) {
        char seen[2000], message[500];
        enum status status = read_bytes(taken[i].text, strlen(taken[i].text), seen, message);
        if (status != STATUS_OK || strcmp(seen, taken[i].pairs) != 0) {
            fail_msg("%s: %s, \"%s\", %s", taken[i].what, status_name(status), seen, message);
        }
    }
}

#define NOT_PLAIN(line) ": line " #line ": not plain text: take control characters out, and save the file as UTF-8"

static const struct {
    const char *what;
    const char *text;
    enum status status;
    const char *message; /* behind the path */
} refused[] = {
    { "no =", "a = 1\n\n; c\nrepo\nb = 2\n", STATUS_INVALID, ": line 4: neither [section] nor key = value" },
    { "a colon instead of =", "a = 1\nrepo: /srv\n", STATUS_INVALID, ": line 2: neither [section] nor key = value" },
    { "a section that does not end", "[assign\n", STATUS_INVALID, ": line 1: neither [section] nor key = value" },
    { "the owner's refusal", "a = 1\nb = fail\nc = 3\n", STATUS_DENIED, ": line 2: not this one" },
    { "the first of two refusals", "a = fail\nb = fail\n", STATUS_DENIED, ": line 1: not this one" },
    { "a syntax error before a refusal", "a = 1\nrepo\nb = fail\n", STATUS_INVALID,
      ": line 2: neither [section] nor key = value" },
    { "a key with colons is named as typed", "5C:CF = fail\n5C:CF:7F = 1\n", STATUS_DENIED,
      ": line 1: 5C:CF: not this one" },
    { "a control character", "a = 1\nrepo = \x1b[2J\n", STATUS_INVALID, NOT_PLAIN(2) },
    { "one in a key",
      "5C\x01"
      "CF = 1\n",
      STATUS_INVALID, NOT_PLAIN(1) },
    { "one in a section", "[\x07]\n", STATUS_INVALID, NOT_PLAIN(1) },
    { "a line end of another system alone", "a = 1\rb = 2\n", STATUS_INVALID, NOT_PLAIN(1) },
    { "one in two bytes",
      "a = \xc2\x9b"
      "2J\n",
      STATUS_INVALID, NOT_PLAIN(1) },
    { "Latin-1", "\n\nrepo = /srv/\xe4pfel\n", STATUS_INVALID, NOT_PLAIN(3) },
    { "a refusal before a syntax error", "a = fail\nrepo\n", STATUS_DENIED, ": line 1: not this one" },
};

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        char seen[2000], message[500];
        enum status status = read_bytes(refused[i].text, strlen(refused[i].text), seen, message);
        const char *said = strchr(message, ':');
        if (status != refused[i].status || said == NULL || strcmp(said, refused[i].message) != 0) {
            fail_msg("%s: %s, \"%s\"", refused[i].what, status_name(status), message);
        }
        assert_true(strncmp(message, "/proc/self/fd/", 14) == 0);
    }
}

/* Else what follows a mistake would take effect although the file was refused. */
static void test_reading_stops_at_the_first_refusal(void **state)
{
    (void)state;
    char seen[2000], message[500];
    static const char text[] = "a = 1\nb = fail\nc = 3\n";
    assert_int_equal(read_bytes(text, strlen(text), seen, message), STATUS_DENIED);
    assert_string_equal(seen, "|a|1;|b|fail;");
}

/* Else a value would be cut in silence, or a line of the permitted length refused. */
static void test_line_length(void **state)
{
    (void)state;
    for (int way = 0; way < 5; way++) { /* blanks in front do not count, nor does either line end or a comment */
        for (size_t extra = 0; extra <= 1; extra++) {
            char text[600], seen[2000], message[500], expected[400];
            char value[INI_LINE_MAX + 2];
            memset(value, 'v', sizeof value);
            size_t n = INI_LINE_MAX - strlen("a = ") + extra;
            snprintf(text, sizeof text, "b = 1\n%sa = %.*s%s", way == 1 ? "      " : "", (int)n, value,
                     way == 2   ? "\r\n"
                     : way == 3 ? ""
                     : way == 4 ? "\t; as was said\n"
                                : "\n");
            snprintf(expected, sizeof expected, "|b|1;|a|%.*s;", (int)n, value);
            enum status status = read_bytes(text, strlen(text), seen, message);
            if (extra == 0) {
                assert_string_equal(message, "");
                assert_int_equal(status, STATUS_OK);
                assert_string_equal(seen, expected);
            } else {
                assert_int_equal(status, STATUS_TOO_LONG);
                assert_non_null(strstr(message, ": line 2: longer than 198 characters"));
            }
        }
    }
}

/* Else a line would be cut in silence at the NUL, and an image given by mistake be read as a configuration. */
static void test_nul_byte(void **state)
{
    (void)state;
    char seen[2000], message[500];
    static const char text[] = "a = 1\nb = 2\0 ; c\n";
    assert_int_equal(read_bytes(text, sizeof text - 1, seen, message), STATUS_INVALID);
    assert_non_null(strstr(message, ": line 2: a NUL byte: this is no text file"));
    assert_string_equal(seen, "|a|1;");
}

static enum status keep_line(void *owner, const struct ini_pair *pair, char *why, size_t size)
{
    unsigned long *lines = owner;
    (void)why;
    (void)size;
    lines[strtoul(pair->key, NULL, 10)] = pair->line;
    return STATUS_OK;
}

/* Else a complaint that comes later would send the operator to another line. */
static void test_pairs_know_their_line(void **state)
{
    (void)state;
    unsigned long lines[4] = { 0 };
    char path[64], message[500] = "";
    static const char text[] = "; c\n1 = a\n\n[s]\r\n2 = b\n3 = c";
    int fd = memfd_create("test_ini", MFD_CLOEXEC);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
    assert_int_equal(ini_read(path, keep_line, lines, message, sizeof message), STATUS_OK);
    assert_int_equal(lines[1], 2);
    assert_int_equal(lines[2], 5);
    assert_int_equal(lines[3], 6);
    close(fd);
}

static const struct {
    const char *key, *value;
    const char *separator;
} sayable[] = {
    { "a", "b", " = " },       { "a", "b;c", " = " }, { "a", "", "=" },           { "a", "b = c:d #e", " = " },
    { "a", ";b", "=" },        { "a", "b ;c", NULL }, { "a", "b\t;c", NULL },     { "a", "b\nc", NULL },
    { "a", "b\x1b[2J", NULL }, { "a", "\xe4", NULL }, { "a", "\xc3\xa4", " = " }, { "a", "b\tc", " = " },
    { "a", "\"b c\"", " = " },
};

/* Else a configuration that was written down would mean something else when it is read. */
static void test_separator_leads_back_to_the_value(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(sayable); i++) {
        char line[300], seen[2000], message[500], expected[400];
        const char *separator = ini_separator(sayable[i].key, sayable[i].value);
        if ((separator == NULL) != (sayable[i].separator == NULL) ||
            (separator != NULL && strcmp(separator, sayable[i].separator) != 0)) {
            fail_msg("%s: \"%s\"", sayable[i].value, separator);
        }
        if (separator != NULL) {
            snprintf(line, sizeof line, "%s%s%s ; from somewhere\n", sayable[i].key, separator, sayable[i].value);
            snprintf(expected, sizeof expected, "|%s|%s;", sayable[i].key, sayable[i].value);
            assert_int_equal(read_bytes(line, strlen(line), seen, message), STATUS_OK);
            assert_string_equal(seen, expected);
        }
    }
    char value[INI_LINE_MAX + 1] = "";
    memset(value, 'v', INI_LINE_MAX - 1);
    assert_null(ini_separator("a", value));
    value[INI_LINE_MAX - 2] = '\0';
    assert_string_equal(ini_separator("a", value), "=");
    value[INI_LINE_MAX - 4] = '\0';
    assert_string_equal(ini_separator("a", value), " = ");
}

static void test_no_file(void **state)
{
    (void)state;
    char seen[2000] = "", message[500];
    assert_int_equal(ini_read("/nonexistent/updraft.ini", gather, seen, message, sizeof message), STATUS_NOT_FOUND);
    assert_string_equal(message, "/nonexistent/updraft.ini: No such file or directory");
    assert_int_equal(ini_read("/", gather, seen, message, sizeof message), STATUS_IO);
    assert_string_equal(message, "/: Is a directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_taken),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_reading_stops_at_the_first_refusal),
        cmocka_unit_test(test_line_length),
        cmocka_unit_test(test_nul_byte),
        cmocka_unit_test(test_pairs_know_their_line),
        cmocka_unit_test(test_separator_leads_back_to_the_value),
        cmocka_unit_test(test_no_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
