/* Any bytes as the configuration's file, and as a file of assignments: it is taken whole and printed as a file that
 * means the same, or refused with a line's number and a reason. */
#include "server/config.h"

#include "base/ini.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char path[64]; /* of a file in memory */
static int file = -1;

static void write_file(const void *bytes, size_t n)
{
    if (file < 0) {
        file = memfd_create("fuzz_config", MFD_CLOEXEC);
        snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    }
    int failed = ftruncate(file, 0);
    ssize_t written = pwrite(file, bytes, n, 0);
    assert(failed == 0 && written == (ssize_t)n);
    (void)failed;
    (void)written;
}

static void check_refusal(enum status status, const char *message)
{
    static const char flag[] = "--config "; /* whose file it was; assignments have none */
    message += strncmp(message, flag, sizeof flag - 1) == 0 ? sizeof flag - 1 : 0;
    /* Also where a value is wrong only beside others. */
    assert(status != STATUS_OK && strncmp(message, path, strlen(path)) == 0);
    assert(strncmp(message + strlen(path), ": line ", 7) == 0);
    for (; *message != '\0'; message++) {
        assert(*message == '\t' || (unsigned char)*message >= ' ');
    }
}

static enum status read_file(struct config *config)
{
    /* --state: else the file under test would say where a second one is read */
    char *argv[] = { (char[]){ "updraftd" }, (char[]){ "--config" },     path,
                     (char[]){ "--state" },  (char[]){ "/nonexistent" }, NULL };
    char message[600] = "";
    enum config_action action;
    enum status status = config_read(config, 5, argv, &action, message, sizeof message);
    assert(action == CONFIG_RUN);
    if (status != STATUS_OK) {
        check_refusal(status, message);
    }
    return status;
}

static char *print(const struct config *config)
{
    char *text = NULL;
    size_t n;
    FILE *to = open_memstream(&text, &n);
    assert(to != NULL);
    config_print(config, to);
    fclose(to);
    return text;
}

/* The values alone: the sources differ. */
static void cut_sources(char *text)
{
    char *to = text;
    for (char *line = text, *next; *line != '\0'; line = next) {
        size_t n = strcspn(line, "\n");
        next = line + n + 1;
        line[n] = '\0';
        if (line[0] == ';') {
            continue; /* secrets have but a comment, which does not return */
        }
        char *source = strstr(line, " ; ");
        n = source != NULL ? (size_t)(source - line) : n;
        memmove(to, line, n);
        to += n;
        *to++ = '\n';
    }
    *to = '\0';
}

/* What a file said a line can say, and nothing printed does anything to a terminal. */
static void check_printed(const char *text)
{
    for (const char *line = text; *line != '\0'; line += strcspn(line, "\n") + 1) {
        const char *not_said = line[0] == ';' ? strstr(line, " is \"") : NULL;
        assert(not_said == NULL || not_said > line + strcspn(line, "\n"));
        for (size_t i = 0; line[i] != '\n'; i++) {
            assert(line[i] == '\t' || (unsigned char)line[i] >= ' ');
        }
    }
}

static void ignore_doubt(void *owner, bool is_mistake, const char *text)
{
    (void)owner;
    (void)is_mistake;
    assert(text[0] != '\0' && strchr(text, '\n') == NULL);
}

static void check_taken(const struct config *config)
{
    char *text = print(config);
    check_printed(text);
    config_doubts(config, ignore_doubt, NULL);
    assert(config->listen.count > 0 && config->listen.count <= CONFIG_LISTEN_MAX && config->repo[0] != '\0');
    assert(config->loop_guard_max >= 1 && config->head_timeout_ms >= 100 && config->log_level <= LOG_DEBUG);
    struct config again;
    write_file(text, strlen(text));
    enum status status = read_file(&again);
    assert(status == STATUS_OK);
    (void)status;
    assert(assignments_count(again.assignments) == assignments_count(config->assignments));
    char *second = print(&again);
    cut_sources(text);
    cut_sources(second);
    assert(strcmp(text, second) == 0);
    free(second);
    config_close(&again);
    free(text);
}

static void load_assignments(void)
{
    char message[600] = "";
    struct assignments *assignments = assignments_new();
    enum status status = assignments_load(assignments, path, message, sizeof message);
    if (status != STATUS_OK) {
        check_refusal(status, message);
    }
    assignments_free(assignments);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config config;
    write_file(data, size);
    load_assignments();
    if (read_file(&config) == STATUS_OK) {
        check_taken(&config);
    }
    config_close(&config);
    return 0;
}
