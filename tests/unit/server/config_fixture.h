/* What the tests of the configuration share: each runs in an empty folder of its own, without any variable of ours, so
 * that ./state and ./firmware are not somebody's; and asks for a configuration by a line of arguments. */
#ifndef TESTS_UNIT_SERVER_CONFIG_FIXTURE_H
#define TESTS_UNIT_SERVER_CONFIG_FIXTURE_H

#include "server/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])
#define ARGS_MAX        200

extern char **environ;

static char folder[] = "/tmp/test_config.XXXXXX";

static inline void forget_variables(void)
{
    char name[100];
    for (size_t i = 0; environ[i] != NULL;) {
        size_t n = strcspn(environ[i], "=");
        if (strncmp(environ[i], "UPDRAFT_", 8) == 0 && n < sizeof name) {
            memcpy(name, environ[i], n);
            name[n] = '\0';
            unsetenv(name);
        } else {
            i++;
        }
    }
}

static inline int set_up(void **state)
{
    (void)state;
    forget_variables();
    strcpy(folder + strlen(folder) - 6, "XXXXXX");
    return mkdtemp(folder) == NULL || chdir(folder) != 0 ? -1 : 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    forget_variables();
    unlink("u.ini");
    unlink("v.ini");
    unlink("secret");
    unlink("state/assignments.ini");
    rmdir("state");
    return chdir("/") != 0 || rmdir(folder) != 0 ? -1 : 0;
}

static inline void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

struct reading {
    struct config config;
    enum config_action action;
    enum status status;
    char message[1000];
};

/* Arguments in one text, separated by blanks. */
static inline void read_args(struct reading *reading, const char *args)
{
    static char copy[4000];
    char *argv[ARGS_MAX] = { (char[]){ "updraftd" } };
    int argc = 1;
    assert_true(strlen(args) < sizeof copy);
    strcpy(copy, args);
    for (char *arg = strtok(copy, " "); arg != NULL; arg = strtok(NULL, " ")) {
        assert_true(argc + 1 < ARGS_MAX);
        argv[argc++] = arg;
    }
    memset(reading, 0x5a, sizeof *reading);
    reading->message[0] = '\0';
    reading->status =
        config_read(&reading->config, argc, argv, &reading->action, reading->message, sizeof reading->message);
    assert_true((reading->status == STATUS_OK) == (reading->message[0] == '\0') ||
                strstr(reading->message, "assignments.ini") != NULL);
}

static inline void assert_reads(struct reading *reading, const char *args)
{
    read_args(reading, args);
    if (reading->status != STATUS_OK) {
        fail_msg("%s: %s", args, reading->message);
    }
}

/* What config_print says, to be freed. */
static inline char *printed(const struct config *config)
{
    char *text = NULL;
    size_t n = 0;
    FILE *file = open_memstream(&text, &n);
    assert_non_null(file);
    config_print(config, file);
    assert_int_equal(fclose(file), 0);
    return text;
}

static inline void assert_prints(const struct config *config, const char *line)
{
    char *text = printed(config);
    if (strstr(text, line) == NULL) {
        fail_msg("\"%s\" is not in\n%s", line, text);
    }
    free(text);
}

static inline void assert_prints_not(const struct config *config, const char *piece)
{
    char *text = printed(config);
    if (strstr(text, piece) != NULL) {
        fail_msg("\"%s\" is in\n%s", piece, text);
    }
    free(text);
}

/* The printed lines without where each value came from. */
static inline char *printed_values(const struct config *config)
{
    char *text = printed(config), *to = text;
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        size_t n = strlen(line);
        char *source = strstr(line, " ; ");
        if (line[0] != ';' && source != NULL) {
            n = (size_t)(source - line);
        }
        memmove(to, line, n);
        to += n;
        *to++ = '\n';
    }
    *to = '\0';
    return text;
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

#endif
