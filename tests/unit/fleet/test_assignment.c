/* Assignments: a line says what its device is to run, and a wrong line is refused with the reason, never half taken. */
#include "fleet/assignment.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])
#define TEXT_64         "0123456789012345678901234567890123456789012345678901234567890123"

static const struct assignment *find(const struct assignments *assignments, const char *text)
{
    struct mac mac;
    assert_true(mac_parse(slice_of(text), &mac));
    return assignments_find(assignments, &mac);
}

static const struct {
    const char *mac, *words;
    const char *type, *label;
} taken[] = {
    { "5C:CF:7F:B1:E0:42", "DOOR-7-g14f53a19", "", "DOOR-7-g14f53a19" },
    { "5C-CF-7F-B1-E0-42", "door 0.5.0", "door", "0.5.0" },
    { "5ccf7fb1e042", "door newest", "door", "" },
    { " 5C:CF:7F:B1:E0:42\t", " \tdoor \t 0.5.0 ", "door", "0.5.0" },
    { "5ccf.7fb1.e042", "newest", "", "newest" }, /* a label like any other: a type is what makes it a word of ours */
    { "5C:CF:7F:B1:E0:42", "newest newest", "newest", "" },
    { "5C:CF:7F:B1:E0:42", "door Newest", "door", "Newest" },
    { "5C:CF:7F:B1:E0:42", TEXT_64 " " TEXT_64, TEXT_64, TEXT_64 },
};

/* Else a device would run what nobody meant for it. */
static void test_taken(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(taken); i++) {
        struct assignments *assignments = assignments_new();
        const char *why = "";
        enum status status = assignments_add_line(assignments, slice_of(taken[i].mac), slice_of(taken[i].words), &why);
        if (status != STATUS_OK) {
            fail_msg("%s = %s: %s", taken[i].mac, taken[i].words, why);
        }
        const struct assignment *found = find(assignments, "5ccf7fb1e042"); /* however the line wrote it */
        assert_non_null(found);
        assert_string_equal(found->type, taken[i].type);
        assert_string_equal(found->label, taken[i].label);
        assert_int_equal(assignments_count(assignments), 1);
        assert_null(find(assignments, "5ccf7fb1e043"));
        assignments_free(assignments);
    }
}

static const struct {
    const char *mac, *words;
    enum status status;
    const char *why;
} refused[] = {
    { "door", "0.5.0", STATUS_INVALID, "the key is no MAC address such as 5C:CF:7F:B1:E0:42" },
    { "", "0.5.0", STATUS_INVALID, "the key is no MAC address such as 5C:CF:7F:B1:E0:42" },
    { "FF:FF:FF:FF:FF:FF", "0.5.0", STATUS_INVALID, "the key is no MAC address such as 5C:CF:7F:B1:E0:42" },
    { "5C:CF:7F:B1:E0:43", "", STATUS_INVALID,
      "give a label, or a type and a label or version; a comment begins with ;" },
    { "5C:CF:7F:B1:E0:43", " \t ", STATUS_INVALID,
      "give a label, or a type and a label or version; a comment begins with ;" },
    { "5C:CF:7F:B1:E0:43", "door 0.5.0 now", STATUS_INVALID,
      "give a label, or a type and a label or version; a comment begins with ;" },
    { "5C:CF:7F:B1:E0:43", TEXT_64 "x", STATUS_TOO_LONG, "a type or label has at most 64 characters" },
    { "5C:CF:7F:B1:E0:43", TEXT_64 "x 0.5.0", STATUS_TOO_LONG, "a type or label has at most 64 characters" },
    { "5C:CF:7F:B1:E0:43", "door " TEXT_64 "x", STATUS_TOO_LONG, "a type or label has at most 64 characters" },
    { "5ccf7fb1e042", "door 0.5.0", STATUS_BUSY, "this MAC is assigned already: delete one of the two lines" },
};

static void test_refused_lines_change_nothing(void **state)
{
    (void)state;
    const char *why = "";
    struct assignments *assignments = assignments_new();
    assert_int_equal(assignments_add_line(assignments, slice_of("5C:CF:7F:B1:E0:42"), slice_of("door 0.4.0"), &why),
                     STATUS_OK);
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        why = "";
        enum status status =
            assignments_add_line(assignments, slice_of(refused[i].mac), slice_of(refused[i].words), &why);
        if (status != refused[i].status || strcmp(why, refused[i].why) != 0) {
            fail_msg("%s = %s: %s, \"%s\"", refused[i].mac, refused[i].words, status_name(status), why);
        }
    }
    assert_int_equal(assignments_count(assignments), 1);
    assert_string_equal(find(assignments, "5ccf7fb1e042")->label, "0.4.0"); /* the first line stands */
    assignments_free(assignments);
}

/* Else a table of a whole fleet would lose devices, or mix them up. */
static void test_many(void **state)
{
    (void)state;
    enum { DEVICES = 20000 };
    char mac[MAC_TEXT_SIZE], label[32];
    const char *why;
    struct assignments *assignments = assignments_new();
    for (unsigned i = 1; i <= DEVICES; i++) {
        snprintf(mac, sizeof mac, "5ccf%08x", i);
        snprintf(label, sizeof label, "L%u", i);
        assert_int_equal(assignments_add_line(assignments, slice_of(mac), slice_of(label), &why), STATUS_OK);
    }
    assert_int_equal(assignments_count(assignments), DEVICES);
    for (unsigned i = 1; i <= DEVICES; i += 97) {
        snprintf(mac, sizeof mac, "5ccf%08x", i);
        snprintf(label, sizeof label, "L%u", i);
        assert_string_equal(find(assignments, mac)->label, label);
    }
    assignments_free(assignments);
}

/* --- a file ------------------------------------------------------------------------------------------------------ */

static enum status load(struct assignments *assignments, const char *text, char message[500])
{
    char path[64];
    int fd = memfd_create("test_assignment", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    message[0] = '\0';
    enum status status = assignments_load(assignments, path, message, 500);
    close(fd);
    return status;
}

static void test_file(void **state)
{
    (void)state;
    char message[500];
    struct assignments *assignments = assignments_new();
    assert_int_equal(load(assignments,
                          "; who is to run what\n[assign]\n5C:CF:7F:B1:E0:42 = door DOOR-7-g14f53a19 ; also back\n"
                          "5C:CF:7F:B1:E0:43 = door newest\n",
                          message),
                     STATUS_OK);
    assert_int_equal(assignments_count(assignments), 2);
    assert_string_equal(find(assignments, "5ccf7fb1e042")->label, "DOOR-7-g14f53a19");
    assert_string_equal(find(assignments, "5ccf7fb1e043")->type, "door");
    assignments_free(assignments);
}

static void gather(void *owner, const struct mac *mac, const struct assignment *assignment)
{
    char name[MAC_TEXT_SIZE], *seen = owner;
    mac_print(mac, name);
    size_t used = strlen(seen);
    snprintf(seen + used, 500 - used, "%s %s %s;", name, assignment->type, assignment->label);
}

/* Else those of one file could not be told from those of the next. */
static void test_each_in_order(void **state)
{
    (void)state;
    char seen[500] = "", message[500];
    struct assignments *assignments = assignments_new();
    assert_int_equal(load(assignments,
                          "[assign]\nFC:CF:7F:B1:E0:42 = b 1\n0C:CF:7F:B1:E0:42 = a\n"
                          "5C:CF:7F:B1:E0:42 = c newest\n",
                          message),
                     STATUS_OK);
    assignments_each(assignments, 2, gather, seen);
    assert_string_equal(seen, "fccf7fb1e042 b 1;0ccf7fb1e042  a;");
    assignments_each(assignments, 3, gather, seen);
    assert_non_null(strstr(seen, "5ccf7fb1e042 c ;"));
    seen[0] = '\0';
    assignments_each(assignments, 0, gather, seen);
    assert_string_equal(seen, "");
    assignments_free(assignments);
}

static const struct {
    const char *text;
    enum status status;
    const char *message; /* its end */
} files[] = {
    { "5C:CF:7F:B1:E0:42 = door newest\n", STATUS_INVALID, ": line 1: write [assign] above the first device" },
    { "[assign]\n[devices]\n5C:CF:7F:B1:E0:42 = door\n", STATUS_INVALID,
      ": line 3: [devices]: only the section [assign] belongs here" },
    { "[assign]\n\ndoor = 0.5.0\n", STATUS_INVALID,
      ": line 3: door: the key is no MAC address such as 5C:CF:7F:B1:E0:42" },
    { "[assign]\n5C:CF:7F:B1:E0:42 = a b c\n", STATUS_INVALID,
      ": line 2: 5C:CF:7F:B1:E0:42: give a label, or a type and a label or version; a comment begins with ;" },
    { "[assign]\n5C:CF:7F:B1:E0:42 = a\n5ccf7fb1e042 = b\n", STATUS_BUSY,
      ": line 3: 5ccf7fb1e042: this MAC is assigned already: delete one of the two lines" },
    { "[assign]\n5C:CF:7F:B1:E0:42: a\n", STATUS_INVALID, ": line 2: neither [section] nor key = value" },
};

/* Else the operator would have to search a fleet's table for the one wrong line. */
static void test_file_mistakes_are_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        char message[500];
        struct assignments *assignments = assignments_new();
        enum status status = load(assignments, files[i].text, message);
        const char *said = strchr(message, ':');
        if (status != files[i].status || said == NULL || strcmp(said, files[i].message) != 0) {
            fail_msg("file %zu: %s, \"%s\"", i, status_name(status), message);
        }
        assignments_free(assignments);
    }
    char message[500];
    struct assignments *assignments = assignments_new();
    assert_int_equal(assignments_load(assignments, "/nonexistent/assignments.ini", message, sizeof message),
                     STATUS_NOT_FOUND);
    assignments_free(assignments);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_taken),
        cmocka_unit_test(test_refused_lines_change_nothing),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_file_mistakes_are_named),
        cmocka_unit_test(test_each_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
